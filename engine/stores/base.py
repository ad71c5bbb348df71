"""What the engine asks of a store, in the words of its own domain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from engine.core.alerting.stages.silence import Silence
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

    async def dead(self, ids: Sequence[int]) -> Sequence[DeliveryRow]:
        """Those of some deliveries that are dead; reads what was committed before the call."""
        ...


# What people ask


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert as people see it. Instants are epoch milliseconds."""

    id: str
    rule: str
    client: str | None
    source: str | None  # what it is about when it is about no client
    state: str
    reason: str | None
    started_at_ms: int
    resolved_at_ms: int | None
    key: str | None = None  # JSON of {name: value}, of outages and roll calls
    acknowledged_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """One event that could not be accepted. Instants are epoch milliseconds."""

    id: int
    received_at_ms: int
    source: str
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """How far a source was read when it was last committed. Instants are epoch milliseconds, None: not known."""

    position: str | None = None
    caught_up_to_ms: int | None = None
    last_event_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """Messages of a source that were never read and are gone. Bounds are epoch milliseconds, None: not known."""

    source: str
    noted_at_ms: int
    from_ms: int | None
    to_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One thing the history knows about a client: an event as it was accepted (`raw`), or what passing time brought (`fact`)."""

    position: int
    previous: int  # position of the client's entry before this one, 0: there is none
    at_ms: int  # when the engine learned of the event, or when the fact happened
    source: str  # who handed the event over
    raw: bytes | None = None
    fact: str | None = None  # settled, calmed, forgotten or answered
    answer: tuple[int, int, bool] | None = None  # of an answered one, see `core.step.Fact`
    client: str | None = None  # whom a fact is about; of an event, `raw` says it


class Tally(NamedTuple):
    """Clients of a sweep whose answer is final, and what it was."""

    asked: int = 0
    agreed: int = 0
    corrected: int = 0
    unknown: int = 0  # nobody could say, after all passes
    failed: int = 0  # nobody answered, after all passes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRow:
    """One sweep. Instants are epoch milliseconds; `finished_at_ms` None: it goes on."""

    id: int
    why: str  # schedule, operator, gap, restart or dry run
    scope: Mapping[str, Any] | None  # whom it is about, None: everybody
    started_at_ms: int
    finished_at_ms: int | None
    total: int
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCorrection:
    """An answer that contradicted the belief, with what the events had said (JSON values). Instants are epoch milliseconds."""

    reconciliation: int | None
    client: str
    at_ms: int
    believed: str
    connections: int
    said: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionRow(NewCorrection):
    """The same as it is kept."""

    id: int


class Sweeps(Protocol):
    """What the reconciler keeps in a store. All verbs are called inside a transaction of the writer's."""

    def begin_reconciliation(self, why: str, scope: Mapping[str, Any] | None, started_at_ms: int, total: int) -> int:
        """A sweep begins; its number."""
        ...

    def count_reconciliation(self, number: int, more: Tally) -> None:
        """So many more clients have their final answer."""
        ...

    def write_reconciliation_total(self, number: int, total: int) -> None:
        """How many clients it is about."""
        ...

    def finish_reconciliation(self, number: int, finished_at_ms: int) -> None:
        """A sweep has ended."""
        ...

    def open_reconciliations(self) -> list[ReconciliationRow]:
        """Sweeps that have not ended, oldest first."""
        ...

    def write_corrections(self, corrections: Sequence[NewCorrection]) -> None:
        """Record what was corrected."""
        ...

    def meta(self, key: str) -> str | None:
        """One remembered value."""
        ...

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        ...


class Totals(NamedTuple):
    """Counts for a page that people look at; `dead` and `quarantined` stop counting at `TOTALS_STOP`."""

    firing: int
    suppressed: int  # held back at present, as long as the status holds
    due: int
    held: int
    dead: int
    quarantined: int


TOTALS_STOP = 100_000
"""Where counting stops: beyond, the exact number tells nobody more."""


class Reader(Protocol):
    """What people may ask of a store. Answers from what was committed before the question; raises StoreError.

    Lists come newest first. `cursor` is where the page before ended: only what is older comes.
    """

    def alerts(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[AlertRow]:
        """Alerts; `cursor` is (started_at_ms, id)."""
        ...

    def held_back(self, *, limit: int = 100) -> list[AlertRow]:
        """Alerts that are suppressed at present; those whose status has reverted since are not among them."""
        ...

    def alert(self, id_: str) -> AlertRow | None:
        """One alert, None when there is none (any more)."""
        ...

    def deliveries(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        alert: str | None = None,
        limit: int = 100,
        cursor: int | None = None,
    ) -> list[DeliveryRow]:
        """Deliveries; `cursor` is an id."""
        ...

    def delivery(self, number: int) -> DeliveryRow | None:
        """One delivery, None when there is none (any more)."""
        ...

    def silences(
        self,
        *,
        now_ms: int,
        state: str | None = None,
        author: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[Silence]:
        """Silences; `state`: active or expired at `now_ms`; `cursor` is (from_ms, id)."""
        ...

    def rule_at(self, rule: str, at_ms: int) -> str | None:
        """The definition of a rule that was in force at an instant; None: not known (any more)."""
        ...

    def silence(self, id_: str) -> Silence | None:
        """One silence, None when there is none (any more)."""
        ...

    def quarantine(self, *, limit: int = 100, cursor: int | None = None) -> list[QuarantineRow]:
        """What was not accepted; `cursor` is an id."""
        ...

    def sources(self) -> dict[str, SourceRow]:
        """How far each source was read, by its name."""
        ...

    def gaps(self, limit: int = 1000) -> list[GapRow]:
        """Recorded gaps of all sources."""
        ...

    def reconciliations(self, *, limit: int = 100, cursor: int | None = None) -> list[ReconciliationRow]:
        """Sweeps; `cursor` is an id."""
        ...

    def reconciliation(self, number: int) -> ReconciliationRow | None:
        """One sweep, None when there is none (any more)."""
        ...

    def corrections(self, reconciliation: int | None, *, limit: int = 1000, cursor: int = 0) -> list[CorrectionRow]:
        """What was corrected, of one sweep or (None) at all; oldest first, `cursor` is an id."""
        ...

    def history(self, position: int) -> Iterator[HistoryEntry]:
        """A client's entries from a history position backwards; ends early where older history was purged."""
        ...

    def totals(self) -> Totals:
        """How much there is."""
        ...
