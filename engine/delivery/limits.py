"""What the dispatcher may do at most, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.breaker import BreakerLimits
from engine.core.delivery import (
    DEFAULT_POLICY,
    Answer,
    Delivered,
    DeliveryPolicy,
    Expired,
    Rejected,
    RetryLater,
    Untried,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is allowed at most. Times are in the unit their name ends with."""

    held: int = 5_000  # deliveries in memory
    per_target: int = 16  # requests to one target at a time
    fetched: int = 1_000  # deliveries of one target taken from the outbox at once
    recorded: int = 1_000  # outcomes written at once
    failures_to_open: int = 5  # in a row, until a target is paused
    open_first_ms: int = 1_000
    open_longest_ms: int = 60_000
    drain_s: float = 5.0  # for requests in progress when stopping
    policy: DeliveryPolicy = DEFAULT_POLICY

    def breaker(self) -> BreakerLimits:
        """The same for one target's breaker."""
        return BreakerLimits(
            failures=self.failures_to_open,
            lasting_failures=self.failures_to_open,
            first_pause_ms=self.open_first_ms,
            longest_pause_ms=self.open_longest_ms,
        )


DEFAULT_LIMITS = Limits()


@dataclass(slots=True, kw_only=True)
class DispatcherStats:
    """Counts since the start, and what is held now."""

    sent: int = 0
    delivered: int = 0
    retried: int = 0
    rejected: int = 0
    expired: int = 0
    opened: int = 0  # times that a breaker opened, also for longer
    held: int = 0
    in_flight: int = 0
    store_errors: int = 0

    def count(self, answer: Answer | Expired | Untried) -> None:
        """Count a recorded answer."""
        self.delivered += isinstance(answer, Delivered)
        self.retried += isinstance(answer, RetryLater)
        self.rejected += isinstance(answer, Rejected)
        self.expired += isinstance(answer, Expired)
