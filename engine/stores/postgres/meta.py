"""Single remembered values of a cell in PostgreSQL: functions over one session."""

from __future__ import annotations

from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session

Q = queries("meta.sql")


def read_meta(session: Session, cell: int, key: str) -> str | None:
    """One remembered value; None: there is none."""
    row = session.row(Q["read"], (cell, key))
    return None if row is None else str(row[0])


def write_meta(session: Session, cell: int, key: str, value: str) -> None:
    """Remember one value."""
    session.write(Q["write"], (cell, key, value))
