"""Durations and instants as people write and read them.

A duration is text such as `500ms`, `30s`, `5m`, `2h`, `7d`, or several of these together, largest first (`6m2s`); inside
the engine it is an integer of milliseconds. An instant is epoch milliseconds inside and RFC 3339 outside.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from engine.core.times import DURATION_UNITS, EPOCH, duration_text, rfc3339

__all__ = ["DURATION_HINT", "parse_duration", "parse_rfc3339", "rfc3339"]

MAX_DURATION_MS = 3650 * 86_400_000
"""Ten years: a longer duration is a typing error."""

DURATION_HINT = "a duration such as 500ms, 30s, 5m, 2h or 6m2s"

_DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?!s))?(?:([0-9]{1,9})s)?(?:([0-9]{1,12})ms)?"
)


def parse_duration(text: str) -> int:
    """Milliseconds of a duration as people write it. Raises `ValueError` with a sentence when it is not one."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"must be {DURATION_HINT}, not `{text[:40]}`")
    total = sum(int(count) * unit for count, (_, unit) in zip(found.groups(), DURATION_UNITS, strict=True) if count)
    if total > MAX_DURATION_MS:
        raise ValueError(f"`{text[:40]}` is longer than ten years")
    return total


_WORDS = {
    "ms": ("milli", "msec", "millis", "millisecond", "milliseconds"),
    "s": ("sec", "secs", "second", "seconds"),
    "m": ("min", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
}
_UNIT_OF = {word: unit for unit, words in _WORDS.items() for word in (unit, *words)}


def duration_hint(value: object) -> str:
    """What to write instead of something that is no duration, such as `; write 30s`; "" when nobody can say what is meant."""
    if isinstance(value, bool | dict | list) or value is None:
        return ""
    text = re.sub(r"[\s_,]", "", str(value).lower())
    if text.startswith("-"):
        return "; it must not be negative"
    if re.fullmatch(r"[0-9]{1,9}", text):
        return f"; it has no unit: write {text}s for seconds"
    if re.fullmatch(r"p[0-9dhmst]+", text):  # ISO 8601
        text = text[1:].replace("t", "", 1)
    fraction = re.fullmatch(r"([0-9]{1,6}\.[0-9]{1,3})([a-z]*)", text)
    if fraction is not None and (unit := _UNIT_OF.get(fraction[2] or "s")) is not None:
        return f"; write whole numbers: {duration_text(round(float(fraction[1]) * dict(DURATION_UNITS)[unit]))}"
    parts = re.findall(r"([0-9]{1,9})([a-z]+)", text)
    counts = {_UNIT_OF[word]: count for count, word in parts if word in _UNIT_OF}
    written = "".join(count + word for count, word in parts)
    if parts and len(counts) == len(parts):
        if written == text:
            return f"; write {''.join(counts[unit] + unit for unit, _ in DURATION_UNITS if unit in counts)}"
        if re.fullmatch(re.escape(written) + "[0-9]+", text):
            return "; its last number has no unit"
    return ""


def parse_rfc3339(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 instant (`Z` or an offset is required). Raises `ValueError` with a sentence."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"must be an instant such as 2026-01-01T00:00:05Z, with Z or an offset, not `{text[:40]}`")
    try:
        return (instant.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)
    except OverflowError:
        raise ValueError(f"`{text[:40]}` is outside the years 1 to 9999") from None
