"""The store of one cell in PostgreSQL: a journal that is the truth, and a fence before each transaction.

One replica at a time owns the cell; others may have the same store open and read. `open` makes the schema if it is missing and knows the
cell, `ownership.take()` makes this replica its owner, `transaction` commits only while it is. Client rows are a cache of the journal,
written lazily in slices (see `runtime.writer`). Read `PostgresStore.open` and `transaction`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import psycopg

from engine.core.cell_placement import ReplicaStanding
from engine.errors import Fenced, StoreInUse
from engine.stores.postgres import kept, measures, sweeps
from engine.stores.postgres.access import access_tables
from engine.stores.postgres.alerts import PostgresAlerts
from engine.stores.postgres.cells import known, register
from engine.stores.postgres.clients import PostgresClients
from engine.stores.postgres.copying import PostgresCopySide
from engine.stores.postgres.database import Database
from engine.stores.postgres.deliveries import PostgresDeliveries
from engine.stores.postgres.failures import COMMIT_FAILED, NOT_OURS, explain, store_errors, translated
from engine.stores.postgres.fence import CellRow
from engine.stores.postgres.inbox import PostgresPosted
from engine.stores.postgres.journal import PostgresJournal
from engine.stores.postgres.measures import PostgresMeasures
from engine.stores.postgres.meta import read_meta, write_meta
from engine.stores.postgres.migrations import migrate
from engine.stores.postgres.ownership import Ownership, cell_row, steady_s
from engine.stores.postgres.queries import queries
from engine.stores.postgres.reader import CellReaders, PostgresReader
from engine.stores.postgres.rules import PostgresRules
from engine.stores.postgres.session import Session
from engine.stores.postgres.sources import PostgresQuarantine, PostgresSources
from engine.stores.postgres.sweeps import PostgresSweeps

CELLS = queries("cells.sql")

CELL = "main"
"""The name of the only cell, when the configuration names none."""

PURGED_ROWS = 2_000
"""Rows of each kind that one purge removes: a slice that never holds up the writer."""

QUARANTINED_ROWS = 10_000
"""Rejected events that are kept of a cell; of more, the newest."""

FAR_BACK_MS = 3_600_000
"""A clock that is put back by more than this leaves rows in the future for long: they are looked for, which reads whole tables."""

AHEAD_ROWS = "clock_ahead_rows"
"""Remembered value, `ROW:INSTANT`: journal rows up to this one may be stamped later than they were written, before this instant."""

ALERTS, SOURCES, CLOCK = queries("alerts.sql"), queries("sources.sql"), queries("clock.sql")


@translated(COMMIT_FAILED)
class PostgresStore:
    """See `stores.base.Store`. `open` it, use it from one thread, `close` it; `reading` is for every thread."""

    def __init__(
        self,
        database: Database,
        session: Session,
        cell: int,
        ownership: Ownership,
        reached: Callable[[str], None],
        connect_to_read: Callable[[], psycopg.Connection],
    ) -> None:
        self.database, self.cell, self.ownership = database, cell, ownership
        self._session, self._reached = session, reached
        self._undone = 0  # transactions of ours that were, since the start
        self.journal = PostgresJournal(session, cell, lambda: (ownership.epoch, self._undone))
        self.clients = PostgresClients(session, cell)
        self.alerts = PostgresAlerts(session, cell)
        self.deliveries = PostgresDeliveries(session, cell)
        self.sweeps = PostgresSweeps(session, cell)
        self.measures = PostgresMeasures(session, cell)
        self._readers = CellReaders(connect_to_read, cell)
        self.sources = PostgresSources(session, cell)
        self.quarantine = PostgresQuarantine(session, cell)
        self.rules = PostgresRules(session, cell)
        self.access = access_tables(session)
        self.posted = PostgresPosted(session, cell)

    @classmethod
    def open(
        cls,
        database: Database,
        cell: str = CELL,
        reached: Callable[[str], None] = lambda place: None,
        now_s: Callable[[], float] = steady_s,
    ) -> PostgresStore:
        """Open the store of a cell without owning it, creating or migrating what is missing. StoreError says why it cannot be.

        `reached` is called with a transaction's places `before_commit` and `after_commit`; `now_s` as in `Ownership`.
        """
        connection = database.connect()
        try:
            with store_errors("the schema could not be made"):
                patience_s, connection.patience_s = connection.patience_s, math.inf  # a large table may take long
                migrate(connection)
                connection.patience_s = patience_s
                number = register(connection, cell)
        except BaseException:
            connection.close()
            raise
        session = Session(database, connection)
        ownership = Ownership(session, cell, database.replica, database.lease_s, now_s)
        return cls(database, session, number, ownership, reached, database.connect_to_read)

    @classmethod
    def open_read_only(cls, database: Database, cell: str = CELL) -> PostgresStore:
        """Open the store of a cell to read from it, on any server that answers. StoreError when there is none."""
        connection = database.connect_anywhere()
        try:
            with store_errors("the store could not be read"):
                number = known(connection, cell)
        finally:
            connection.close()
        session = Session(database, reading=True)
        ownership = Ownership(session, cell, database.replica, database.lease_s)
        return cls(database, session, number, ownership, lambda place: None, database.connect_anywhere)

    def own(self) -> PostgresStore:
        """The same store, as the owner of its cell. StoreInUse while another replica is."""
        if not self.ownership.take():
            found = self.ownership.look()
            raise StoreInUse(
                f"the cell {found.name!r} is in use by another replica, {found.owner!r}: it is free when that gives it back,"
                f" or {self.database.lease_s:g} s after its last commit"
            )
        return self

    def whole(self) -> PostgresCopySide:
        """Everything of the cell, as one side of a copy; the store belongs to that from now on. StoreInUse, StoreError."""
        return PostgresCopySide(self, self._session)

    def close(self) -> None:
        """Give the cell and the connection back."""
        try:
            if self.ownership.is_owner and not self._session.in_transaction:
                self.ownership.release()
        finally:
            self._readers.close()
            self._session.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction of the cell's owner, durable when the block is left; when this raises, nothing of it is.

        Fenced: another replica owns the cell. StoreBehind: memory must be loaded again. Any other StoreError: try again.
        """
        self.ownership.settle()
        self._session.begin(self.ownership.opening)
        try:
            yield
            self._reached("before_commit")
            self._commit()
        except BaseException as error:
            self._undone += 1
            self._session.rollback()
            if isinstance(error, psycopg.Error):
                if error.sqlstate == NOT_OURS:
                    self.ownership.stopped()
                raise explain(COMMIT_FAILED, error) from error
            if isinstance(error, Fenced) and self.ownership.is_owner:  # raised for the fence inside the block
                self.ownership.stopped()
            raise
        self._reached("after_commit")

    def _commit(self) -> None:
        try:
            self._session.commit()
        except psycopg.Error as error:
            if not self._session.is_lost or error.sqlstate == NOT_OURS:
                raise
            self.ownership.lost_while_committing(error)
        else:
            self.ownership.committed()

    def describe(self, standing: str, journal_row: int) -> None:
        """Say, for people, how this replica stands to the cell."""
        owner = self.ownership
        self._session.rows(
            f"{CELLS['describe']} RETURNING cell", (self.cell, owner.replica, standing, owner.epoch, journal_row)
        )

    def replicas(self, within_s: float) -> list[ReplicaStanding]:
        """The replicas of all cells, as those described themselves that did so within this time."""
        return [ReplicaStanding(*row) for row in self._session.rows(CELLS["replicas"], (within_s,))]

    def share_out(self, replica: str) -> None:
        """Inside a transaction: this cell shall go to another replica, unless there is another wish."""
        self._session.write(CELLS["share_out"], (replica, self.cell))

    def all_cells(self) -> list[CellRow]:
        """Every cell of the database, in the order of their numbers."""
        return [cell_row(row) for row in self._session.rows(CELLS["all"])]

    def database_ms(self) -> int:
        """What the database's clock shows now, epoch milliseconds."""
        row = self._session.row("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        assert row is not None
        return int(row[0])

    def reading(self, cells: Sequence[int] | None = None) -> AbstractContextManager[PostgresReader]:
        """A reader beside the writer, of this cell or of several, on sessions of its own."""
        return self._readers.reading(cells)

    def proof(self, challenge: str) -> str:
        """Empty: a cell is no folder, and who owns it is in the database."""
        return ""

    def meta(self, key: str) -> str | None:
        """One remembered value; None: there is none."""
        return read_meta(self._session, self.cell, key)

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        write_meta(self._session, self.cell, key, value)

    def step_clock(self, step_ms: int, now_ms: int) -> None:
        """See `stores.base.Store`. Rows of the journal stay as they are: their instants say what was decided."""
        moved = {"step": step_ms, "now": now_ms, "cell": self.cell}
        for name in ("waiting", "retrying", "rules", "gaps", "sources", "meta"):
            self._session.write(CLOCK[name], moved)
        if step_ms <= -FAR_BACK_MS:
            for name in ("ended_deliveries", "ended_alerts", "quarantine", "sweeps", "corrections"):
                self._session.write(CLOCK[name], moved)
            measures.drop_ahead(self._session, self.cell, now_ms)
            self.write_meta(AHEAD_ROWS, f"{self.journal.last_id()}:{now_ms}")

    def purge(self, before_ms: int, checkpoint: int) -> int:
        """Drop history, ended alerts and quarantine older than `before_ms`, never past the checkpoint; returns rows."""
        old = {"cell": self.cell, "before": before_ms, "limit": PURGED_ROWS, "kept": QUARANTINED_ROWS}
        gone = self.journal.purge(before_ms, checkpoint, self._ahead(before_ms))
        gone += self._session.changed(ALERTS["purge"], old)
        gone += self._session.changed(SOURCES["trim_quarantine"], old)
        gone += self.deliveries.purge(before_ms)
        gone += sweeps.purge(self._session, self.cell, before_ms, PURGED_ROWS)
        gone += kept.purge(self._session, self.cell, before_ms, PURGED_ROWS)
        return gone + measures.purge(self._session, self.cell, before_ms, PURGED_ROWS)

    def _ahead(self, before_ms: int) -> int:
        """Up to which journal row instants say nothing, once what followed these rows is old enough; 0: they all say something."""
        row, _, at_ms = (self.meta(AHEAD_ROWS) or "").partition(":")
        return int(row) if at_ms and int(at_ms) < before_ms else 0
