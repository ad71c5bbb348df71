"""A whole cell in PostgreSQL, row by row, for moving it to another kind of store and back; see `stores.copied`.

The transaction of the copy holds the row of the cell, so no replica can take it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg

from engine.errors import StoreError, StoreInUse
from engine.stores.copied import TABLES, CopiedTable, Row, column_list
from engine.stores.postgres.failures import COMMIT_FAILED, READ_FAILED, store_errors
from engine.stores.postgres.journal import PURGED_TO
from engine.stores.postgres.partitions import Partitions
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session, writable

if TYPE_CHECKING:
    from engine.stores.postgres.store import PostgresStore

Q = queries("copying.sql")
JOURNAL = queries("journal.sql")

LARGE: Final = {"journal", "deliveries", "quarantine"}
"""Tables whose rows may be large: few of them are fetched at once."""

LARGE_AT_ONCE: Final = 8
SMALL_AT_ONCE: Final = 2_000

RUNNING_S: Final = 10.0
"""A replica that has said something of itself within this time is running."""


class PostgresCopySide:
    """See `stores.copied.CopySide`. The store belongs to it, and its cell is owned."""

    def __init__(self, store: PostgresStore, session: Session) -> None:
        """StoreInUse while a replica works on the cell, StoreError when it cannot be held."""
        self._store, self._session, self._cell = store, session, store.cell
        with store_errors(READ_FAILED):
            running = session.rows(Q["running"], (self._cell, RUNNING_S))
            info = session.connection().info
        if running:
            names = ", ".join(str(name) for (name,) in running)
            raise StoreInUse(
                f"these replicas are running: {names}; stop them first (their last sign may be {RUNNING_S:.0f} s old)"
            )
        self.place = f"cell {store.ownership.name} of the database {info.dbname} at {info.host}"
        store.own()
        with store_errors(READ_FAILED):
            waiting = session.row(Q["posted"], {"cell": self._cell})
        assert waiting is not None
        if waiting[0] or waiting[1]:
            raise StoreError(
                f"{waiting[0]} requests with events and {waiting[1]} requests of operators wait in {self.place} to be carried out:"
                " start one replica until they are, and stop it again"
            )
        self._types = {table.name: self._types_of(table) for table in TABLES}
        self._transaction: AbstractContextManager[None] | None = store.transaction()
        self._transaction.__enter__()
        with store_errors(COMMIT_FAILED):
            session.script(Q["patient"])  # from here on nobody else can take the cell

    def _types_of(self, table: CopiedTable) -> list[str]:
        with store_errors(READ_FAILED):
            found = dict(self._session.rows(Q["types"], (table.name,)))
        return [str(found[column]) for column in table.columns]

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        with store_errors(READ_FAILED):
            return {table.name: self._count(table) for table in TABLES}

    def _count(self, table: CopiedTable) -> int:
        found = self._session.row(f"SELECT count(*) {self._of(table)}", self._values())
        assert found is not None
        return int(found[0])

    def _values(self) -> dict[str, Any]:
        return {"cell": self._cell, "purged": PURGED_TO}

    def _of(self, table: CopiedTable) -> str:
        """What follows SELECT: the rows of the cell, without what was purged and is only not dropped yet."""
        kept = Q.get(f"kept_{table.name}", "true")
        return f"FROM {table.name} WHERE {'true' if table.is_shared else 'cell = %(cell)s'} AND {kept}"

    def rows(self, table: CopiedTable) -> Iterator[Row]:
        """Every row of a table."""
        columns, order = column_list(table.columns), column_list(table.order)
        size = LARGE_AT_ONCE if table.name in LARGE else SMALL_AT_ONCE
        truths = [at for at, kind in enumerate(self._types[table.name]) if kind == "bool"]
        with store_errors(READ_FAILED):
            for row in self._session.stream(
                f"SELECT {columns} {self._of(table)} ORDER BY {order}", self._values(), size=size
            ):
                yield _with(int, row, truths)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The transaction that holds the cell: it ends with the copy."""
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            raise StoreError("a copy is written in one transaction, and that has ended")
        try:
            yield
            with store_errors(COMMIT_FAILED):
                for table in TABLES:
                    self._go_on_after(table)
        except BaseException as error:
            if not transaction.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            transaction.__exit__(None, None, None)

    def _go_on_after(self, table: CopiedTable) -> None:
        """The next number that the table gives is none that was copied."""
        if table.name != "journal" and "id" in table.columns and self._types[table.name][0] == "int8":
            self._session.row(Q["go_on"].format(table=table.name))

    def as_held(self, row: Row) -> Row:
        """The row as PostgreSQL can hold it: no text has the character of number 0."""
        cleaned: Row = writable(row) if any(isinstance(value, str) and "\0" in value for value in row) else row
        return cleaned

    def write(self, table: CopiedTable, rows: Iterable[Row]) -> None:
        """Add rows, inside `writing`."""
        try:
            with store_errors(COMMIT_FAILED):
                if table.name == "journal":
                    self._write_journal(rows)
                else:
                    self._write_rows(table, rows)
        except StoreError as error:
            if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                raise StoreError(
                    f"{self.place}: numbers of {table.name} are in use by another cell: copy into a database of its own"
                ) from error
            raise

    def _write_rows(self, table: CopiedTable, rows: Iterable[Row]) -> None:
        types = self._types[table.name]
        truths = [at for at, kind in enumerate(types) if kind == "bool"]
        columns, cell = column_list(table.columns), () if table.is_shared else (self._cell,)
        self._session.copy_in(
            f"COPY {table.name} ({'cell, ' if cell else ''}{columns}) FROM STDIN (FORMAT BINARY)",
            [*(["int4"] if cell else []), *types],
            ((*cell, *_with(bool, row, truths)) for row in rows),
        )

    def _write_journal(self, rows: Iterable[Row]) -> None:
        partitions = Partitions(self._session, self._cell, lambda: 0)
        for number, at_ms, *rest in rows:
            assert isinstance(number, int) and isinstance(at_ms, int)
            part = partitions.of(number, at_ms)
            statement = JOURNAL["append"].format(cell=self._cell, part=part)
            self._session.write(statement, (self._cell, part, number, at_ms, *rest))

    def close(self) -> None:
        """Give the cell back."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            undone = _NothingWritten()
            with suppress(_NothingWritten, StoreError):
                transaction.__exit__(_NothingWritten, undone, None)
        self._store.close()


class _NothingWritten(Exception):
    """The transaction that held the cell of a source is undone."""


def _with(convert: Callable[[Any], Any], row: tuple[Any, ...], places: list[int]) -> tuple[Any, ...]:
    """A row with the values at these places converted, None left as it is."""
    if not places:
        return row
    return tuple(convert(value) if at in places and value is not None else value for at, value in enumerate(row))
