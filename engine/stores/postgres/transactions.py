"""Transactions that no fence guards: what they write is no decision of a cell's owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.stores.postgres.session import Session


@contextmanager
def unfenced(session: Session) -> Iterator[None]:
    """One transaction of the session, durable when the block is left; undone when it raises. Raises psycopg's errors and StoreError."""
    session.begin(lambda: "BEGIN")
    try:
        yield
        session.commit()
    except BaseException:
        session.rollback()
        raise
