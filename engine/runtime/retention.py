"""Until when history is kept, in a way that a wrong clock cannot empty it. Read `Retention`."""

from __future__ import annotations

from engine.clock import SteadyClock
from engine.stores.base import Store

TRUSTED_AT = "trusted_at"
"""Remembered value: how far time has certainly come, epoch milliseconds."""


class Retention:
    """How far time has certainly come: what the broker's newest event was dated, and what has passed while we ran.

    A wall clock that is years ahead is not believed as long as the broker does not say the same, so nothing is dropped that is
    younger than it should be. One that is behind holds everything back until it is set. Used inside the writer's transactions.
    """

    def __init__(self, store: Store, steady: SteadyClock, keep_ms: int) -> None:
        self._store, self._steady, self.keep_ms = store, steady, keep_ms
        self._looked_at_ms = steady.now_ms()
        self._heard_ms = 0
        self.trusted_ms = int(store.meta(TRUSTED_AT) or 0)  # 0: a new store, or one of an earlier version

    def heard(self, occurred_at_ms: int) -> None:
        """An event was accepted."""
        self._heard_ms = max(self._heard_ms, occurred_at_ms)

    def certain_ms(self, now_ms: int) -> int:
        """How far time has certainly come, at most to `now_ms`."""
        steady_ms = self._steady.now_ms()
        passed_ms, self._looked_at_ms = steady_ms - self._looked_at_ms, steady_ms
        trusted_ms = self.trusted_ms + passed_ms if self.trusted_ms else now_ms
        self.trusted_ms = min(now_ms, max(trusted_ms, self._heard_ms))
        self._heard_ms = 0
        return self.trusted_ms

    def before_ms(self, now_ms: int) -> int:
        """What ended before this instant is dropped."""
        certain_ms = self.certain_ms(now_ms)
        self._store.write_meta(TRUSTED_AT, str(certain_ms))
        return certain_ms - self.keep_ms

    def step(self, now_ms: int) -> None:
        """The wall clock was set and shows `now_ms`: time has not come further than that."""
        self.trusted_ms = min(self.trusted_ms, now_ms)
        self._heard_ms = min(self._heard_ms, now_ms)
