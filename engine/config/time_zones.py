"""Time zones: names, and the instants at which local clocks are changed. Only the configuration knows zones; the core does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from engine.config.zone_names import zone_hint
from engine.core.times import EPOCH

DAY: Final = timedelta(days=1)

LAST_MS: Final = (datetime(9000, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
"""After this instant nothing changes any more: the dates that Python knows end soon after."""


@lru_cache(maxsize=1000)
def zone(name: str) -> ZoneInfo:
    """The time zone of a name such as `Europe/Berlin`; ValueError with a sentence when there is no such zone."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError(f"`{name[:60]}` is not a time zone such as Europe/Berlin or UTC{zone_hint(name)}") from None


def instant_at(at_ms: int) -> datetime:
    """Epoch milliseconds as a time in UTC."""
    return EPOCH + timedelta(milliseconds=at_ms)


def epoch_ms(instant: datetime) -> int:
    """Epoch milliseconds of a time, rounded up: nothing happens before its time."""
    return -((EPOCH - instant) // timedelta(milliseconds=1))


def clock_change(begin: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """The first instant after `begin` and at or before `end` (UTC) at which local clocks are changed; None when they stay."""
    before = begin.astimezone(zone).utcoffset()
    low = begin
    while low < end:
        high = min(low + DAY, end)
        if high.astimezone(zone).utcoffset() != before:
            while high - low > timedelta(milliseconds=1):
                middle = low + (high - low) / 2
                if middle.astimezone(zone).utcoffset() == before:
                    low = middle
                else:
                    high = middle
            return high.replace(microsecond=0)  # clocks are changed at whole seconds
        low = high
    return None
