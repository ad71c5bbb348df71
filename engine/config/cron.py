"""Recurring instants as people write them: cron expressions, and fixed intervals.

When clocks are changed, a cron expression does what cron daemons do. An expression for every hour (`*`, `*/2`) follows the
clock on the wall: it ticks twice in an hour that comes twice, and never in an hour that is skipped. An expression that names
its hours ticks once in an hour that comes twice, and at the first instant after an hour that is skipped.
Read `cron` and `every`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from apscheduler.triggers.cron import CronTrigger

from engine.config.time_intervals import WEEKDAYS
from engine.config.time_zones import DAY, LAST_MS, clock_change, epoch_ms, instant_at, zone
from engine.core.rules import Ticks
from engine.core.times import FOREVER

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def cron(expression: str, timezone: str = "UTC") -> Ticks:
    """The ticks of `minute hour day-of-month month day-of-week`, 0 and 7 being Sunday. ValueError with a sentence."""
    return _Cron(expression, zone(timezone))


def every(interval_ms: int, anchor_ms: int = 0) -> Ticks:
    """Ticks at `anchor_ms` and every `interval_ms` before and after it. ValueError unless the interval is longer than 0."""
    if interval_ms <= 0:
        raise ValueError("must be longer than 0")
    return _Every(interval_ms, anchor_ms)


_CRON_FIELDS: Final = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, ("sun", *WEEKDAYS[:6])),
)


def _cron_field(text: str, field: str, low: int, high: int, names: Sequence[str]) -> set[int]:
    """The values that one field of a cron expression names."""
    is_weekday = high == 7
    found: set[int] = set()
    for item in text.lower().split(","):
        parts = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([0-9]{1,4}))?", item, re.ASCII)
        if parts is None:
            raise ValueError(f"`{item[:40]}` is not a valid {field}: write *, 5, 1-5, */10 or a list of these")
        last_of_all = high - 1 if is_weekday else high
        first = low if parts[1] is None else _cron_value(parts[1], field, low, high, names)
        if parts[2] is not None:
            last = _cron_value(parts[2], field, low, high, names)
        else:
            last = first if parts[1] is not None and parts[3] is None else max(first, last_of_all)
        if last < first and is_weekday:
            last += 7  # fri-mon goes over the week's end
        if last < first:
            raise ValueError(f"`{item[:40]}` ends before it begins: write two ranges such as 22-23,0-5")
        step = 1 if parts[3] is None else int(parts[3])
        if step == 0:
            raise ValueError(f"`{item[:40]}` has a step of 0")
        found |= set(range(first, last + 1, step))
    return {value % 7 for value in found} if is_weekday else found


def _cron_value(text: str, field: str, low: int, high: int, names: Sequence[str]) -> int:
    if text in names:
        return low + names.index(text)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(
            f"`{text[:40]}` is not a valid {field}: {f'{names[0]} to {names[-1]}, ' if names else ''}{low} to {high}"
        )
    return int(text)


class _Cron:
    """Ticks of a cron expression. Wall times come from APScheduler, as if clocks were never changed; the module says what a change does."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        fields = expression.split()
        if len(fields) != len(_CRON_FIELDS):
            raise ValueError(
                f"`{expression[:60]}` has {len(fields)} fields, not 5: minute, hour, day of month, month, day of week"
            )
        if not fields[2].startswith("*") and not fields[4].startswith("*"):
            raise ValueError(
                f"`{expression[:60]}` names days of the month and days of the week, and programs disagree whether either or "
                "both must match: name only one of them"
            )
        minute, hour, day, month, weekday = (
            _cron_field(text, *field) for text, field in zip(fields, _CRON_FIELDS, strict=True)
        )
        self._zone = zone
        self._is_hourly = fields[1].startswith("*") or len(hour) == 24
        self._trigger = CronTrigger(
            minute=_listed(minute),
            hour=_listed(hour),
            day=_listed(day),
            month=_listed(month),
            day_of_week=",".join(("sun", *WEEKDAYS[:6])[value] for value in sorted(weekday)),
            timezone=UTC,
        )
        if not any(number <= (29 if at == 2 else 30 if at in {4, 6, 9, 11} else 31) for at in month for number in day):
            raise ValueError(f"`{expression[:60]}` never happens: no such month has that day")

    def next_after(self, at_ms: int) -> int:
        """The first tick after `at_ms`; `FOREVER` when none comes.

        1. While clocks stay as they are, the next tick is the next wall time that the expression names.
        2. If clocks are changed before it, go on from there: named hours that were skipped tick at the change itself.
        3. After clocks were put back, named hours do not tick until the wall shows what it has not shown before.
        """
        if at_ms >= LAST_MS:
            return FOREVER
        now = instant_at(at_ms)
        after = now.astimezone(self._zone).replace(tzinfo=None)
        if not self._is_hourly and (shown := self._shown_before(now)) is not None:
            after = max(after, shown)
        while True:
            offset = now.astimezone(self._zone).utcoffset() or timedelta()
            wall = self._next_wall(after)
            if wall is None:
                return FOREVER
            tick = (wall - offset).replace(tzinfo=UTC)
            change = clock_change(now, tick, self._zone)
            if change is None:
                return epoch_ms(tick)
            offset_after = change.astimezone(self._zone).utcoffset() or timedelta()
            left, entered = ((change + by).replace(tzinfo=None) for by in (offset, offset_after))
            if not self._is_hourly and wall < entered:
                return epoch_ms(change)
            now = change
            # The wall's first instant after the change counts itself; where it was put back, only what is new.
            after = (entered if self._is_hourly else max(left, entered)) - timedelta(microseconds=1)

    def _next_wall(self, after: datetime) -> datetime | None:
        begin = (after + timedelta(microseconds=1)).replace(tzinfo=UTC)
        found: datetime | None = self._trigger.get_next_fire_time(None, begin)
        return None if found is None else found.replace(tzinfo=None)

    def _shown_before(self, now: datetime) -> datetime | None:
        """The end of the wall times that come a second time around `now`; None when there are none."""
        change = clock_change(now - DAY, now, self._zone)
        if change is None:
            return None
        before = (change - timedelta(milliseconds=1)).astimezone(self._zone).utcoffset() or timedelta()
        return (change + before).replace(tzinfo=None) - timedelta(microseconds=1)


def _listed(values: set[int]) -> str:
    return ",".join(str(value) for value in sorted(values))


class _Every:
    """Ticks at equal distances."""

    def __init__(self, interval_ms: int, anchor_ms: int) -> None:
        self._interval_ms, self._anchor_ms = interval_ms, anchor_ms

    def next_after(self, at_ms: int) -> int:
        """The first tick after `at_ms`."""
        return at_ms + self._interval_ms - (at_ms - self._anchor_ms) % self._interval_ms
