"""Calendars and clocks as people write them: windows of local wall time, cron expressions, intervals.

Time zones live here and nowhere else; the core asks the values made here (`Calendar` and `Ticks` of `engine.core.rules`).

Windows are about what a clock on the wall shows: an instant is inside when its local time of day is. What follows: a
window that begins in an hour that is skipped begins at the first instant after it, and one in an hour that comes twice is
open both times.

Ticks of a cron expression follow what cron daemons do when clocks change: an expression for every hour (`*`, `*/2`) ticks as
the clock shows it, twice in an hour that comes twice and never in a skipped one; one with hours that are named ticks once
in a repeated hour, and at the first instant after a skipped one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from apscheduler.triggers.cron import CronTrigger

from engine.config.schema import did_you_mean
from engine.core.rules import Calendar, Ticks
from engine.core.times import EPOCH, FOREVER

T = TypeVar("T")

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

DAY: Final = timedelta(days=1)
MINUTES_A_DAY: Final = 24 * 60
LAST_MS: Final = (datetime(9000, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
"""Beyond this nothing changes any more: dates end soon after."""

SEARCHED_DAYS = 15
"""How far ahead a change of a weekly window is looked for; beyond it the answer is "look again then"."""


def windows(entries: Sequence[Mapping[str, Any]]) -> Calendar:
    """The times that entries such as `{days: [mon-fri, sun], hours: "22:00-06:00", timezone: Europe/Berlin}` name together.

    The end of a window is excluded; `days` name the day on which it begins. Without `days` every day, without `hours` the
    whole day, without `timezone` UTC. ValueError with a sentence when an entry cannot be read.
    """
    return _Windows([window(entry) for entry in entries])


def window(entry: Mapping[str, Any]) -> _Window:
    """One entry of `windows`; ValueError with a sentence that begins with the key."""
    if "days" not in entry and "hours" not in entry:
        raise ValueError('names neither `days` nor `hours`: write hours: "00:00-24:00" for all the time')
    days = _keyed("days", lambda: _days(entry["days"])) if "days" in entry else frozenset(range(7))
    begin, end = _keyed("hours", lambda: _hours(entry["hours"])) if "hours" in entry else (0, MINUTES_A_DAY)
    return _Window(days, begin, end, _keyed("timezone", lambda: zone(entry.get("timezone", "UTC"))))


def cron(expression: str, timezone: str = "UTC") -> Ticks:
    """The ticks of `minute hour day-of-month month day-of-week`, 0 and 7 being Sunday. ValueError with a sentence."""
    return _Cron(expression, zone(timezone))


def every(interval_ms: int, anchor_ms: int = 0) -> Ticks:
    """Ticks at `anchor_ms` and every `interval_ms` before and after it. ValueError unless the interval is longer than 0."""
    if interval_ms <= 0:
        raise ValueError("must be longer than 0")
    return _Every(interval_ms, anchor_ms)


@lru_cache(maxsize=1000)
def zone(name: str) -> ZoneInfo:
    """The time zone of a name such as `Europe/Berlin`; ValueError with a sentence when there is none."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError(
            f"`{name[:60]}` is no time zone, such as Europe/Berlin or UTC{did_you_mean(name, sorted(available_timezones()))}"
        ) from None


def _keyed(key: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _instant(at_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=at_ms)


def _ms(instant: datetime) -> int:
    """Epoch milliseconds, rounded up: nothing happens before its time."""
    return -((EPOCH - instant) // timedelta(milliseconds=1))


# Windows


def _days(written: str | Sequence[str]) -> frozenset[int]:
    """Monday is 0."""
    found: set[int] = set()
    for text in (written,) if isinstance(written, str) else written:
        first, _, last = text.lower().partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS or text.endswith("-"):
            raise ValueError(
                f"`{text[:40]}` is no day: write mon, tue, wed, thu, fri, sat, sun, or a range such as mon-fri"
            )
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    if not found:
        raise ValueError("is empty: leave it out for every day")
    return frozenset(found)


def _hours(written: str) -> tuple[int, int]:
    """Minutes of the day at which a window begins and ends."""
    found = re.fullmatch(r"([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])", written)
    if found is None:
        raise ValueError(f'`{written[:40]}` is no range of hours: write it as "22:00-06:00"')
    begin, end = (int(found.group(at)) * 60 + int(found.group(at + 1)) for at in (1, 3))
    if begin >= MINUTES_A_DAY or end > MINUTES_A_DAY:
        raise ValueError(f"`{written}` names an hour that no day has: from 00:00 to 24:00")
    if begin == end:
        raise ValueError(f'`{written}` ends where it begins: write "00:00-24:00" for the whole day')
    return begin, end


class _Window:
    """One weekly window; `begin` and `end` in minutes of the day, over midnight when the end comes first."""

    def __init__(self, days: frozenset[int], begin: int, end: int, zone: tzinfo) -> None:
        self._days, self._begin, self._end, self._zone = days, begin, end, zone
        self._is_constant = len(days) == 7 and end - begin == MINUTES_A_DAY

    def covers(self, at_ms: int) -> bool:
        wall = _instant(at_ms).astimezone(self._zone)
        minute, day = wall.hour * 60 + wall.minute, wall.weekday()
        if self._begin < self._end:
            return day in self._days and self._begin <= minute < self._end
        return (day in self._days and minute >= self._begin) or ((day - 1) % 7 in self._days and minute < self._end)

    def next_change_ms(self, at_ms: int) -> int:
        if self._is_constant:
            return FOREVER
        covered = self.covers(at_ms)
        today = _instant(at_ms).astimezone(self._zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
        for ahead in range(-1, SEARCHED_DAYS):
            for candidate in self._candidates(today + ahead * DAY):
                if candidate > at_ms and self.covers(candidate) != covered:
                    return candidate
        return at_ms + SEARCHED_DAYS * 86_400_000

    def _candidates(self, midnight: datetime) -> list[int]:
        """Every instant of a local day at which something could change: edges, both times, and when clocks are changed."""
        found = set()
        for minutes in (0, self._begin, self._end):
            wall = midnight + timedelta(minutes=minutes)
            found |= {_ms(wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)) for fold in (0, 1)}
        begin, end = (
            wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)
            for wall, fold in ((midnight, 0), (midnight + DAY, 1))
        )
        while (change := _clock_change(begin, end, self._zone)) is not None:
            found.add(_ms(change))
            begin = change
        return sorted(found)


class _Windows:
    """Several windows together. Remembers the stretch of the last answer: a fleet asks about one instant many times."""

    def __init__(self, parts: Sequence[_Window]) -> None:
        self._parts = parts
        self._known = (0, 0, False)

    def covers(self, at_ms: int) -> bool:
        """Is the instant inside one of the windows?"""
        if at_ms >= LAST_MS:
            return False
        begin, end, answer = self._known
        if begin <= at_ms < end:
            return answer
        answer = any(part.covers(at_ms) for part in self._parts)
        self._known = (at_ms, min((part.next_change_ms(at_ms) for part in self._parts), default=FOREVER), answer)
        return answer

    def next_change_ms(self, at_ms: int) -> int:
        """The first instant after `at_ms` at which `covers` may answer otherwise; `FOREVER` when it never does."""
        if at_ms >= LAST_MS:
            return FOREVER
        covered, change_ms = self.covers(at_ms), at_ms
        for _ in range(100):  # windows that touch hide each other's edges; whoever asks again goes on from there
            change_ms = min((part.next_change_ms(change_ms) for part in self._parts), default=FOREVER)
            if change_ms >= FOREVER or self.covers(change_ms) != covered:
                break
        return change_ms


def _clock_change(begin: datetime, end: datetime, zone: tzinfo) -> datetime | None:
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


# Ticks

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
            raise ValueError(f"`{item[:40]}` cannot be read as {field}: write *, 5, 1-5, */10 or a list of these")
        last_of_all = high - 1 if is_weekday else high
        first = low if parts[1] is None else _cron_value(parts[1], field, low, high, names)
        if parts[2] is not None:
            last = _cron_value(parts[2], field, low, high, names)
        else:
            last = first if parts[1] is not None and parts[3] is None else max(first, last_of_all)
        if last < first and is_weekday:
            last += 7  # fri-mon goes over the week's end
        if last < first:
            raise ValueError(f"`{item[:40]}` ends before it begins: write two ranges, such as 22-23,0-5")
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
            f"`{text[:40]}` is no {field}: {f'{names[0]} to {names[-1]}, ' if names else ''}{low} to {high}"
        )
    return int(text)


class _Cron:
    """Ticks of a cron expression. Wall times come from APScheduler, as if clocks were never changed; see the module."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        fields = expression.split()
        if len(fields) != len(_CRON_FIELDS):
            raise ValueError(
                f"`{expression[:60]}` has {len(fields)} fields, not 5: minute, hour, day of month, month, day of week"
            )
        if not fields[2].startswith("*") and not fields[4].startswith("*"):
            raise ValueError(
                f"`{expression[:60]}` names days of the month and of the week, which programs read in two ways (either, or "
                "both at once): name one of them"
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
            raise ValueError(f"`{expression[:60]}` never comes: no such month has that day")

    def next_after(self, at_ms: int) -> int:
        """The first tick after `at_ms`; `FOREVER` when none comes.

        1. While clocks stay as they are, the next tick is the next wall time that the expression names.
        2. If clocks are changed before it, go on from there: named hours that were skipped tick at the change itself.
        3. After clocks were put back, named hours do not tick until the wall shows what it has not shown before.
        """
        if at_ms >= LAST_MS:
            return FOREVER
        now = _instant(at_ms)
        after = now.astimezone(self._zone).replace(tzinfo=None)
        if not self._is_hourly and (shown := self._shown_before(now)) is not None:
            after = max(after, shown)
        while True:
            offset = now.astimezone(self._zone).utcoffset() or timedelta()
            wall = self._next_wall(after)
            if wall is None:
                return FOREVER
            tick = (wall - offset).replace(tzinfo=UTC)
            change = _clock_change(now, tick, self._zone)
            if change is None:
                return _ms(tick)
            offset_after = change.astimezone(self._zone).utcoffset() or timedelta()
            left, entered = ((change + by).replace(tzinfo=None) for by in (offset, offset_after))
            if not self._is_hourly and wall < entered:
                return _ms(change)
            now = change
            # The wall's first instant after the change counts itself; where it was put back, only what is new.
            after = (entered if self._is_hourly else max(left, entered)) - timedelta(microseconds=1)

    def _next_wall(self, after: datetime) -> datetime | None:
        begin = (after + timedelta(microseconds=1)).replace(tzinfo=UTC)
        found: datetime | None = self._trigger.get_next_fire_time(None, begin)
        return None if found is None else found.replace(tzinfo=None)

    def _shown_before(self, now: datetime) -> datetime | None:
        """The end of the wall times that come a second time around `now`; None when none do."""
        change = _clock_change(now - DAY, now, self._zone)
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
