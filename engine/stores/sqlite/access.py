"""Users, tokens, sessions and the audit log in the SQLite store: a function over one connection."""

from __future__ import annotations

import sqlite3
from typing import Any

from engine.stores.access_tables import SqlAccess
from engine.stores.sqlite.failures import COMMIT_FAILED, store_errors
from engine.stores.sqlite.queries import queries

Q = queries("access.sql")


def access_tables(connection: sqlite3.Connection) -> SqlAccess:
    """The rows over a connection; see `stores.access.AccessTables`."""

    def rows(name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with store_errors(COMMIT_FAILED):
            return connection.execute(Q[name], values).fetchall()

    def changed(name: str, values: dict[str, Any]) -> int:
        with store_errors(COMMIT_FAILED):
            return connection.execute(Q[name], values).rowcount

    return SqlAccess(rows, changed)
