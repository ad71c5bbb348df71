"""Positions and gaps of a cell's sources in PostgreSQL, and the quarantine of what could not be accepted."""

from __future__ import annotations

from collections.abc import Iterable

from engine.sources.base import Gap
from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session

Q = queries("sources.sql")


@translated(COMMIT_FAILED)
class PostgresSources:
    """See `stores.base.Sources`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session, self._cell = session, cell

    def write(self, name: str, position: str | None, caught_up_to_ms: int | None, last_event_at_ms: int | None) -> None:
        """Move a source's position; what is None stays as it was."""
        self._session.write(Q["write"], (self._cell, name, position, caught_up_to_ms, last_event_at_ms))

    def write_gap(self, gap: Gap) -> None:
        """Record messages that were never read and are gone."""
        row = (self._cell, gap.source, gap.noted_at_ms, gap.from_ms, gap.to_ms, gap.reason)
        self._session.write(Q["write_gap"], row)


@translated(COMMIT_FAILED)
class PostgresQuarantine:
    """See `stores.base.Quarantine`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session, self._cell = session, cell

    def add(self, source: str, received_at_ms: int, rejected: Iterable[tuple[str, bytes]]) -> None:
        """Keep what could not be accepted: (reason, raw bytes)."""
        rows = list(rejected)
        if rows:
            reasons, raw = map(list, zip(*rows, strict=True))
            self._session.write(Q["quarantine"], (self._cell, received_at_ms, source, reasons, raw))

    def delete(self, ids: Iterable[int]) -> None:
        """Drop what has been accepted after all."""
        if gone := list(ids):
            self._session.write(Q["delete_quarantined"], (self._cell, gone))
