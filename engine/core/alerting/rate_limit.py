"""The limit `deliveries.burst`: when a rule decides more deliveries in a minute than anyone can want, the rest is held.

Every delivery counts, those that are held too, so a storm that goes on stays held: what comes after `limit` deliveries of the
minute before is held until the minute before has fewer. One summary leaves for each such stretch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.core.timers import RATE_LIMITS, NextWakeUp, TimerQueue

MINUTE_MS: Final = 60_000

DEFAULT_BURST: Final = 1_000
"""Deliveries that one rule may decide in a minute, when the configuration does not say."""


class Burst:
    """One rule's deliveries of the last minute. A store keeps the arguments of `__init__`; one of no deliveries needs no row."""

    __slots__ = ("held", "is_announced", "rule", "times", "total")

    def __init__(
        self, rule: str, times: Iterable[tuple[int, int]] = (), held: int = 0, is_announced: bool = False
    ) -> None:
        self.rule = rule
        self.times = [(at_ms, count) for at_ms, count in times]  # (instant, how many), ascending; bounded by the limit
        self.total = sum([count for _, count in self.times])
        self.held = held  # in the stretch going on
        self.is_announced = is_announced  # has its summary left?

    def take(self, at_ms: int, limit: int) -> bool:
        """One more is decided: is it to be held?"""
        times = self.times
        if times and times[0][0] <= at_ms - MINUTE_MS:
            self.fade(at_ms)
            times = self.times
        is_held = self.total >= limit
        if is_held:
            self.held += 1
            self._shift()
        elif self.held:
            self.held, self.is_announced = 0, False
        if times and times[-1][0] == at_ms:
            times[-1] = (at_ms, times[-1][1] + 1)
        else:
            times.append((at_ms, 1))
        self.total += 1
        return is_held

    def _shift(self) -> None:
        """Only the newest `limit` can matter: the oldest makes room."""
        first_ms, count = self.times[0]
        if count > 1:
            self.times[0] = (first_ms, count - 1)
        else:
            del self.times[0]
        self.total -= 1

    def fade(self, at_ms: int) -> bool:
        """Forget what is older than a minute; does nothing count any more?"""
        oldest = at_ms - MINUTE_MS
        old = 0
        for instant, count in self.times:
            if instant > oldest:
                break
            self.total -= count
            old += 1
        del self.times[:old]
        return not self.times


class RateLimits:
    """The bursts of all rules, and the timers of their summaries."""

    def __init__(self, limit: int, wake_up: NextWakeUp) -> None:
        """`limit`: deliveries of one rule in a minute, the rest is held; 0: no limit."""
        self.limit: Final = limit
        self.bursts: dict[str, Burst] = {}  # by rule
        self.timers: Final = TimerQueue(RATE_LIMITS, wake_up, _needs_summary)

    def of(self, rule: str) -> Burst | None:
        """The burst that the rule's deliveries count in; None without a limit."""
        if not self.limit:
            return None
        found = self.bursts.get(rule)
        if found is None:
            found = self.bursts[rule] = Burst(rule)
        return found

    def restore(self, bursts: Iterable[Burst]) -> None:
        """What a store kept of each rule's last minute."""
        self.bursts = {burst.rule: burst for burst in bursts}
        self.timers.clear()
        for burst in self.bursts.values():
            if _needs_summary(burst, 0):
                self.timers.push(burst.times[-1][0], burst)

    def step(self, step_ms: int) -> None:
        """The clock was set: what counts goes on counting for as long as before."""
        for burst in self.bursts.values():
            burst.times = [(at_ms + step_ms, count) for at_ms, count in burst.times]

    def purge(self, at_ms: int) -> list[Burst]:
        """Forget bursts in which nothing counts any more; returns those."""
        faded = [burst for burst in self.bursts.values() if burst.fade(at_ms)]
        for burst in faded:
            del self.bursts[burst.rule]
        return faded


def _needs_summary(burst: Burst, due_ms: int) -> bool:
    return burst.held > 0 and not burst.is_announced
