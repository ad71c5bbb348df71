"""The writer's session with the database: statements, one transaction at a time, and a new connection after one that was lost.

A transaction begins with its first statement and not before: what is computed before that keeps no lock, and the server does not
see us stand still. Outside a transaction each statement is one of its own, and a lost connection is replaced; inside one nothing is ever
repeated. Read `Session.begin` and `Session.commit`. Raises psycopg's errors; who calls translates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from engine.errors import StoreError
from engine.stores.postgres.arrays import QuickListDumper
from engine.stores.postgres.database import Database

Values = Sequence[Any] | dict[str, Any]

T = TypeVar("T")


class Session:
    """One connection for one thread. `write` and its like inside a transaction, `row` and its like anywhere."""

    def __init__(
        self, database: Database, connection: psycopg.Connection | None = None, *, reading: bool = False
    ) -> None:
        """`reading`: on any server that answers, also on a standby."""
        self._connect = database.connect_anywhere if reading else database.connect
        self._connection = connection and prepared(connection)
        self._opening: Callable[[], str] | None = None  # of a transaction: the text that begins it
        self._has_begun = False
        self._is_closed = False

    # The connection

    @property
    def is_lost(self) -> bool:
        """Is there no connection that works?"""
        return self._connection is None or self._connection.closed

    def connection(self) -> psycopg.Connection:
        """The connection, made anew when it was lost. StoreError when there is none."""
        if self._connection is None or self._connection.closed:
            if self._has_begun:  # what was written before the loss is gone: nothing may follow it
                raise StoreError("the connection to the database was lost inside a transaction")
            if self._is_closed:
                raise StoreError("the store was closed")
            self._connection = prepared(self._connect())
        return self._connection

    def _is_useless(self, error: psycopg.Error) -> bool:
        """Does the error mean that another connection may do better? One to a server that takes no writes any more is given up."""
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction) and self._connection is not None:
            self._connection.close()
        return self.is_lost

    def drop(self) -> None:
        """Give the connection up, whatever state it is in."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection, self._opening, self._has_begun = None, None, False

    def close(self) -> None:
        """Give the connection up for good."""
        self._is_closed = True
        self.drop()

    # A transaction

    @property
    def in_transaction(self) -> bool:
        """Is it between `begin` and its end?"""
        return self._opening is not None

    def begin(self, opening: Callable[[], str]) -> None:
        """A transaction; `opening` gives the statements that begin it, and is called right before they are sent."""
        if self._opening is not None:
            raise StoreError("a transaction is in hand already")
        self._opening, self._has_begun = opening, False

    def commit(self) -> None:
        """End the transaction; when this raises and the connection is lost, it may have been committed.

        The commit itself may take as long as a synchronous standby takes: given up, it would count as committed and
        might be on no standby.
        """
        connection = self._begun()
        done = connection.execute("SET LOCAL statement_timeout = 0; COMMIT")
        while done.nextset():
            pass
        self._opening, self._has_begun = None, False
        if (
            done.statusmessage != "COMMIT"
        ):  # PostgreSQL answers so to the COMMIT of a transaction in which a statement failed
            raise StoreError(f"the database undid the transaction ({done.statusmessage})")

    def rollback(self) -> None:
        """Undo the transaction; a connection that cannot is given up, and the server undoes it then."""
        connection, has_begun = self._connection, self._has_begun
        self._opening, self._has_begun = None, False
        if connection is None or not has_begun:
            return
        try:
            if not connection.closed:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            self.drop()

    def _begun(self) -> psycopg.Connection:
        """The connection inside the transaction in hand, which begins now if it has not."""
        if self._opening is None:
            raise StoreError("there is no transaction to write in")
        if self._has_begun:
            return self.connection()
        try:
            return self._open(self._opening)
        except psycopg.Error as error:
            if not self._is_useless(error):
                raise
        # A session that ended while nobody used it says so now; of a transaction that has only begun, nothing can be committed.
        return self._open(self._opening)

    def _open(self, opening: Callable[[], str]) -> psycopg.Connection:
        self._has_begun = False
        connection = self.connection()
        self._has_begun = True  # whatever becomes of it, the session must be rolled back
        connection.execute(opening())
        return connection

    # Statements

    def write(self, statement: str, values: Values = ()) -> None:
        """Execute a statement of the transaction; nobody asks for its result."""
        self._execute(self._begun(), statement, values)

    def write_many(self, statement: str, rows: Iterable[Values]) -> None:
        """Execute a statement once for each row."""
        connection = self._begun()
        given = list(rows)
        if not given:
            return
        with connection.cursor() as cursor:
            try:
                cursor.executemany(statement, given)
            except (psycopg.DataError, UnicodeEncodeError):
                if connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
                    raise
                cleaned = [writable(one) for one in given]
                if cleaned == given:
                    raise
                cursor.executemany(statement, cleaned)

    def changed(self, statement: str, values: Values = ()) -> int:
        """Execute a statement of the transaction; how many rows it changed."""
        return self._execute(self._begun(), statement, values).rowcount

    def row(self, statement: str, values: Values = ()) -> tuple[Any, ...] | None:
        """The first row of an answer, None: there is none. In the transaction in hand, if there is one."""
        return self._ask(lambda connection: self._execute(connection, statement, values).fetchone())

    def rows(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows of an answer."""
        return self._ask(lambda connection: self._execute(connection, statement, values).fetchall())

    def script(self, statements: str) -> None:
        """Execute several statements of the transaction; nobody asks for their results."""
        done = self._begun().execute(statements)
        while done.nextset():
            pass

    def stream(self, statement: str, values: Values = (), *, size: int) -> Iterator[tuple[Any, ...]]:
        """The rows of an answer that may be longer than memory, `size` at a time; nothing else may be asked until it is read."""
        connection = self._begun() if self.in_transaction else self.connection()
        with connection.cursor(binary=True) as cursor:
            yield from cursor.stream(statement, values, size=size)

    def copy_in(self, statement: str, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write many rows of the transaction with a `COPY ... FROM STDIN (FORMAT BINARY)`; `types`: of its columns."""
        with self._begun().cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that may fail alone."""
        with self._begun().transaction():
            yield

    def _ask(self, question: Callable[[psycopg.Connection], T]) -> T:
        if self.in_transaction:
            return question(self._begun())
        try:
            return question(self.connection())
        except psycopg.Error as error:
            if not self._is_useless(error):
                raise
        return question(self.connection())  # a session that ended while nobody asked says so at the next question

    def _execute(self, connection: psycopg.Connection, statement: str, values: Values) -> psycopg.Cursor:
        cursor = connection.cursor(binary=True)
        try:
            return cursor.execute(statement, values)
        except (psycopg.DataError, UnicodeEncodeError):
            # Text that PostgreSQL cannot hold is noticed before it is sent, so the transaction goes on.
            cleaned = writable(values)
            if connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR or cleaned == values:
                raise
            return cursor.execute(statement, cleaned)


def prepared(connection: psycopg.Connection) -> psycopg.Connection:
    """The same connection, with every number sent as a bigint, so that one statement is prepared once and not for each size."""
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.adapters.register_dumper(list, QuickListDumper)
    return connection


def writable(values: Any) -> Any:
    """The same values with U+FFFD for what no text of PostgreSQL holds: the character of number 0, and halves of surrogate pairs."""
    if isinstance(values, str):
        return values.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(values, dict):
        return {name: writable(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(writable(value) for value in values)
    return values
