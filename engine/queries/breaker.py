"""A circuit breaker for the status query: when asking fails again and again, ask less, and find out when it is well. Pure.

closed → open after `FAILURES` failures in a row, or `LASTING` that somebody has to mend; open → one probe when the pause is
over; the probe closes it, or opens it for longer. One lasting failure alone may be about its client: one that our key may not
ask about, say.
"""

from __future__ import annotations

from typing import Final

FAILURES: Final = 5
"""Failures in a row that open it: one is the network's, five are somebody's to mend."""
LASTING: Final = 3
"""Failures in a row that say that they last."""
HOPELESS_PROBES: Final = 2
"""Probes that failed alike, after which it is sure that somebody has to mend something first."""
FIRST_PAUSE_MS: Final = 2_000
LONGEST_PAUSE_MS: Final = 120_000


class Breaker:
    """Whether to ask. Not safe between threads."""

    def __init__(self) -> None:
        self.problem: str | None = None  # why it is open, in the provider's words
        self.lasting = False  # does its newest failure say that somebody has to mend something?
        self.opened_at_ms = 0
        self.failed_at_ms = 0  # the newest failure that it knows of
        self.retry_at_ms = 0  # when the next probe may leave
        self._pause_ms = 0
        self._failures = 0
        self._lasting = 0  # of them in a row
        self._probes = 0  # that failed since it opened
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Does asking fail at present?"""
        return self.problem is not None

    @property
    def is_hopeless(self) -> bool:
        """Will asking fail until somebody mends something?"""
        return self.is_open and self.lasting and self._probes >= HOPELESS_PROBES

    def room(self, now_ms: int) -> int | None:
        """When the next call may leave: now, later, or None: when the probe under way has come back."""
        if self.problem is None:
            return now_ms
        return None if self._probing else max(now_ms, self.retry_at_ms)

    def left(self) -> None:
        """A call leaves; while open, it is the probe."""
        self._probing = self.is_open

    def succeeded(self) -> bool:
        """A call was answered. Returns whether that closed it."""
        self._failures = self._lasting = self._probes = 0
        was_open, self.problem, self.lasting = self.is_open, None, False
        self._pause_ms, self._probing = 0, False
        return was_open

    def failed(self, problem: str, lasting: bool, now_ms: int, *, probe: bool) -> bool:
        """A call failed; `probe`: it left while open. Returns whether that opened it."""
        self._failures += 1
        self._lasting = self._lasting + 1 if lasting else 0
        self.failed_at_ms = now_ms
        if self.is_open:
            if probe:
                self._probes += 1
                self.problem, self.lasting = problem, lasting
                self._open(now_ms)
            return False
        if self._failures < FAILURES and self._lasting < LASTING:
            return False
        self.problem, self.lasting, self.opened_at_ms = problem, lasting, now_ms
        self._open(now_ms)
        return True

    def came_back(self) -> None:
        """The probe came back without saying anything about it: throttled, say."""
        self._probing = False

    def _open(self, now_ms: int) -> None:
        self._pause_ms = min(LONGEST_PAUSE_MS, 2 * self._pause_ms or FIRST_PAUSE_MS)
        self.retry_at_ms = now_ms + self._pause_ms
        self._probing = False
