"""A whole SQLite store, row by row, for moving it to another kind of store and back; see `stores.copied`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from engine.stores.copied import TABLES, CopiedTable, Row, column_list
from engine.stores.sqlite.failures import COMMIT_FAILED, READ_FAILED, store_errors


class SqliteCopySide:
    """See `stores.copied.CopySide`. `transaction` and `close` are those of the store that is held."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        close: Callable[[], None],
    ) -> None:
        self.place = str(path)
        self.writing, self.close = transaction, close
        self._connection = connection

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        with store_errors(READ_FAILED):
            return {
                table.name: int(self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])
                for table in TABLES
            }

    def rows(self, table: CopiedTable) -> Iterator[Row]:
        """Every row of a table. A text that is damaged comes out with escapes, as readers show it."""
        columns, order = column_list(table.columns), column_list(table.order)
        cursor = self._connection.cursor()
        with store_errors(READ_FAILED):
            kept = self._connection.text_factory
            self._connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
            try:
                yield from cursor.execute(f"SELECT {columns} FROM {table.name} ORDER BY {order}")
            finally:
                self._connection.text_factory = kept
                cursor.close()

    def as_held(self, row: Row) -> Row:
        """The row as it is."""
        return row

    def write(self, table: CopiedTable, rows: Iterable[Row]) -> None:
        """Add rows, inside `writing`."""
        places = ", ".join("?" * len(table.columns))
        with store_errors(COMMIT_FAILED):
            self._connection.executemany(
                f"INSERT INTO {table.name} ({column_list(table.columns)}) VALUES ({places})", rows
            )
