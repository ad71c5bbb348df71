"""Moves a whole store to another one: everything in one transaction, read back and compared before it is committed. Read `copy_store`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.errors import StoreError
from engine.stores.copied import TABLES, CopiedTable, CopySide, Row
from engine.stores.row_sum import RowSum

CLIENTS = "clients"


class Copied(NamedTuple):
    """One table that was copied."""

    table: str
    rows: int


def copy_store(
    source: CopySide,
    target: CopySide,
    copied: Callable[[Copied], None] = lambda table: None,
    foreign: Callable[[str], str | None] = lambda client: None,
) -> list[Copied]:
    """Copy everything from one store into another that is empty; what was copied, and `copied` is told of each table on the way.

    `foreign`: why a client cannot be in the target, as a sentence; None: it can.
    Only a row of each side is in memory at a time. StoreError when there is nothing to copy, when the target is not empty, when a
    side cannot be read or written, and when what the target would hold differs; nothing of the copy is in the target then.
    """
    if not any(source.counts().values()):
        raise StoreError(f"{source.place} is empty: nothing to copy")
    filled = {name for name, count in target.counts().items() if count}
    # Another cell may have brought the users of the installation along: they stay.
    kept = {table.name for table in TABLES if table.is_shared} & filled
    there = {name: count for name, count in target.counts().items() if name in filled - kept}
    if there:
        found = ", ".join(f"{count} rows in {name}" for name, count in there.items())
        raise StoreError(
            f"{target.place} is not empty ({found}): a copy never mixes two stores; name a new place, or remove what is there first"
        )
    with target.writing():
        done = []
        for table in TABLES:
            if table.name in kept:
                continue
            found_rows = _copy_table(source, target, table, foreign)
            done.append(Copied(table.name, found_rows))
            copied(done[-1])
    return done


def _copy_table(source: CopySide, target: CopySide, table: CopiedTable, foreign: Callable[[str], str | None]) -> int:
    """Copy one table and compare it; how many rows it has. StoreError when the target holds something else."""
    read, held = RowSum(), RowSum()
    rows = source.rows(table)
    if table.name == CLIENTS:
        rows = _own_clients(rows, foreign)
    target.write(table, read.over(map(target.as_held, rows)))
    held.add_all(target.rows(table))
    if (held.rows, held.digest) != (read.rows, read.digest):
        raise StoreError(
            f"{target.place} does not hold what was copied: {held.rows} rows in {table.name} instead of {read.rows}"
            if held.rows != read.rows
            else f"{target.place} does not hold what was copied: rows in {table.name} differ"
        )
    return read.rows


def _own_clients(rows: Iterator[Row], foreign: Callable[[str], str | None]) -> Iterator[Row]:
    """The rows; StoreError when one is of a client that cannot be in the target."""
    for row in rows:
        if problem := foreign(str(row[0])):
            raise StoreError(f"{problem}: copy into a database with one cell, or give the cell that group")
        yield row
