"""What the engine asks of a store, in the words of its own domain. A second store implements `Store` and passes `tests/stores`.

There are two sides, and no verb belongs to both:

- **inside the writer's transaction**: the parts of `Store` (`journal`, `alerts`, `deliveries`, ...). They are used by one thread,
  between entering and leaving `Store.transaction()`; those that only read may also be called before the writer starts.
  What they wrote is durable when the block is left, and never was when the block raised.
- **beside it**: a `Reader`, handed out by `Store.reading()` to any thread. It sees what was committed, and holds up nobody.

Whatever a store's own library raises comes out as StoreError. A verb that fails inside a transaction fails the
transaction. `Reader` lies in `stores.reading`, the values that go in and come out in
`stores.rows`; both are named here as well, because other rooms know this module alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.core.delivery import DeliveryPolicy, OutboxItem, Outcome
from engine.core.history import Fact
from engine.core.presence.client_state import ClientState
from engine.sources.base import Gap
from engine.stores.access import AccessTables, AuditRow, NewAudit, SessionRow, TokenRow, UserRow
from engine.stores.reading import Reader
from engine.stores.rows import (
    MAX_REQUEST_CHARACTERS,
    TOTALS_STOP,
    AlertLife,
    AlertRow,
    Attempt,
    CorrectionRow,
    CurvePoint,
    DeliveryRow,
    FiringRow,
    FleetSample,
    HistoryEntry,
    JournalRow,
    LatencyCount,
    NewCorrection,
    NewDelivery,
    ProgressPoint,
    QuarantineRow,
    ReconciliationRow,
    Recorded,
    RuleAlerts,
    RuleDeliveries,
    Share,
    SourceRow,
    StatusCounts,
    Tally,
    Totals,
    Waiting,
)

__all__ = [
    "MAX_REQUEST_CHARACTERS",
    "TOTALS_STOP",
    "AccessTables",
    "AlertLife",
    "AlertRow",
    "Alerts",
    "Attempt",
    "AuditRow",
    "Clients",
    "CorrectionRow",
    "CurvePoint",
    "Deliveries",
    "DeliveryRow",
    "FiringRow",
    "FleetSample",
    "HistoryEntry",
    "Journal",
    "JournalRow",
    "LatencyCount",
    "Measures",
    "NewAudit",
    "NewCorrection",
    "NewDelivery",
    "ProgressPoint",
    "Quarantine",
    "QuarantineRow",
    "Reader",
    "ReconciliationRow",
    "Recorded",
    "RuleAlerts",
    "RuleDeliveries",
    "Rules",
    "SessionRow",
    "Share",
    "SourceRow",
    "Sources",
    "StatusCounts",
    "Store",
    "Sweeps",
    "Tally",
    "TokenRow",
    "Totals",
    "UserRow",
    "Waiting",
]


class Store(Protocol):
    """The whole of a store, opened for writing. One process has it; a second one that opens it gets StoreInUse."""

    @property
    def journal(self) -> Journal:
        """What was accepted, in order."""
        ...

    @property
    def clients(self) -> Clients:
        """Client states as of some journal row."""
        ...

    @property
    def alerts(self) -> Alerts:
        """Alerts, and what goes on for them."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """The outbox."""
        ...

    @property
    def sweeps(self) -> Sweeps:
        """What the reconciler keeps."""
        ...

    @property
    def sources(self) -> Sources:
        """How far each source was read, and its gaps."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """What could not be accepted."""
        ...

    @property
    def rules(self) -> Rules:
        """The rules that were loaded before."""
        ...

    @property
    def access(self) -> AccessTables:
        """Who may do what, and who did: of the installation, not of a cell."""
        ...

    @property
    def measures(self) -> Measures:
        """What is counted once a minute."""
        ...

    def proof(self, challenge: str) -> str:
        """What only the process that holds this installation, and who can read its files, can answer to a challenge."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """One transaction, durable when the block is left. StoreError when it could not be, and then nothing of it is."""
        ...

    def reading(self) -> AbstractContextManager[Reader]:
        """A reader beside the writer, for the block and its thread. StoreError when the store cannot be read."""
        ...

    def meta(self, key: str) -> str | None:
        """One remembered value; None: there is none."""
        ...

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        ...

    def step_clock(self, step_ms: int, now_ms: int) -> None:
        """Inside a transaction: the wall clock was set by `step_ms` and shows `now_ms`.

        What the store alone keeps and what waits there is moved: deliveries that are due or held, removed rules. What is past and
        would lie in the future is moved as well, so that it is dropped in its time and not years later.
        """
        ...

    def purge(self, before_ms: int, checkpoint: int) -> int:
        """Drop a bounded number of rows that ended before `before_ms`, and no journal row after `checkpoint`; how many."""
        ...

    def close(self) -> None:
        """Give the store back."""
        ...


# Inside the writer's transaction


class Journal(Protocol):
    """What was accepted, in order: the truth that everything else is derived from."""

    def last_id(self) -> int:
        """The newest row's id, also when older ones were purged; 0 for a new store."""
        ...

    def append(
        self, row: int, at_ms: int, source: str, events: Sequence[bytes], previous: Sequence[int], facts: Sequence[Fact]
    ) -> None:
        """Add one row: what a batch accepted, or what passing time brought about."""
        ...

    def last_at_ms(self) -> int:
        """The instant of the newest row; 0 when there is none."""
        ...

    def after(self, row: int) -> Iterator[JournalRow]:
        """Rows newer than `row`, oldest first, without history positions."""
        ...


class Clients(Protocol):
    """Client states as of some journal row: a cache, so that a start need not apply the whole journal."""

    def load(self) -> dict[str, ClientState]:
        """Every client row, as states."""
        ...

    def write(self, clients: Iterable[tuple[str, ClientState | None]]) -> None:
        """Write states; None: forgotten."""
        ...

    def forgotten(self) -> dict[str, int]:
        """Clients that were forgotten, and when, oldest first."""
        ...

    def write_forgotten(self, clients: Iterable[tuple[str, int | None]]) -> None:
        """Remember when clients were forgotten; None: no longer."""
        ...


class Alerts(Protocol):
    """Alerts, and what goes on for them."""

    def write(self, alerts: Iterable[Alert]) -> None:
        """Write changed alerts; a dropped one leaves no row."""
        ...

    def open(self) -> list[Alert]:
        """Alerts that are about something that goes on, oldest first."""
        ...

    def write_throttles(self, throttles: Iterable[Throttled]) -> None:
        """Write changed throttles; one in which nothing counts leaves no row."""
        ...

    def throttles(self) -> list[Throttled]:
        """Every throttle that still counts."""
        ...

    def write_kept(self, out: Output) -> None:
        """Write what a step changed of silences, groups, outages and their members, schedules, bursts and escalations."""
        ...

    def kept(self) -> Kept:
        """All of these that are not over; silences also when they are."""
        ...


class Deliveries(Protocol):
    """The outbox."""

    def add(self, rows: Sequence[NewDelivery]) -> list[OutboxItem]:
        """Write rendered deliveries; returns those that may leave at once.

        A key that the outbox has already is the same delivery and changes nothing. A recovery whose firing is known never
        to have arrived is written dead, and so is what the store cannot hold: one row never stops the others.
        """
        ...

    def record(
        self, outcomes: Sequence[Outcome], now_ms: int, jitter: Callable[[], float], policy: DeliveryPolicy
    ) -> Recorded:
        """Write what became of attempts; `jitter` gives a number between 0 and 1 for each retry.

        A row that is no longer due stays as it is: an operator decided meanwhile. One whose outcome cannot be written is dead.
        """
        ...

    def act(self, number: int, what: str, now_ms: int) -> tuple[DeliveryRow | None, bool]:
        """`retry`, `release` or `discard` one: the row as it is then (None: there is none), and whether it was changed.

        Discarding a firing that never arrived discards its recovery too.
        """
        ...

    def act_on_held(self, rule: str, what: str, now_ms: int) -> int:
        """`release` or `discard` some held deliveries of a rule, the oldest first; how many. 0: none is left."""
        ...


class Sources(Protocol):
    """How far each source was read."""

    def write(self, name: str, position: str | None, caught_up_to_ms: int | None, last_event_at_ms: int | None) -> None:
        """Move a source's position; what is None stays as it was."""
        ...

    def write_gap(self, gap: Gap) -> None:
        """Record messages that were never read and are gone."""
        ...


class Quarantine(Protocol):
    """What could not be accepted."""

    def add(self, source: str, received_at_ms: int, rejected: Iterable[tuple[str, bytes]]) -> None:
        """Keep (reason, raw bytes)."""
        ...

    def delete(self, ids: Iterable[int]) -> None:
        """Drop what has been accepted after all."""
        ...


class Rules(Protocol):
    """The rules that were loaded before, so that a start knows a new one from a known one."""

    def all(self) -> dict[str, tuple[str, int | None]]:
        """Name -> (definition, missing since this epoch ms; None: it is there)."""
        ...

    def write(self, name: str, definition: str, now_ms: int, missing_since_ms: int | None) -> None:
        """Remember a rule; a definition that differs from the newest one is in force from `now_ms` on."""
        ...

    def delete(self, name: str) -> None:
        """Forget a rule. What it said at which time is kept until it is purged."""
        ...


class Sweeps(Protocol):
    """What the reconciler keeps."""

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


class Measures(Protocol):
    """What is counted once a minute, so that people see how the fleet was. A purge makes it coarser as it grows old."""

    def add(self, sample: FleetSample) -> None:
        """Write what was counted. For a minute that was counted before, numbers are replaced, and what happened is added."""
        ...

    def add_progress(self, at_ms: int, progress: Iterable[tuple[str, int, int]]) -> None:
        """Write how outages go: the id of the alert, how many clients ever joined, and how many are back."""
        ...
