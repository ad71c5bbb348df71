"""What is posted to any replica for the owner of a cell: events, and acts of operators.

`PostgresInbox` belongs to one thread: it writes what a replica has taken, and reads what waits for the owner. `PostgresPosted` is used
inside the owner's transaction: what it deletes or takes is gone if that commits, and waits on if it does not. So everything that is
posted has its effect once, whatever dies in between.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from engine.errors import Overloaded, StoreError
from engine.stores.posted import ActStanding, PostedAct, PostedEvents, PostedRow
from engine.stores.postgres.database import Database
from engine.stores.postgres.failures import COMMIT_FAILED, READ_FAILED, store_errors
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session
from engine.stores.postgres.transactions import unfenced

Q = queries("inbox.sql")

EVENTS: Final = "events"
ACT: Final = "act"
ANSWER: Final = "answer"
"""What is said to whoever listens: events were posted, an act was, an answer was written."""


MAX_WAITING_ROWS: Final = 1_000_000
"""Requests that may wait in the inbox: hours without an owner, and a bound on what senders can make the database keep."""

COUNT_EVERY_S: Final = 1.0
RETRY_AFTER_S: Final = 5

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[list[bytes], list[tuple[str, bytes]], int]).decode


def channel_of(cell: int) -> str:
    """Where a cell's posts are announced."""
    return f"rollcall_inbox_{cell}"


class PostgresInbox:
    """The inbox of a cell as one thread of a replica uses it, on a connection of its own. StoreError when that fails."""

    def __init__(self, database: Database, cell: int, *, max_rows: int = MAX_WAITING_ROWS) -> None:
        """`max_rows`: that may wait before senders are asked to come back."""
        self._session = Session(database)
        self._cell, self._replica, self._max_rows = cell, database.replica, max_rows
        # By cell: when it was counted what waits, and whether that is too much.
        self._full: dict[int, tuple[float, bool]] = {}

    def post(self, entries: Sequence[PostedEvents]) -> None:
        """Write events in one transaction; they are durable when this returns. Overloaded while too many wait for an owner."""
        rows = [
            (one.cell or self._cell, one.source, self._replica, _pack((one.raw, one.rejected, one.rejected_more)))
            for one in entries
        ]
        cells = sorted({row[0] for row in rows})
        if any(self._is_full(cell) for cell in cells):
            raise Overloaded(
                "the inbox of the cell is full: its owner does not apply what was posted; `rollcall cells` says who that is",
                RETRY_AFTER_S,
            )
        with store_errors(COMMIT_FAILED), unfenced(self._session):
            self._session.write_many(Q["post"], rows)
            for cell in cells:
                self._ring(cell, EVENTS)

    def _is_full(self, cell: int) -> bool:
        """Do as many rows wait as may? Looked up once a second at most."""
        counted_s, is_full = self._full.get(cell, (None, False))
        if counted_s is None or time.monotonic() - counted_s >= COUNT_EVERY_S:
            with store_errors(READ_FAILED):
                found = self._session.row(Q["backlog"], (cell,))
            is_full = found is not None and found[0] >= self._max_rows
            self._full[cell] = time.monotonic(), is_full
        return is_full

    def waiting(self, limit: int, beside: Collection[int]) -> list[PostedRow]:
        """Rows that wait for the owner, oldest first, without those whose numbers are given."""
        with store_errors(READ_FAILED):
            rows = self._session.rows(Q["waiting"], (self._cell, list(beside), limit))
        return [PostedRow(id_, at, PostedEvents(source, *_unpack(body))) for id_, at, source, body in rows]

    def ask(self, name: str, arguments: str, cells: Sequence[int] = ()) -> int:
        """Write an act for the owners of these cells (none: of the own cell); its number. It is durable when this returns."""
        wanted = list(cells) or [self._cell]
        with store_errors(COMMIT_FAILED), unfenced(self._session):
            row = self._session.row(Q["ask"], (self._replica, name, arguments, wanted))
            for cell in wanted:
                self._ring(cell, ACT)
        assert row is not None
        return int(row[0])

    def acts(self, limit: int) -> list[PostedAct]:
        """Acts that wait for the owner, oldest first."""
        with store_errors(READ_FAILED):
            return [PostedAct(*row) for row in self._session.rows(Q["acts_waiting"], (self._cell, limit))]

    def act(self, number: int, cells: Sequence[int] = ()) -> list[ActStanding]:
        """What became of an act in each of these cells (none: in the own one) that it was for; empty: there is none, or it was long ago."""
        with store_errors(READ_FAILED):
            return [ActStanding(*row) for row in self._session.rows(Q["act"], (list(cells) or [self._cell], number))]

    def answer(self, number: int, answer: str) -> None:
        """Write what an act is answered with. No fence: what it says was committed, or will never be."""
        with store_errors(COMMIT_FAILED), unfenced(self._session):
            self._session.write(Q["answer_act"], (answer, self._cell, number))
            self._ring(self._cell, ANSWER)

    def purge(self, older_s: float) -> None:
        """Drop acts that were done longer ago than this."""
        with store_errors(COMMIT_FAILED), unfenced(self._session):
            self._session.write(Q["purge_acts"], (self._cell, older_s))

    def close(self) -> None:
        """Give the connection up."""
        self._session.drop()

    def _ring(self, cell: int, what: str) -> None:
        self._session.row(Q["ring"], (channel_of(cell), what))


class PostgresPosted:
    """The same tables inside the owner's transaction, on the writer's session."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session, self._cell = session, cell

    def delete(self, rows: Sequence[PostedRow]) -> None:
        """These rows of the inbox have their effect with this transaction. StoreError when one of them has had it already."""
        with store_errors(COMMIT_FAILED):
            gone = self._session.changed(
                Q["delete"],
                {"cell": self._cell, "ids": [row.id for row in rows], "received": [row.received_at for row in rows]},
            )
        if gone != len(rows):
            raise StoreError("what was posted has been applied already")

    def forward(self, entries: Sequence[PostedEvents], replica: str) -> None:
        """Put events into the inboxes of other cells with this transaction."""
        rows = [
            (one.cell or self._cell, one.source, replica, _pack((one.raw, one.rejected, one.rejected_more)))
            for one in entries
        ]
        with store_errors(COMMIT_FAILED):
            self._session.write_many(Q["post"], rows)

    def take(self, number: int) -> bool:
        """An act has its effect with this transaction. False: it has had it already."""
        with store_errors(COMMIT_FAILED):
            return self._session.changed(Q["take_act"], (self._cell, number)) == 1
