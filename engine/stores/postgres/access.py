"""Users, tokens, sessions and the audit log in PostgreSQL.

`access_tables` works over one session: inside an owner's transaction, for the audit log. `PostgresAccessDoor` has a session of its own, so
that any replica can let people in, whoever owns the cell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from engine.stores.access_tables import SqlAccess
from engine.stores.postgres.database import Database
from engine.stores.postgres.failures import COMMIT_FAILED, READ_FAILED, store_errors
from engine.stores.postgres.migrations import migrate
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session
from engine.stores.postgres.transactions import unfenced

Q = queries("access.sql")

T = TypeVar("T")


def access_tables(session: Session) -> SqlAccess:
    """The rows over a session; see `stores.access.AccessTables`."""

    def rows(name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with store_errors(COMMIT_FAILED):
            return session.rows(Q[name], values)

    def changed(name: str, values: dict[str, Any]) -> int:
        with store_errors(COMMIT_FAILED):
            return session.changed(Q[name], values)

    return SqlAccess(rows, changed)


class PostgresAccessDoor:
    """The same rows over a session of its own, from any thread, one at a time. StoreError when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        """The schema is made when it is missing."""
        connection = database.connect()
        try:
            with store_errors("the schema could not be made"):
                migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._session = Session(database, connection)
        self._tables = access_tables(self._session)
        self._lock = threading.Lock()

    def read(self, question: Callable[[SqlAccess], T]) -> T:
        """Ask what has been committed."""
        with self._lock, store_errors(READ_FAILED):
            return question(self._tables)

    def write(self, work: Callable[[SqlAccess], T]) -> T:
        """Do something in one transaction; returns once it has committed."""
        with self._lock, store_errors(COMMIT_FAILED), unfenced(self._session):
            return work(self._tables)

    def close(self) -> None:
        """Give the session up."""
        with self._lock:
            self._session.close()
