"""Instants and durations on pages: UTC in the text, the instant in an attribute, so that a script can show local time. Pure.

Durations are coarse: a page that is open is sent again when its text changes, and seconds of an outage help nobody.
"""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup, escape

from engine.core.times import rfc3339

_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def age(seconds: float | None) -> str:
    """Seconds as a duration of at most two units: `2 h 5 min`. None, not known, is a dash."""
    if seconds is None:
        return "–"
    left, parts = int(seconds), list[str]()
    for unit_s, word in _UNITS:
        count, left = divmod(left, unit_s)
        if count or parts:
            parts.append(f"{count} {word}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "less than 1 min"


def time_element(value: str | int | None) -> Markup | str:
    """An instant (RFC 3339, or epoch milliseconds) as an element with the time of day in UTC. None, not known, is a dash."""
    if value is None:
        return "–"
    text = rfc3339(value) if isinstance(value, int) else value
    return Markup('<time datetime="{}">{} {} UTC</time>').format(text, text[:10], text[11:19])


def with_times(text: str) -> Markup:
    """A sentence, escaped, whose instants (RFC 3339) are elements as `time_element` makes them."""
    parts = _INSTANT.split(text)
    return Markup("").join(time_element(part) if at % 2 else escape(part) for at, part in enumerate(parts))


def since(value: str | None, seconds: float | None) -> Markup | str:
    """Since when something lasts, and for how long: `since 03:12:05, 14 min`."""
    if value is None:
        return "–"
    return Markup("since {}, {}").format(time_element(value), age(seconds))
