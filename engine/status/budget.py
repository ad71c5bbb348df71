"""How fast we may ask: never more than `rate` calls in any sliding second as the service sees them. Read `Budget` first.

Why this holds. The service sees a call at some instant between its start and its end here, and nobody knows which. So a call
counts from its start until `HOLD_S` after its end, and a call starts only while fewer than `rate` count. Take any second and
the call in it that started last: every other call of that second had started before, and counts until more than a second
after it was seen, so it still counted when that last one started. There were at most `rate`.

Calls are also paced, `1 / rate` apart with a small burst, so that they do not come in lumps. At 300/s and 20 ms a call this
leaves nearly 98 % of the rate; a service that takes a second an answer gets half of it.
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
"""How long a call counts that got no answer: it may still be on its way to the service."""

STEP_S: Final = 1e-6
"""A wait below this is none: what clocks and their sums are rounded to."""

BURST: Final = 20
"""The share of a second, one in so many, whose calls may start together after a quiet time."""


class CallsRemembered(Protocol):
    """What remembers over restarts when the last call was; see `Ledger`."""

    def touch(self) -> None:
        """A call is made now."""
        ...

    def quiet_s(self) -> float:
        """Seconds to keep quiet because of calls made before this process."""
        ...


class Budget:
    """Shared by everybody who asks one service from here; thread-safe.

    `rate`: calls a second. `now_s`: a monotonic clock, seconds. Use: `reserve()` until it answers 0.0, or `take`; then make
    the one call; then, whatever came of it, `done`.
    """

    def __init__(
        self,
        rate: int,
        now_s: Callable[[], float] = time.monotonic,
        *,
        sleep: Callable[[float], None] = time.sleep,
        ledger: CallsRemembered | None = None,
    ) -> None:
        if rate < 1:
            raise ValueError("a budget has at least one call a second")
        self.rate = rate
        self._now_s = now_s
        self._sleep = sleep
        self._ledger = ledger
        self._lock = threading.Lock()
        self._spacing_s = 1 / rate
        self._burst_s = max(1, rate // BURST) * self._spacing_s
        self._running = 0
        self._ended: list[float] = []  # a heap: until when each call counts that has ended
        # The next start if calls came evenly; it lags behind now by the burst at most.
        self._next_s = now_s()
        self._quiet_until_s = self._next_s + (ledger.quiet_s() if ledger is not None else 0.0)

    def reserve(self) -> float:
        """0.0: a call may start now, and counts. Else the seconds after which asking again makes sense; somebody else may be first.

        Raises RollcallError when the ledger cannot be written.
        """
        with self._lock:
            now_s = self._now_s()
            wait_s = self._wait_s(now_s)
            if wait_s > STEP_S:
                return wait_s
            if self._ledger is not None:
                self._ledger.touch()
            self._running += 1
            self._next_s = max(self._next_s, now_s - self._burst_s) + self._spacing_s
            return 0.0

    def take(self, within_s: float) -> bool:
        """Wait for a call of our own, at most so long; was there one? False at once when it is known that there will not be."""
        until_s = self._now_s() + within_s
        while wait_s := self.reserve():
            if self._now_s() + wait_s > until_s:
                return False
            self._sleep(wait_s)
        return True

    def done(self, *, answered: bool = True) -> None:
        """A call has ended. `answered`: it was seen by the service, whatever it said; False after a timeout or a broken connection."""
        with self._lock:
            if self._running == 0:
                raise ValueError("more calls ended than were reserved")
            self._running -= 1
            heapq.heappush(self._ended, self._now_s() + (HOLD_S if answered else LOST_S))
            if self._ledger is not None:
                self._ledger.touch()

    def pause(self, seconds: float) -> None:
        """Nobody asks for so long: the service wants it."""
        with self._lock:
            self._quiet_until_s = max(self._quiet_until_s, self._now_s() + seconds)

    def counted(self) -> int:
        """Calls that count at this moment."""
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
