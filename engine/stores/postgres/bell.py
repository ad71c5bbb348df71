"""Rings when something was posted to one of several cells: LISTEN on a connection and a thread of its own.

A ring says that it is worth looking. It may be missed while the connection is away, so whoever waits for one also looks now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing

import psycopg

from engine.errors import StoreError
from engine.stores.postgres.database import Database
from engine.stores.postgres.inbox import channel_of

AWAKE_S = 1.0
"""So often it looks whether it was closed, and so long it waits before it connects again."""


class PostgresBell:
    """`start` it; `ring` is called in its thread with what was posted, and with "" when it has begun to listen. `close` it."""

    def __init__(self, database: Database, cells: Sequence[int], ring: Callable[[str], None]) -> None:
        self._database, self._cells, self._ring = database, cells, ring
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbox-bell", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Listen no longer; returns when the thread has ended, which takes a second at most."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with closing(self._database.connect()) as connection:
                    self._listen(connection)
            except (StoreError, psycopg.Error):  # whoever waits looks by itself meanwhile
                self._closing.wait(AWAKE_S)

    def _listen(self, connection: psycopg.Connection) -> None:
        for cell in self._cells:
            connection.execute(f"LISTEN {channel_of(cell)}".encode())
        self._ring("")
        while not self._closing.is_set():
            for note in connection.notifies(timeout=AWAKE_S):
                self._ring(note.payload)
                if self._closing.is_set():
                    return
