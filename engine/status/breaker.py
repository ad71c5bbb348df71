"""A breaker for whoever must not wait for a service that does not answer: after some failures in a row it is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
"""In a row, after which the service is left alone."""

FIRST_S, LONGEST_S = 5.0, 60.0
"""How long at first; twice as long after each try that fails, up to the second."""


class Breaker:
    """Closed while things go well; open after `FAILURES` in a row; then one caller at a time tries. Thread-safe.

    Whoever is told True by `may_try` says what came of it: `succeeded`, `failed`, or `untried` when nothing was asked after all.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_s = FIRST_S
        self._open_until_s: float | None = None
        self._is_tried = False

    def may_try(self) -> bool:
        """Is asking worth while now?"""
        with self._lock:
            if self._open_until_s is None:
                return True
            if self._is_tried or self._now_s() < self._open_until_s:
                return False
            self._is_tried = True
            return True

    def wait_s(self) -> float:
        """Seconds until somebody may try; 0.0 when closed or due."""
        with self._lock:
            return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s - self._now_s())

    def succeeded(self) -> None:
        """An answer came: closed."""
        with self._lock:
            self._failures, self._pause_s, self._open_until_s, self._is_tried = 0, FIRST_S, None, False

    def failed(self) -> None:
        """None came: the last of a row, or a try that failed, opens it, each time for longer."""
        with self._lock:
            self._failures += 1
            if self._open_until_s is not None and not self._is_tried:
                return  # began before it opened
            if self._failures >= FAILURES:
                self._open_until_s = self._now_s() + self._pause_s
                self._pause_s = min(self._pause_s * 2, LONGEST_S)
            self._is_tried = False

    def untried(self) -> None:
        """Nothing was asked: the next caller may try."""
        with self._lock:
            self._is_tried = False
