"""Time intervals as people write them: weekly windows of local time, such as Monday to Friday from 08:00 to 18:00.

A window is about what a clock on the wall shows: an instant is inside when its local time of day is. So a window that begins
in an hour that is skipped begins at the first instant after it, and a window in an hour that comes twice is open both times.
Read `windows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final, TypeVar

from engine.config.time_zones import DAY, LAST_MS, clock_change, epoch_ms, instant_at, zone
from engine.core.rules import Calendar
from engine.core.times import FOREVER

T = TypeVar("T")
Dates = tuple[tuple[date, date], ...]

FIRST_DATE: Final = date(1970, 1, 1)
LAST_DATE: Final = date(2199, 12, 31)
"""Dates of windows: another one is a typing error."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY: Final = 24 * 60

SEARCHED_DAYS = 15
"""How far ahead the next change of a weekly window is searched for; beyond it the answer is "search again then"."""


def windows(entries: Sequence[Mapping[str, Any]]) -> Calendar:
    """The union of windows such as `{days: [mon-fri, sun], hours: "22:00-06:00", timezone: Europe/Berlin}`.

    The end of a window is excluded; `days` and `dates` name the day on which it begins, and both must allow it. Without `days` and
    `dates` every day, without `hours` the whole day, without `timezone` UTC. ValueError with a sentence when an entry cannot be read.
    """
    return _Windows([window(entry) for entry in entries])


def window(entry: Mapping[str, Any]) -> _Window:
    """One entry of `windows`; ValueError with a sentence that begins with the key."""
    if not {"days", "hours", "dates"} & entry.keys():
        raise ValueError('needs `days`, `hours` or `dates`; for every moment write hours: "00:00-24:00"')
    days = _keyed("days", lambda: _days(entry["days"])) if "days" in entry else frozenset(range(7))
    begin, end = _keyed("hours", lambda: _hours(entry["hours"])) if "hours" in entry else (0, MINUTES_A_DAY)
    dates = _keyed("dates", lambda: _dates(entry["dates"])) if "dates" in entry else None
    return _Window(days, begin, end, _keyed("timezone", lambda: zone(entry.get("timezone", "UTC"))), dates)


def _keyed(key: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _days(written: str | Sequence[str]) -> frozenset[int]:
    """Monday is 0."""
    found: set[int] = set()
    for text in (written,) if isinstance(written, str) else written:
        first, _, last = text.lower().partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS or text.endswith("-"):
            raise ValueError(
                f"`{text[:40]}` is not a day: write mon, tue, wed, thu, fri, sat, sun, or a range such as mon-fri"
            )
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    if not found:
        raise ValueError("is empty: leave the key out for every day")
    return frozenset(found)


def _dates(written: str | Sequence[str]) -> Dates:
    """Ranges of dates, both ends included, in order."""
    found = []
    for text in (written,) if isinstance(written, str) else written:
        first, separator, last = text.partition("/")
        begin = _date(first, text)
        end = _date(last, text) if separator else begin
        if end < begin:
            raise ValueError(f"`{text}` ends before it begins")
        found.append((begin, end))
    return tuple(sorted(found))


def _date(written: str, whole: str) -> date:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", written):
        try:
            found = date.fromisoformat(written)
        except ValueError:
            raise ValueError(f"`{whole[:40]}` contains a date that does not exist") from None
        if FIRST_DATE <= found <= LAST_DATE:
            return found
    raise ValueError(f"`{whole[:40]}` is not a date such as 2026-12-24, or a range such as 2026-12-24/2026-12-26")


def _hours(written: str) -> tuple[int, int]:
    """Minutes of the day at which a window begins and ends."""
    found = re.fullmatch(r"([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])", written)
    if found is None:
        raise ValueError(f'`{written[:40]}` is not a range of hours such as "22:00-06:00"')
    begin, end = (int(found.group(at)) * 60 + int(found.group(at + 1)) for at in (1, 3))
    if begin >= MINUTES_A_DAY or end > MINUTES_A_DAY:
        raise ValueError(f"`{written}` contains an hour that does not exist: use 00:00 to 24:00")
    if begin == end:
        raise ValueError(f'`{written}` ends when it begins: write "00:00-24:00" for the whole day')
    return begin, end


class _Window:
    """One weekly window; `begin` and `end` in minutes of the day, over midnight when the end comes first.

    `dates`: the only days on which it begins, beside `days`; None for all.
    """

    def __init__(self, days: frozenset[int], begin: int, end: int, zone: tzinfo, dates: Dates | None = None) -> None:
        self._days, self._begin, self._end, self._zone, self._dates = days, begin, end, zone, dates
        self._is_constant = len(days) == 7 and end - begin == MINUTES_A_DAY and dates is None

    def covers(self, at_ms: int) -> bool:
        wall = instant_at(at_ms).astimezone(self._zone)
        minute, today = wall.hour * 60 + wall.minute, wall.date()
        if self._begin < self._end:
            return self._begin <= minute < self._end and self._begins_on(today)
        return (minute >= self._begin and self._begins_on(today)) or (
            minute < self._end and self._begins_on(today - DAY)
        )

    def _begins_on(self, day: date) -> bool:
        return day.weekday() in self._days and (
            self._dates is None or any(first <= day <= last for first, last in self._dates)
        )

    def next_change_ms(self, at_ms: int) -> int:
        if self._is_constant:
            return FOREVER
        covered = self.covers(at_ms)
        today = instant_at(at_ms).astimezone(self._zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
        if self._dates is not None and not covered:
            begin = next((first for first, last in self._dates if last >= today.date() - DAY), None)
            if begin is None:
                return FOREVER
            if begin > today.date() + 3 * DAY:  # nothing changes before it, in any zone
                return epoch_ms(datetime(begin.year, begin.month, begin.day, tzinfo=UTC) - 2 * DAY)
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
            found |= {epoch_ms(wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)) for fold in (0, 1)}
        begin, end = (
            wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)
            for wall, fold in ((midnight, 0), (midnight + DAY, 1))
        )
        while (change := clock_change(begin, end, self._zone)) is not None:
            found.add(epoch_ms(change))
            begin = change
        return sorted(found)


class _Windows:
    """Several windows together. Caches the span of the last answer: a fleet asks about one instant many times."""

    def __init__(self, parts: Sequence[_Window]) -> None:
        self._parts = parts
        self._cached = (0, 0, False)

    def covers(self, at_ms: int) -> bool:
        """Is the instant inside one of the windows?"""
        if at_ms >= LAST_MS:
            return False
        begin, end, answer = self._cached
        if begin <= at_ms < end:
            return answer
        answer = any(part.covers(at_ms) for part in self._parts)
        self._cached = (at_ms, min((part.next_change_ms(at_ms) for part in self._parts), default=FOREVER), answer)
        return answer

    def next_change_ms(self, at_ms: int) -> int:
        """The first instant after `at_ms` at which `covers` may answer otherwise; `FOREVER` when it never does."""
        if at_ms >= LAST_MS:
            return FOREVER
        covered, change_ms = self.covers(at_ms), at_ms
        for _ in range(100):  # windows that touch hide each other's edges; the next call continues from there
            change_ms = min((part.next_change_ms(change_ms) for part in self._parts), default=FOREVER)
            if change_ms >= FOREVER or self.covers(change_ms) != covered:
                break
        return change_ms
