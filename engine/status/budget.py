"""How many calls may be made: never more than `rate` in any sliding second as the service sees them. Read `Budget` first.

Why this holds. The service sees a call at some instant between its start and its end here, and nobody knows which. So a call
counts from its start until `HOLD_S` after its end, and a call starts only while fewer than `rate` count. Take any second and
the call in it that started last: every other call of that second had started before, and counts until more than a second
after it was seen, so it still counted when that last one started. There were at most `rate`.

Calls are also paced, `1 / rate` apart with a small burst, so that they do not come in lumps. At 300/s and 20 ms a call this
leaves nearly 98 % of the rate; with a service that takes a second to answer, half of it.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

HOLD_S: Final = 1.002
"""How long a call counts after its end: a second, and a little more than any clock's step."""

LOST_S: Final = 5.0
"""How long an unanswered call counts after its end: it may still be on its way to the service."""

STEP_S: Final = 1e-6
"""Shorter waits count as none: clocks and their sums are rounded to this."""

BURST_SHARE: Final = 20
"""After a quiet time, one call in so many of a second's calls may start together."""


class LastCall(Protocol):
    """Remembers, over restarts, when the last call was made; see `LastCallFile`."""

    def touch(self) -> None:
        """A call is made now."""
        ...

    def quiet_s(self) -> float:
        """Seconds without calls that are needed because of the process before."""
        ...


class Budget:
    """Shared by all callers of one service in this process; thread-safe.

    `rate`: calls a second. `now_s`: a monotonic clock, seconds. Use: `reserve()` until it returns 0.0, or `take`; then make
    the one call; then, whatever its outcome, `done`.
    """

    def __init__(
        self,
        rate: int,
        now_s: Callable[[], float] = time.monotonic,
        *,
        sleep: Callable[[float], None] = time.sleep,
        last_call: LastCall | None = None,
    ) -> None:
        if rate < 1:
            raise ValueError(f"`rate` must be at least 1 call a second, not {rate}")
        self._now_s = now_s
        self._sleep = sleep
        self._last_call = last_call
        self._lock = threading.Lock()
        self._set_rate(rate)
        self._running = 0
        self._ended: list[float] = []  # a heap: until when each ended call counts
        # The next start if calls came evenly; it lags behind now by the burst at most.
        self._next_s = now_s()
        self._quiet_until_s = self._next_s + (last_call.quiet_s() if last_call is not None else 0.0)

    def _set_rate(self, rate: int) -> None:
        self.rate = rate
        self._spacing_s = 1 / max(1, rate)
        self._burst_s = max(1, rate // BURST_SHARE) * self._spacing_s

    def limit(self, rate: int) -> None:
        """From now on a call starts only while fewer than `rate` count; 0: none starts. More may count at first, see `counted`."""
        with self._lock:
            if rate != self.rate:
                self._set_rate(rate)

    def is_used_up(self) -> bool:
        """Does a call have to wait because as many count as may?"""
        with self._lock:
            self._forget(self._now_s())
            return self._running + len(self._ended) >= self.rate

    def reserve(self) -> float:
        """0.0: a call may start now, and counts. Otherwise the seconds until another try makes sense; others may be faster.

        Raises RollcallError when the last call cannot be written down.
        """
        with self._lock:
            now_s = self._now_s()
            wait_s = self._wait_s(now_s)
            if wait_s > STEP_S:
                return wait_s
            if self._last_call is not None:
                self._last_call.touch()
            self._running += 1
            self._next_s = max(self._next_s, now_s - self._burst_s) + self._spacing_s
            return 0.0

    def take(self, within_s: float) -> bool:
        """Wait for a call, at most so long. Returns whether there is one; False at once when the wait would be too long."""
        until_s = self._now_s() + within_s
        while wait_s := self.reserve():
            if self._now_s() + wait_s > until_s:
                return False
            self._sleep(wait_s)
        return True

    def done(self, *, answered: bool = True) -> None:
        """A call has ended. `answered`: the service has seen it, whatever it said; False after a timeout or a broken connection."""
        with self._lock:
            if self._running == 0:
                raise ValueError("more calls ended than were reserved")
            self._running -= 1
            heapq.heappush(self._ended, self._now_s() + (HOLD_S if answered else LOST_S))
            if self._last_call is not None:
                self._last_call.touch()

    def pause(self, seconds: float) -> None:
        """Start no call for so long: the service asked for it."""
        with self._lock:
            self._quiet_until_s = max(self._quiet_until_s, self._now_s() + seconds)

    def counted(self) -> int:
        """How many calls count at this moment."""
        with self._lock:
            self._forget(self._now_s())
            return self._running + len(self._ended)

    def _wait_s(self, now_s: float) -> float:
        self._forget(now_s)
        wait_s = max(self._quiet_until_s - now_s, self._next_s - now_s, 0.0)
        if self._running + len(self._ended) >= self.rate:
            wait_s = max(wait_s, self._ended[0] - now_s if self._ended else HOLD_S)
        return wait_s

    def _forget(self, now_s: float) -> None:
        while self._ended and self._ended[0] <= now_s + STEP_S:
            heapq.heappop(self._ended)
