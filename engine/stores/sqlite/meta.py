"""Single remembered values in the SQLite store: functions over one connection."""

from __future__ import annotations

import sqlite3

from engine.stores.sqlite.queries import queries

Q = queries("queries.sql")


def read_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """One remembered value; None: there is none."""
    row = connection.execute(Q["read_meta"], (key,)).fetchone()
    return row[0] if row else None


def write_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Remember one value."""
    connection.execute(Q["write_meta"], (key, value))
