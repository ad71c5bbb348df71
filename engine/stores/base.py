"""What the engine asks of a store, in the words of its own domain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from engine.core.delivery import OutboxItem, Outcome


class NewDelivery(NamedTuple):
    """One rendered delivery as it is decided. Instants are epoch milliseconds."""

    key: str  # deterministic: a key that the outbox has already is the same delivery
    rule: str
    client: str | None
    group_key: str | None  # JSON text, for deliveries about several clients or a source
    clients: Sequence[str] | None
    alert: str
    action: str  # webhook or log
    target: str  # scheme://host:port, or "log"
    lane: str  # rule, client or key, and target
    phase: str  # firing or recovery
    state: str  # due, held or shadow; dead when it could not be rendered
    decided_at_ms: int
    request: Mapping[str, Any] | str  # or its JSON text
    error: str | None = None  # why it is dead, or what the default body replaces


class Share(NamedTuple):
    """How much of one target's work is wanted: at most `limit` items, none of the ids in `holding`."""

    target: str
    limit: int
    holding: Collection[int]


class Waiting(NamedTuple):
    """What an outbox has to do: targets with something due now, and when (epoch ms) the next retry is due, if any."""

    targets: tuple[str, ...]
    next_due_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One delivery as people see it. Instants are epoch milliseconds."""

    id: int
    key: str
    rule: str
    client: str | None
    group_key: str | None  # JSON text
    clients: tuple[str, ...] | None
    alert: str
    action: str
    target: str
    state: str
    attempts: int
    due_at_ms: int  # of a due one: the next attempt; else when it came to its state
    last_error: str | None
    lane: str
    phase: str
    decided_at_ms: int
    request: Mapping[str, Any]


class Outbox(Protocol):
    """The dispatcher's side of the outbox. Raises StoreError when the store fails; the dispatcher asks again."""

    async def waiting(self, now_ms: int) -> Waiting:
        """Which targets have something to send at `now_ms`; reads what was committed before the call."""
        ...

    async def due(self, now_ms: int, shares: Sequence[Share]) -> Sequence[OutboxItem]:
        """What may leave at `now_ms`, a lane's earlier ones first; reads what was committed before the call."""
        ...

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of items; returns when that is committed."""
        ...
