"""The blast-radius guard: when a rule decides more deliveries in a minute than anyone can want, the rest is held.

Every delivery counts, those that are held too, so a storm that goes on stays held: what comes after `limit` deliveries of the
minute before is held until the minute before has fewer. One summary leaves for each such stretch.
"""

from __future__ import annotations

from collections.abc import Iterable

MINUTE_MS = 60_000


class Burst:
    """One rule's deliveries of the last minute. A store keeps the arguments of `__init__`; one of no deliveries needs no row."""

    __slots__ = ("held", "is_told", "rule", "times", "total")

    def __init__(self, rule: str, times: Iterable[tuple[int, int]] = (), held: int = 0, is_told: bool = False) -> None:
        self.rule = rule
        self.times = [(at_ms, count) for at_ms, count in times]  # (instant, how many), ascending; bounded by the limit
        self.total = sum([count for _, count in self.times])
        self.held = held  # in the stretch going on
        self.is_told = is_told  # has its summary left?

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
            self.held, self.is_told = 0, False
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
