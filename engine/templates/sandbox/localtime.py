"""The filter `localtime`: `{{ occurred_at|localtime('Europe/Berlin', '%H:%M') }}`. There is no clock in it: it shows an instant that is given."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jinja2

from engine.config.time_zones import zone as time_zone
from engine.core.times import EPOCH
from engine.templates.sandbox.meter import LimitExceeded

MAX_PATTERN: Final = 100
"""Longest pattern, in characters."""

_DIRECTIVES: Final = frozenset("aAbBcdDeFGHIjmMnpPrRsSTuUVwWxXyYzZhfklt%")
"""What may follow a % in a pattern."""


def localtime(value: Any, zone: Any = "UTC", pattern: Any = "%Y-%m-%d %H:%M:%S") -> str:
    """An instant (as templates have it, or epoch milliseconds) as the clocks of a time zone show it; an empty one stays empty."""
    if value is None or value == "":
        return ""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise LimitExceeded(f"`localtime` takes a pattern of at most {MAX_PATTERN} characters, such as '%H:%M'")
    try:
        return _instant(value).astimezone(time_zone(str(zone))).strftime(check_pattern(pattern))
    except (ValueError, TypeError, OverflowError) as error:
        raise jinja2.TemplateRuntimeError(f"`localtime`: {error}") from error


def _instant(value: Any) -> datetime:
    if isinstance(value, (int, float)):
        return EPOCH + timedelta(milliseconds=value)
    found = datetime.fromisoformat(str(value))
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def check_pattern(pattern: str) -> str:
    """The pattern; ValueError for what asks the C library for more than a field, such as a width of a billion."""
    for found in re.finditer(r"%(.?)", pattern, re.DOTALL):
        if found[1] == "%" or found[1] in _DIRECTIVES:
            continue
        raise ValueError(
            f"`{found[0]}` is not a part of a date or a time; use %Y-%m-%d %H:%M:%S, %a, %b, %Z and the like"
        )
    return pattern.encode("utf-8", "replace").decode()
