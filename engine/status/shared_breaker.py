"""A circuit breaker that several threads share, with a clock of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from engine.core.breaker import Breaker, BreakerLimits

LIMITS: Final = BreakerLimits(failures=3, lasting_failures=3, first_pause_ms=5_000, longest_pause_ms=60_000)
"""Opens after three failures in a row, whatever their kind: a caller's request must not wait for a service that is down."""


class SharedBreaker:
    """Decides whether a call is worth making now. Thread-safe.

    Whoever gets True from `may_call` reports the outcome: `succeeded`, `failed`, or `not_tried` when no call was made after all.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._breaker = Breaker(LIMITS)

    def may_call(self) -> bool:
        """Whether to call the service now: always while closed; while open, one probe when the pause is over."""
        with self._lock:
            now_ms = self._now_ms()
            if self._breaker.next_call_ms(now_ms) != now_ms:
                return False
            self._breaker.call_started()
            return True

    def wait_s(self) -> float:
        """Seconds until a probe may be sent; 0.0 when closed or due."""
        with self._lock:
            return max(0, self._breaker.retry_at_ms - self._now_ms()) / 1000 if self._breaker.is_open else 0.0

    def succeeded(self) -> None:
        """The call was answered."""
        with self._lock:
            self._breaker.succeeded()

    def failed(self, problem: str) -> None:
        """The call was not answered; `problem` says why."""
        with self._lock:
            self._breaker.failed(problem, self._now_ms(), probe=self._breaker.is_probing)

    def not_tried(self) -> None:
        """No call was made: the next caller may try."""
        with self._lock:
            self._breaker.not_tried()

    def _now_ms(self) -> int:
        return round(self._now_s() * 1000)
