"""Positions and gaps of sources in SQLite, and the quarantine of what could not be accepted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from engine.sources.base import Gap
from engine.stores.base import QuarantineRow, SourceRow
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.queries import queries

Q = queries("queries.sql")


@translated(COMMIT_FAILED)
class SqliteSources:
    """See `stores.base.Sources`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, name: str, position: str | None, caught_up_to_ms: int | None, last_event_at_ms: int | None) -> None:
        """Move a source's position; what is None stays as it was."""
        self._connection.execute(Q["write_source"], (name, position, caught_up_to_ms, last_event_at_ms))

    def write_gap(self, gap: Gap) -> None:
        """Record messages that were never read and are gone."""
        self._connection.execute(Q["write_gap"], (gap.source, gap.noted_at_ms, gap.from_ms, gap.to_ms, gap.reason))


@translated(COMMIT_FAILED)
class SqliteQuarantine:
    """See `stores.base.Quarantine`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, source: str, received_at_ms: int, rejected: Iterable[tuple[str, bytes]]) -> None:
        """Keep what could not be accepted: (reason, raw bytes)."""
        rows = [(received_at_ms, source, reason, raw) for reason, raw in rejected]
        self._connection.executemany(Q["quarantine"], rows)

    def delete(self, ids: Iterable[int]) -> None:
        """Drop what has been accepted after all."""
        self._connection.executemany(Q["delete_quarantined"], [(id_,) for id_ in ids])


def sources(connection: sqlite3.Connection) -> dict[str, SourceRow]:
    """How far each source was read, by its name."""
    return {
        name: SourceRow(position=position, caught_up_to_ms=upto_ms, last_event_at_ms=last_ms)
        for name, position, upto_ms, last_ms in connection.execute(Q["all_sources"])
    }


def gaps(connection: sqlite3.Connection, limit: int) -> list[Gap]:
    """Recorded gaps of all sources, newest first."""
    return [
        Gap(source=source, noted_at_ms=noted, from_ms=start, to_ms=end, reason=reason)
        for source, noted, start, end, reason in connection.execute(Q["all_gaps"], (limit,))
    ]


def quarantined(connection: sqlite3.Connection, limit: int, cursor: int | None) -> list[QuarantineRow]:
    """What was not accepted, newest first; `cursor` is an id."""
    rows = connection.execute(queries("reading.sql")["quarantine"], {"limit": limit, "cursor": cursor})
    return [
        QuarantineRow(id=id_, received_at_ms=at_ms, source=source, reason=reason, raw=bytes(raw))
        for id_, at_ms, source, reason, raw in rows
    ]
