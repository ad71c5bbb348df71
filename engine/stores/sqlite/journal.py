"""The journal in SQLite: what was accepted, in order, and the history of each client that is read out of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from engine.core.history import Fact
from engine.stores import journal_rows
from engine.stores.base import HistoryEntry, JournalRow
from engine.stores.journal_rows import MAX_NEWEST_ROWS, NO_FACTS, pack, unpack
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.meta import read_meta
from engine.stores.sqlite.queries import queries

Q = queries("queries.sql")
R = queries("reading.sql")


@translated(COMMIT_FAILED)
class SqliteJournal:
    """See `stores.base.Journal`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def last_id(self) -> int:
        """The newest row's id, also when older ones were purged; 0 for a new store."""
        newest = self._connection.execute(Q["last_journal_id"]).fetchone()[0]
        return max(int(newest), int(read_meta(self._connection, "checkpoint") or 0))

    def last_at_ms(self) -> int:
        """The instant of the newest row; 0 when there is none."""
        row = self._connection.execute(Q["last_journal_at"]).fetchone()
        return 0 if row is None else int(row[0])

    def append(
        self, row: int, at_ms: int, source: str, events: Sequence[bytes], previous: Sequence[int], facts: Sequence[Fact]
    ) -> None:
        """Add one row: what a batch accepted, or what passing time brought about."""
        self._connection.execute(
            Q["append_journal"],
            (row, at_ms, source, *pack(events, previous, facts)),
        )

    def after(self, row: int) -> Iterator[JournalRow]:
        """Rows newer than `row`, oldest first, without history positions."""
        for found, at_ms, events, facts in self._connection.execute(Q["journal_after"], (row,)):
            yield unpack(found, at_ms, "", events, b"", facts)


def journal_row(connection: sqlite3.Connection, row: int) -> JournalRow | None:
    """One row, None when it was purged."""
    found = connection.execute(Q["journal_row"], (row,)).fetchone()
    return None if found is None else unpack(row, *found)


def newest(connection: sqlite3.Connection, events: int) -> list[JournalRow]:
    """The newest rows that have so many events, newest first, without facts and history positions."""
    found: list[JournalRow] = []
    for id_, at_ms, source, packed in connection.execute(R["newest_journal"], (MAX_NEWEST_ROWS,)):
        found.append(unpack(id_, at_ms, source, packed, b"", NO_FACTS))
        events -= len(found[-1].events)
        if events <= 0:
            break
    return found


def history(connection: sqlite3.Connection, position: int) -> Iterator[HistoryEntry]:
    """A client's entries from a position backwards; nothing for a position that was purged or never was."""
    return journal_rows.history(lambda row: journal_row(connection, row), position)
