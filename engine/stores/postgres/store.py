"""The store of one cell in PostgreSQL: a journal that is the truth, and a fence before each transaction.

One replica at a time owns the cell; others may have the same store open and read. `open` makes the schema if it is missing and knows the
cell, `ownership.take()` makes this replica its owner, `transaction` commits only while it is. Client rows are a cache of the journal,
written lazily in slices (see `runtime.writer`). Read `PostgresStore.open` and `transaction`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from engine.errors import Fenced, StoreInUse
from engine.stores.postgres.cells import register
from engine.stores.postgres.database import Database
from engine.stores.postgres.failures import COMMIT_FAILED, NOT_OURS, explain, store_errors, translated
from engine.stores.postgres.inbox import PostgresPosted
from engine.stores.postgres.meta import read_meta, write_meta
from engine.stores.postgres.migrations import migrate
from engine.stores.postgres.ownership import Ownership
from engine.stores.postgres.session import Session

CELL = "main"
"""The name of the only cell, when the configuration names none."""


@translated(COMMIT_FAILED)
class PostgresStore:
    """See `stores.base.Store`. `open` it, use it from one thread, `close` it; `reading` is for every thread."""

    def __init__(
        self, database: Database, session: Session, cell: int, ownership: Ownership, reached: Callable[[str], None]
    ) -> None:
        self.database, self.cell, self.ownership = database, cell, ownership
        self._session, self._reached = session, reached
        self.posted = PostgresPosted(session, cell)

    @classmethod
    def open(
        cls, database: Database, cell: str = CELL, reached: Callable[[str], None] = lambda place: None
    ) -> PostgresStore:
        """Open the store of a cell without owning it, creating or migrating what is missing. StoreError says why it cannot be.

        `reached` is called with a transaction's places `before_commit` and `after_commit`.
        """
        connection = database.connect()
        try:
            with store_errors("the schema could not be made"):
                migrate(connection)
                number = register(connection, cell)
        except BaseException:
            connection.close()
            raise
        session = Session(database, connection)
        ownership = Ownership(session, cell, database.replica, database.lease_s)
        return cls(database, session, number, ownership, reached)

    def own(self) -> PostgresStore:
        """The same store, as the owner of its cell. StoreInUse while another replica is."""
        if not self.ownership.take():
            found = self.ownership.look()
            raise StoreInUse(
                f"the cell {found.name!r} is run by the replica {found.owner!r}: it is free when that gives it back,"
                f" or {self.database.lease_s:g} s after its last commit"
            )
        return self

    def close(self) -> None:
        """Give the cell and the connection back."""
        try:
            if self.ownership.is_owner and not self._session.in_transaction:
                self.ownership.release()
        finally:
            self._session.drop()

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

    def proof(self, challenge: str) -> str:
        """Empty: a cell is no folder, and who owns it is in the database."""
        return ""

    def meta(self, key: str) -> str | None:
        """One remembered value; None: there is none."""
        return read_meta(self._session, self.cell, key)

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        write_meta(self._session, self.cell, key, value)
