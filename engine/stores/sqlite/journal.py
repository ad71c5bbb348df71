"""The journal in SQLite: what was accepted, in order, and the history of each client that is read out of it."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator, Sequence

import msgspec

from engine.core.history import FACT_OFFSET, POSITION_BITS, Fact
from engine.stores.base import HistoryEntry, JournalRow
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.meta import read_meta
from engine.stores.sqlite.queries import queries

Q = queries("queries.sql")

EVERYTHING = 1 << 62
"""More entries than any history has."""

ROWS_REMEMBERED = 64
"""Journal rows kept decoded while one history is read: neighbouring entries of a client often share a row."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode


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
            (row, at_ms, source, len(events), b"\n".join(events), array("q", previous).tobytes(), _encode(facts)),
        )

    def after(self, row: int) -> Iterator[JournalRow]:
        """Rows newer than `row`, oldest first, without history positions."""
        for found, at_ms, events, facts in self._connection.execute(Q["journal_after"], (row,)):
            yield JournalRow(found, at_ms, "", _lines(events), (), _facts(facts))


def journal_row(connection: sqlite3.Connection, row: int) -> JournalRow | None:
    """One row, None when it was purged."""
    found = connection.execute(Q["journal_row"], (row,)).fetchone()
    if found is None:
        return None
    at_ms, source, events, previous, facts = found
    positions = array("q")
    positions.frombytes(previous)
    return JournalRow(row, at_ms, source, _lines(events), positions, _facts(facts))


def history(connection: sqlite3.Connection, position: int) -> Iterator[HistoryEntry]:
    """A client's entries from a position backwards; nothing for a position that was purged or never was."""
    if not 0 < position < EVERYTHING:
        return
    rows: dict[int, JournalRow | None] = {}
    while position:
        number = position >> POSITION_BITS
        if number not in rows:
            if len(rows) > ROWS_REMEMBERED:
                rows.clear()
            rows[number] = journal_row(connection, number)
        row = rows[number]
        if row is None:
            return
        try:
            entry = _entry(row, position)
        except IndexError:  # no such place in that row: a position that somebody made up
            return
        yield entry
        position = entry.previous


def _entry(row: JournalRow, position: int) -> HistoryEntry:
    """The entry of a row that a position names; IndexError when the row has no such place."""
    place = position & ((1 << POSITION_BITS) - 1)
    if place < FACT_OFFSET:
        raw, previous = row.events[place], row.previous[place]
        return HistoryEntry(position=position, previous=previous, at_ms=row.at_ms, source=row.source, raw=raw)
    fact = row.facts[place - FACT_OFFSET]
    return HistoryEntry(
        position=position,
        previous=fact.previous,
        at_ms=fact.at_ms,
        source=row.source,
        fact=fact.kind,
        answer=fact.answer,
        client=fact.client,
    )


def _lines(events: bytes) -> list[bytes]:
    return events.split(b"\n") if events else []


def _facts(packed: bytes) -> list[Fact]:
    return [_fact(*fields) for fields in _decode(packed)]


def _fact(
    after: int, kind: str, client: str, at_ms: int, previous: int, answer: tuple[int, int, bool] | None = None
) -> Fact:
    return Fact(after, kind, client, at_ms, previous, None if answer is None else (answer[0], answer[1], answer[2]))
