"""Schedules: when the ticks of a rule with `trigger: schedule` are. Read `missed` for what happens after a pause."""

from __future__ import annotations

from engine.core.rules import Schedule
from engine.core.times import FOREVER

LATE_MS = 60_000
"""After a start, a tick that is younger than this is held as if nothing had happened: a restart is no pause."""

NOT_AGAIN_MS = 3 * 3_600_000
"""A clock that is put back by up to three hours passes ticks again that were held already: they are not held twice."""

LISTED = 1_000
"""Clients listed in one alert that is about many; `alert.count` says how many there are."""


class Tick:
    """How far a rule's schedule has come. A store keeps both fields."""

    __slots__ = ("at_ms", "rule")

    def __init__(self, rule: str, at_ms: int) -> None:
        self.rule = rule
        self.at_ms = at_ms  # the last tick that was held or passed over; at first, when the rule was first seen


def next_tick(schedule: Schedule, last_ms: int) -> int:
    """The tick after the last one, epoch ms; `FOREVER` when none comes."""
    return schedule.ticks.next_after(last_ms)


def missed(schedule: Schedule, last_ms: int, now_ms: int) -> tuple[bool, int]:
    """After a pause that ended at `now_ms`: is the rule to fire once now for all ticks that were missed, and which is the last tick after that."""
    if next_tick(schedule, last_ms) > now_ms - LATE_MS:
        return False, last_ms
    if schedule.catch_up == "skip":
        return False, now_ms - LATE_MS
    return True, now_ms


assert LATE_MS < FOREVER
