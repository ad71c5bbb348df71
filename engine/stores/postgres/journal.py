"""The journal of a cell in PostgreSQL: what was accepted, in order, and the history of each client that is read out of it.

What is purged is gone at once for everybody who reads, because a remembered row says so; its space comes back when a whole part can be
dropped. So history of years costs no DELETE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from engine.core.history import Fact
from engine.stores import journal_rows
from engine.stores.base import HistoryEntry, JournalRow
from engine.stores.journal_rows import MAX_NEWEST_ROWS, NO_FACTS, pack, unpack
from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.meta import read_meta, write_meta
from engine.stores.postgres.partitions import Partitions
from engine.stores.postgres.queries import queries
from engine.stores.postgres.questions import Questions
from engine.stores.postgres.session import Session

Q = queries("journal.sql")

PURGED_TO = "journal_purged_to"
"""Remembered value: rows up to this one were purged."""

ROWS_AT_ONCE = 256
"""Journal rows that are read with one question: a thousand events each at most."""


@translated(COMMIT_FAILED)
class PostgresJournal:
    """See `stores.base.Journal`."""

    def __init__(self, session: Session, cell: int, era: Callable[[], object]) -> None:
        """`era` as in `Partitions`."""
        self._session, self._cell = session, cell
        self._partitions = Partitions(session, cell, era)

    def last_id(self) -> int:
        """The newest row's id, also when older ones were purged; 0 for a new store."""
        newest = self._session.row(Q["last"], {"cell": self._cell})
        checkpoint = int(read_meta(self._session, self._cell, "checkpoint") or 0)
        return max(checkpoint, 0 if newest is None else int(newest[0]))

    def last_at_ms(self) -> int:
        """The instant of the newest row; 0 when there is none."""
        newest = self._session.row(Q["last"], {"cell": self._cell})
        return 0 if newest is None else int(newest[1])

    def append(
        self, row: int, at_ms: int, source: str, events: Sequence[bytes], previous: Sequence[int], facts: Sequence[Fact]
    ) -> None:
        """Add one row: what a batch accepted, or what passing time brought about."""
        part = self._partitions.of(row, at_ms)
        statement = Q["append"].format(cell=self._cell, part=part)
        self._session.write(statement, (self._cell, part, row, at_ms, source, *pack(events, previous, facts)))

    def after(self, row: int) -> Iterator[JournalRow]:
        """Rows newer than `row`, oldest first, without history positions: those that are there when each is asked for."""
        while True:
            values = {"cell": self._cell, "row": row, "limit": ROWS_AT_ONCE}
            found = self._session.rows(Q["after"], values)
            for number, at_ms, events, facts in found:
                yield unpack(number, at_ms, "", events, b"", facts)
            if len(found) < ROWS_AT_ONCE:
                return
            row = found[-1][0]

    def purge(self, before_ms: int, checkpoint: int, ahead: int = 0) -> int:
        """Drop rows older than `before_ms`, and those up to `ahead` whatever they say, never past the checkpoint; how many."""
        floor = int(read_meta(self._session, self._cell, PURGED_TO) or 0)
        wanted = {"cell": self._cell, "floor": floor, "before": before_ms, "checkpoint": checkpoint, "ahead": ahead}
        kept = self._session.row(Q["first_kept"], wanted)
        to = self.last_id() if kept is None or kept[0] is None else int(kept[0]) - 1
        if to <= floor:
            return 0
        counted = self._session.row(Q["count"], {"cell": self._cell, "floor": floor, "to": to})
        write_meta(self._session, self._cell, PURGED_TO, str(to))
        self._partitions.drop_to(to)
        return 0 if counted is None else int(counted[0])


def journal_row(questions: Questions, cell: int, row: int) -> JournalRow | None:
    """One row, None when it was purged."""
    found = questions.row(Q["row"], {"cell": cell, "row": row})
    return None if found is None else unpack(row, *found)


def history(questions: Questions, cell: int, position: int) -> Iterator[HistoryEntry]:
    """A client's entries from a position backwards; nothing for a position that was purged or never was."""
    return journal_rows.history(lambda row: journal_row(questions, cell, row), position)


def newest(questions: Questions, cell: int, events: int) -> list[JournalRow]:
    """The newest rows of a cell that have so many events, newest first, without facts and history positions."""
    rows = questions.rows(Q["newest"], {"cell": cell, "events": events, "limit": MAX_NEWEST_ROWS})
    return [unpack(id_, at_ms, source, packed, b"", NO_FACTS) for id_, at_ms, source, packed in rows]
