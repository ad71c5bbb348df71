"""The seam that every action plugs into, and what a target may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The target took it."""

    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLater:
    """Not now: network trouble, 408, 425, 429, 5xx. `may_have_arrived` when an attempt may have been taken (a timeout)."""

    reason: str
    retry_after_ms: int | None = None
    may_have_arrived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Never: the target, or our own policy, refuses this delivery for good."""

    reason: str


Answer = Delivered | RetryLater | Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxItem:
    """One rendered delivery, due. `request` is what the renderer wrote, secrets still as markers."""

    id: int
    key: str  # deterministic; sent as Idempotency-Key
    rule: str
    lane: str  # deliveries of one lane leave in the order of their ids
    action: str  # webhook or log
    target: str  # scheme://host:port, or "log"
    request: Mapping[str, Any]
    attempts: int  # made before this one
    decided_at_ms: int
    phase: str  # firing or recovery
    alert: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attempt, for the store: the next state follows from `engine.core.delivery`."""

    id: int
    answer: Answer
    attempted_at_ms: int


class ActionSender(Protocol):
    """Carries out one kind of action."""

    async def send(self, item: OutboxItem) -> Answer:
        """Try once; bounded in time; never raises for what a target does."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
