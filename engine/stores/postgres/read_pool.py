"""Sessions for questions beside the writer: a few, kept open, one question at a time each. Read `ReadPool.rows`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg

from engine.errors import StoreError
from engine.stores.postgres.failures import READ_FAILED, explain
from engine.stores.postgres.questions import Values
from engine.stores.postgres.session import prepared

MAX_SESSIONS = 6
"""Sessions of one store for questions: a server takes a hundred by default, and the replicas share them."""

WAIT_S = 30.0
"""How long a question waits for a session that others use."""


class ReadPool:
    """Hands a session to one question at a time, from any thread. Each question sees what was committed before it."""

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        """`connect` makes a session. StoreError when it cannot."""
        self._connect = connect
        self._free = threading.Semaphore(MAX_SESSIONS)
        self._lock = threading.Lock()
        self._idle: list[psycopg.Connection] = []
        self._is_closed = False

    def row(self, statement: str, values: Values = ()) -> tuple[Any, ...] | None:
        """The first row of an answer, None: there is none. StoreError when nothing answers."""
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def rows(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows of an answer, from a session that is nobody else's meanwhile. StoreError when nothing answers.

        A session that was lost since its last question costs no answer: the question is asked again on a new one.
        """
        if not self._free.acquire(timeout=WAIT_S):
            raise StoreError(f"{READ_FAILED}: all {MAX_SESSIONS} sessions have been in use for {WAIT_S:.0f} s")
        try:
            while (connection := self._take_idle()) is not None:
                try:
                    return self._answer(connection, statement, values)
                except psycopg.Error as error:
                    if not connection.closed:
                        raise explain(READ_FAILED, error) from error
            try:
                return self._answer(prepared(self._connect()), statement, values)
            except psycopg.Error as error:
                raise explain(READ_FAILED, error) from error
        finally:
            self._free.release()

    def _answer(self, connection: psycopg.Connection, statement: str, values: Values) -> list[tuple[Any, ...]]:
        try:
            return connection.cursor(binary=True).execute(statement, values).fetchall()
        finally:
            self._give_back(connection)

    def _take_idle(self) -> psycopg.Connection | None:
        with self._lock:
            if self._is_closed:
                raise StoreError(f"{READ_FAILED}: the store was closed")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: psycopg.Connection) -> None:
        with self._lock:
            if not self._is_closed and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; a session in use is closed after its question."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
