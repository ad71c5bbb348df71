"""What the writer asks of an embedded store: one journal, one writer, states in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from engine.actions.base import OutboxItem
from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.core.history import Fact
from engine.core.presence.client_state import ClientState
from engine.sources.base import Gap
from engine.stores.base import NewDelivery


class JournalRow(NamedTuple):
    """One row of the journal: a batch of one source, or what passing time brought about."""

    id: int
    at_ms: int
    source: str
    events: Sequence[bytes]  # one JSON text each
    previous: Sequence[int]  # for each event, its client's history position before it
    facts: Sequence[Fact]


class JournalStore(Protocol):
    """The verbs of the writer. All but `transaction` are called inside one, or before the writer starts."""

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction, durable when the block is left; StoreError when it could not be."""
        ...

    def last_journal_id(self) -> int:
        """The newest row's id."""
        ...

    def append_journal(
        self, row: int, at_ms: int, source: str, events: Sequence[bytes], previous: Sequence[int], facts: Sequence[Fact]
    ) -> None:
        """Add one row."""
        ...

    def journal_after(self, row: int) -> Iterator[JournalRow]:
        """Rows newer than `row`, oldest first."""
        ...

    def load_clients(self) -> dict[str, ClientState]:
        """Every client row, as states."""
        ...

    def write_clients(self, clients: Iterable[tuple[str, ClientState | None]]) -> None:
        """Write states; None: forgotten."""
        ...

    def write_alerts(self, alerts: Iterable[Alert]) -> None:
        """Write changed alerts."""
        ...

    def open_alerts(self) -> list[Alert]:
        """Alerts that are about something that goes on, oldest first."""
        ...

    def write_throttles(self, throttles: Iterable[Throttled]) -> None:
        """Write changed throttles."""
        ...

    def throttles(self) -> list[Throttled]:
        """Every throttle that still counts."""
        ...

    def write_kept(self, out: Output) -> None:
        """Write what a step changed of silences, groups, outages and their members, schedules and bursts."""
        ...

    def kept(self) -> Kept:
        """All of these that are not over; silences also when they are."""
        ...

    def add_deliveries(self, rows: Sequence[NewDelivery]) -> list[OutboxItem]:
        """Write rendered deliveries; returns those that may leave at once."""
        ...

    def write_source(
        self, name: str, position: str | None, caught_up_to_ms: int | None, last_event_at_ms: int | None
    ) -> None:
        """Move a source's position."""
        ...

    def write_gap(self, gap: Gap) -> None:
        """Record messages that are gone."""
        ...

    def quarantine(self, source: str, received_at_ms: int, rejected: Iterable[tuple[str, bytes]]) -> None:
        """Keep what could not be accepted."""
        ...

    def meta(self, key: str) -> str | None:
        """One remembered value."""
        ...

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        ...

    def purge(self, before_ms: int, checkpoint: int) -> int:
        """Drop what is older; returns rows."""
        ...

    def failpoint(self, name: str) -> None:
        """A place where tests may kill the process."""
        ...
