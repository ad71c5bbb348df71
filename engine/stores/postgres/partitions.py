"""The parts of a cell's journal: a new one for each day, and dropping one when all of it was purged. Read `Partitions.of`."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session

Q = queries("journal.sql")

PART_SPAN_MS = 86_400_000
"""A part holds a day: history is kept for days, and a hundred parts cost nothing to look through."""

PART_ROWS = 2_000_000
"""Rows after which a part ends before its day: what is dropped at once stays below some hundred gigabytes."""


class Partitions:
    """Which part a row belongs to, and the parts that can go. Inside the owner's transactions."""

    def __init__(self, session: Session, cell: int, era: Callable[[], object]) -> None:
        """`era` changes when what was known of the parts may be wrong: after an undone transaction, and with each taking of the cell."""
        self._session, self._cell, self._era = session, cell, era
        self._known: tuple[object, int, int, int] | None = (
            None  # era, number, first row and first instant of the newest part
        )

    def of(self, row: int, at_ms: int) -> int:
        """The part that a new row belongs to: the newest one, or one that begins with it."""
        era = self._era()
        if self._known is None or self._known[0] != era:
            found = self._session.row(Q["newest_part"], (self._cell,))
            self._known = None if found is None else (era, *found)
        if self._known is not None:
            _, part, first_row, first_at_ms = self._known
            # Either way: a part that begins in a future that was none, because the clock was put back, would never end.
            if abs(at_ms - first_at_ms) < PART_SPAN_MS and row - first_row < PART_ROWS:
                return part
        part = 1 if self._known is None else self._known[1] + 1
        self._session.write(Q["begin_part"], (self._cell, part, row, at_ms))
        self._session.script(Q["create_part"].format(cell=self._cell, part=part))
        self._known = (era, part, row, at_ms)
        return part

    def drop_to(self, row: int) -> int:
        """Drop parts of which every row is at most `row`; how many. One that somebody reads right now stays until the next time."""
        dropped = 0
        for (part,) in self._session.rows(Q["whole_parts"], (self._cell, row)):
            try:
                with self._session.savepoint():
                    self._session.script(Q["drop_part"].format(cell=self._cell, part=part))
            except psycopg.errors.LockNotAvailable:
                break
            dropped += 1
        return dropped
