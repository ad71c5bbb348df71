"""The cells of a database: making one known, and what the table says of all."""

from __future__ import annotations

import psycopg

from engine.core.cell_division import Division
from engine.errors import StoreError
from engine.stores.postgres.failures import store_errors
from engine.stores.postgres.fence import CellRow
from engine.stores.postgres.migrations import MIGRATING, check_version
from engine.stores.postgres.ownership import cell_row
from engine.stores.postgres.queries import queries

Q = queries("cells.sql")


def register(connection: psycopg.Connection, name: str) -> int:
    """Make a cell known, with a journal of its own; its number. Does nothing to one that is known."""
    found = connection.execute(Q["journal_of"], (name,)).fetchone()
    if found is not None and found[0] is not None:
        return int(found[1])
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
        connection.execute(Q["register"], (name,))
        row = connection.execute(Q["journal_of"], (name,)).fetchone()
        assert row is not None
        cell = int(row[1])
        if row[0] is None:
            # Attaching keeps the other cells at work; making the table as a partition right away would not.
            connection.execute(f"CREATE TABLE journal_{cell} (LIKE journal INCLUDING ALL) PARTITION BY LIST (part)")
            connection.execute(f"ALTER TABLE journal ATTACH PARTITION journal_{cell} FOR VALUES IN ({cell})")
    return cell


def known(connection: psycopg.Connection, name: str) -> int:
    """The number of a cell. StoreError when the database has no store, one of a newer version, or no such cell."""
    if not check_version(connection):
        raise StoreError("there is no store in this database yet: start the service once with `rollcall run`")
    found = connection.execute(Q["journal_of"], (name,)).fetchone()
    if found is None:
        raise StoreError(f"the database has no cell {name!r}: start a replica once whose configuration names it")
    return int(found[1])


def division_of(connection: psycopg.Connection) -> list[Division]:
    """How the database is divided, in the order in which its cells were made; empty: it is not said yet."""
    return [Division(name, tuple(groups)) for name, groups in connection.execute(Q["division"])]


def all_cells(connection: psycopg.Connection) -> list[CellRow]:
    """Every cell as the database has it, in the order of their numbers."""
    with store_errors("the cells could not be read"):
        return [cell_row(row) for row in connection.execute(Q["all"])]
