"""The stores that the conformance suite runs on: how each is opened, read beside its writer, and made to fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from engine.errors import StoreError
from engine.stores.base import Reader, Store
from engine.stores.postgres.database import Database
from engine.stores.postgres.store import PostgresStore
from engine.stores.sqlite.store import FILE_NAME, SqliteStore
from tests.postgres.server import shared_server


class Backend(Protocol):
    """One kind of store, empty at first. What the suite cannot do through `Store` itself stands here."""

    def open(self) -> Store:
        """Open it for writing, creating or migrating what is missing."""
        ...

    def reader(self) -> AbstractContextManager[Reader]:
        """A reader of another process, beside the writer."""
        ...

    def close(self) -> None:
        """Close whatever a test left open."""
        ...

    def schema(self) -> tuple[object, ...]:
        """The schema as it is now, to be compared."""
        ...

    def made_by_a_newer_version(self) -> None:
        """Change the version that is written in the store to one that does not exist yet."""
        ...


class _Opened:
    """What every backend does with the stores that it opens."""

    def __init__(self, open_to_read: Callable[[], Store]) -> None:
        self._open_to_read = open_to_read
        self._opened: list[Store] = []

    def close(self) -> None:
        """Close whatever a test left open."""
        for store in self._opened:
            with suppress(StoreError):
                store.close()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A reader of another process, beside the writer."""
        store = self._open_to_read()
        try:
            with store.reading() as found:
                yield found
        finally:
            store.close()


class SqliteBackend(_Opened):
    """The embedded store in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda: SqliteStore.open_read_only(folder))
        self.folder = folder

    def open(self) -> SqliteStore:
        """Open it for writing."""
        store = SqliteStore.open(self.folder)
        self._opened.append(store)
        return store

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


class PostgresBackend(_Opened):
    """The only cell of a database of its own."""

    def __init__(self, folder: Path) -> None:
        self._server = shared_server()
        self._name = self._server.database()
        self._database = Database(dsn=self._server.dsn(self._name))
        super().__init__(lambda: PostgresStore.open_read_only(self._database))

    def open(self) -> PostgresStore:
        """Open it for writing."""
        store = PostgresStore.open(self._database)
        self._opened.append(store)
        return store.own()

    def close(self) -> None:
        """Close whatever a test left open."""
        super().close()
        self._server.drop(self._name)

    def schema(self) -> tuple[object, ...]:
        """Version, tables with their columns, and indexes."""
        with self._database.connect() as connection:
            found = connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall()
            found += connection.execute(
                "SELECT table_name, column_name, data_type, column_default FROM information_schema.columns"
                " WHERE table_schema = 'rollcall' ORDER BY 1, 2"
            ).fetchall()
            return *found, *connection.execute(
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'rollcall' ORDER BY 1"
            ).fetchall()

    def made_by_a_newer_version(self) -> None:
        """A version far ahead."""
        with self._database.connect() as connection:
            connection.execute("INSERT INTO schema_version (version) VALUES (999)")


BACKENDS: dict[str, Callable[[Path], Backend]] = {"postgres": PostgresBackend, "sqlite": SqliteBackend}
"""Every store that the suite runs on: its name, and what makes an empty one that may use a folder."""
