"""A circuit breaker: when calls to a service fail again and again, call it less, and find out when it is back. Pure.

    closed ──failures in a row──► open ──pause over──► one probe ──succeeds──► closed
                                    ▲                      │
                                    └── fails: a longer pause

Failures open it after `BreakerLimits.failures` in a row, or after fewer when they are lasting: somebody has to mend something
(a wrong key, say). One lasting failure alone does not, because it may concern its client only. Read `Breaker.next_call_ms`,
`call_started` and `failed`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerLimits:
    """When a breaker opens, and how long it pauses: `first_pause_ms`, then twice as long after each failed probe."""

    failures: int  # in a row
    lasting_failures: int  # in a row
    first_pause_ms: int
    longest_pause_ms: int
    hopeless_probes: int = 2  # failed probes after which a lasting failure will not end by itself


class Breaker:
    """Decides whether a service is called. Instants are milliseconds of any one clock. Not safe between threads."""

    def __init__(self, limits: BreakerLimits) -> None:
        self.problem: str | None = None  # why it is open: a sentence of the caller's
        self.is_lasting = False  # is the failure that keeps it open a lasting one?
        self.opened_at_ms = 0
        self.failed_at_ms = 0  # when the newest failure was reported
        self.retry_at_ms = 0  # when the next probe may start
        self.is_probing = False  # is a probe under way?
        self._limits = limits
        self._pause_ms = 0
        self._failures = 0  # in a row
        self._lasting_failures = 0  # in a row
        self._failed_probes = 0  # since it opened

    @property
    def failures(self) -> int:
        """Failures in a row, up to now."""
        return self._failures

    @property
    def is_open(self) -> bool:
        """Do calls fail at present?"""
        return self.problem is not None

    @property
    def is_hopeless(self) -> bool:
        """Will calls fail until somebody mends something?"""
        return self.is_open and self.is_lasting and self._failed_probes >= self._limits.hopeless_probes

    def next_call_ms(self, now_ms: int) -> int | None:
        """When the next call may start: now or later. None: not before the probe under way has ended."""
        if self.problem is None:
            return now_ms
        return None if self.is_probing else max(now_ms, self.retry_at_ms)

    def call_started(self) -> bool:
        """A call starts. Returns whether it is a probe, as every call is while the breaker is open."""
        self.is_probing = self.is_open
        return self.is_probing

    def succeeded(self) -> bool:
        """A call succeeded. Returns whether that closed the breaker."""
        was_open = self.is_open
        self.problem, self.is_lasting, self.is_probing = None, False, False
        self._failures = self._lasting_failures = self._failed_probes = self._pause_ms = 0
        return was_open

    def failed(self, problem: str, now_ms: int, *, lasting: bool = False, probe: bool) -> bool:
        """A call failed. Returns whether that opened the breaker.

        `problem`: why, in words; `lasting`: it will fail until somebody mends something; `probe`: what `call_started` returned.
        A call that started before the breaker opened and fails afterwards says nothing new.
        """
        self._failures += 1
        self._lasting_failures = self._lasting_failures + 1 if lasting else 0
        self.failed_at_ms = now_ms
        if self.is_open:
            if probe:
                self._failed_probes += 1
                self._pause(problem, lasting, now_ms)
            return False
        limits = self._limits
        if self._failures < limits.failures and self._lasting_failures < limits.lasting_failures:
            return False
        self.opened_at_ms = now_ms
        self._pause(problem, lasting, now_ms)
        return True

    def shift(self, step_ms: int) -> None:
        """The clock whose instants these are was set: a pause lasts as long as before."""
        self.opened_at_ms += step_ms
        self.failed_at_ms += step_ms
        self.retry_at_ms += step_ms

    def not_tried(self) -> None:
        """The probe ended without saying whether the service works (it was throttled, or never sent): another may start."""
        self.is_probing = False

    def _pause(self, problem: str, lasting: bool, now_ms: int) -> None:
        self.problem, self.is_lasting, self.is_probing = problem, lasting, False
        self._pause_ms = min(self._limits.longest_pause_ms, 2 * self._pause_ms or self._limits.first_pause_ms)
        self.retry_at_ms = now_ms + self._pause_ms
