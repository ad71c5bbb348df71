"""What people ask of the cells of a database and change in them, beside their owners. Read `CellList`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from engine.core.cell_placement import ReplicaStanding
from engine.stores.postgres.cells import all_cells, register
from engine.stores.postgres.database import Database
from engine.stores.postgres.failures import store_errors
from engine.stores.postgres.fence import CellRow
from engine.stores.postgres.migrations import migrate
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

    def register(self, name: str) -> int:
        """Make a cell known; its number."""
        with store_errors("the cell could not be made known"):
            return register(self._connection, name)

    def replicas(self, within_s: float) -> list[ReplicaStanding]:
        """Replicas that described themselves so recently."""
        with store_errors("the replicas could not be read"):
            return [ReplicaStanding(*row) for row in self._connection.execute(Q["replicas"], (within_s,))]

    def want(self, cell: str, replica: str) -> None:
        """Say which replica shall own a cell; `!NAME`: any other than this one."""
        with store_errors("the cell could not be changed"):
            self._connection.execute(Q["want"], (replica, cell))
