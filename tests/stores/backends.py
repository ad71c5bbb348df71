"""The stores that the conformance suite runs on: how each is opened, read beside its writer, and made to fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from engine.core.delivery import OutboxItem, Outcome, Policy
from engine.sources.base import Gap
from engine.stores.base import Reader, Share, Sweeps, Waiting
from engine.stores.journal import JournalRow, JournalStore
from engine.stores.sqlite import delivery_rows
from engine.stores.sqlite.reader import reading
from engine.stores.sqlite.store import FILE_NAME, SqliteStore


class Store(JournalStore, Sweeps, Protocol):
    """The verbs of the writer and the reconciler, and those of the parts around it."""

    def journal_row(self, row: int) -> JournalRow | None:
        """One row, None when it was purged."""
        ...

    def sources(self) -> dict[str, tuple[str | None, int | None, int | None]]:
        """name -> (position, caught_up_to_ms, last_event_at_ms)."""
        ...

    def gaps(self, limit: int = 1000) -> list[Gap]:
        """Recorded gaps, newest first."""
        ...

    def rules(self) -> dict[str, tuple[str, int | None]]:
        """name -> (definition, missing since)."""
        ...

    def write_rule(self, name: str, definition: str, now_ms: int, missing_since_ms: int | None) -> None:
        """Remember a rule."""
        ...

    def delete_rule(self, name: str) -> None:
        """Forget a rule."""
        ...

    def close(self) -> None:
        """Give the store back."""
        ...


class Backend(Protocol):
    """One kind of store, empty at first."""

    def open(self) -> Store:
        """Open it for writing, creating or migrating what is missing."""
        ...

    def reader(self) -> AbstractContextManager[Reader]:
        """A reader beside the writer."""
        ...

    def waiting(self, store: Store, now_ms: int) -> Waiting:
        """The dispatcher's question: what is there to do?"""
        ...

    def due(self, store: Store, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
        """The dispatcher's question: what may leave?"""
        ...

    def record(self, store: Store, outcomes: Sequence[Outcome], now_ms: int, policy: Policy) -> None:
        """What became of items, in a transaction."""
        ...

    def schema(self) -> tuple[object, ...]:
        """The schema as it is now, to be compared."""
        ...

    def made_by_a_newer_version(self) -> None:
        """Change the version that is written in the store to one that does not exist yet."""
        ...


class SqliteBackend:
    """The embedded store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: list[SqliteStore] = []

    def open(self) -> SqliteStore:
        """Open it for writing."""
        store = SqliteStore.open(self.folder)
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Close whatever a test left open."""
        for store in self._opened:
            with suppress(sqlite3.Error):
                store.close()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A reader beside the writer."""
        with reading(self.folder) as found:
            yield found

    def waiting(self, store: Store, now_ms: int) -> Waiting:
        """What is there to do."""
        return delivery_rows.waiting(_connection(store), now_ms)

    def due(self, store: Store, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
        """What may leave."""
        return delivery_rows.due(_connection(store), now_ms, shares)

    def record(self, store: Store, outcomes: Sequence[Outcome], now_ms: int, policy: Policy) -> None:
        """What became of items."""
        with store.transaction() as connection:
            delivery_rows.record(connection, outcomes, now_ms, lambda: 0.5, policy)

    def schema(self) -> tuple[object, ...]:
        """Version, tables and indexes."""
        with self._raw() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()
            return version, *connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()

    def made_by_a_newer_version(self) -> None:
        """A version far ahead."""
        with self._raw() as connection:
            connection.execute("PRAGMA user_version = 999")

    @contextmanager
    def _raw(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.folder / FILE_NAME, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()


def _connection(store: Store) -> sqlite3.Connection:
    assert isinstance(store, SqliteStore)
    return store.connection
