"""What people ask of the cells of a database and change in them, beside their owners. Read `CellList`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from engine.core.cell_division import Division, division_problem
from engine.core.cell_placement import ReplicaStanding
from engine.errors import StoreError
from engine.stores.postgres.cells import all_cells, division_of, register
from engine.stores.postgres.database import Database
from engine.stores.postgres.failures import store_errors
from engine.stores.postgres.fence import CellRow
from engine.stores.postgres.migrations import MIGRATING, migrate
from engine.stores.postgres.queries import queries

Q = queries("cells.sql")


class CellList:
    """The cells over one session."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, database: Database) -> Iterator[CellList]:
        """A session for the block. StoreError when the database cannot be used."""
        connection = database.connect()
        try:
            with store_errors("the schema could not be made"):
                migrate(connection)
            yield cls(connection)
        finally:
            connection.close()

    def all(self) -> list[CellRow]:
        """Every cell."""
        return all_cells(self._connection)

    def divide(self, wanted: Sequence[Division]) -> dict[str, int]:
        """Make the cells of a configuration known; their numbers, by name. StoreError when the database is divided in another way."""
        with store_errors("the cells could not be made known"), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
            (are_used,) = self._connection.execute(Q["are_used"]).fetchone() or (False,)
            kept = division_of(self._connection)
            is_open = not are_used or not kept
            problem = None if is_open else division_problem(wanted, kept)
            # A cell of another division is not made: everybody would wait for its owner.
            numbers = {} if problem else {cell.name: register(self._connection, cell.name) for cell in wanted}
            if is_open:
                self._connection.execute(Q["undivide"])
                for cell in wanted:
                    self._connection.execute(Q["divide"], (list(cell.groups), cell.name))
        if problem:
            raise StoreError(problem)
        return numbers

    def replicas(self, within_s: float) -> list[ReplicaStanding]:
        """Replicas that described themselves so recently."""
        with store_errors("the replicas could not be read"):
            return [ReplicaStanding(*row) for row in self._connection.execute(Q["replicas"], (within_s,))]

    def want(self, cell: str, replica: str) -> None:
        """Say which replica shall own a cell; `!NAME`: any other than this one."""
        with store_errors("the cell could not be changed"):
            self._connection.execute(Q["want"], (replica, cell))
