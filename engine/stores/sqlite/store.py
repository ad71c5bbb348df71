"""The embedded store: one SQLite file in WAL mode with `synchronous=FULL`, one writer.

The journal is the truth; client rows are a cache of it, written lazily in slices (see `runtime.writer`). Opening takes a lock on
the data folder, so that a second instance is refused instead of paging twice. Read `SqliteStore.open` and `transaction`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from engine.errors import StoreError
from engine.stores.sqlite import kept, measures, sweeps
from engine.stores.sqlite.access import access_tables
from engine.stores.sqlite.alerts import SqliteAlerts
from engine.stores.sqlite.clients import SqliteClients
from engine.stores.sqlite.copying import SqliteCopySide
from engine.stores.sqlite.deliveries import SqliteDeliveries
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.folder_lock import FILE_MODE, FolderLock
from engine.stores.sqlite.journal import SqliteJournal
from engine.stores.sqlite.measures import SqliteMeasures
from engine.stores.sqlite.meta import read_meta, write_meta
from engine.stores.sqlite.queries import migrations, queries, script
from engine.stores.sqlite.reader import Readers, SqliteReader, connect_to_read
from engine.stores.sqlite.rules import SqliteRules
from engine.stores.sqlite.sources import SqliteQuarantine, SqliteSources
from engine.stores.sqlite.sweeps import SqliteSweeps

FILE_NAME = "rollcall.sqlite3"
WAL_PAGES = 20_000
"""Pages in the write-ahead log before SQLite copies them back: larger is faster, up to a longer pause."""

PURGED_ROWS = 2_000
"""Rows of each kind that one purge removes: a slice that never holds up the writer."""

FAR_BACK_MS = 3_600_000
"""A clock that is put back by more than this leaves rows in the future for long: they are looked for, which reads whole tables."""

AHEAD_ROWS = "clock_ahead_rows"
"""Remembered value, `ROW:INSTANT`: journal rows up to this one may be stamped later than they were written, before this instant."""

QUARANTINED_ROWS = 10_000
"""Rejected events that are kept; of more, the newest."""

Q = queries("queries.sql")
CLOCK = queries("clock.sql")


def _create(path: Path) -> None:
    """Make the file for this user alone, if there is none; SQLite gives its other files the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, FILE_MODE))


@translated(COMMIT_FAILED)
class SqliteStore:
    """See `stores.base.Store`. `open` it, use it from one thread, `close` it; `reading` is for every thread."""

    def __init__(
        self,
        data: Path,
        connection: sqlite3.Connection,
        lock: FolderLock | None = None,
        reached: Callable[[str], None] = lambda place: None,
    ) -> None:
        self.path = data / FILE_NAME
        self._connection = connection
        self._lock = lock
        self._reached = reached
        self._readers = Readers(self.path)
        self.journal = SqliteJournal(connection)
        self.clients = SqliteClients(connection)
        self.alerts = SqliteAlerts(connection)
        self.deliveries = SqliteDeliveries(connection)
        self.sweeps = SqliteSweeps(connection)
        self.measures = SqliteMeasures(connection)
        self.sources = SqliteSources(connection)
        self.quarantine = SqliteQuarantine(connection)
        self.rules = SqliteRules(connection)
        self.access = access_tables(connection)

    @classmethod
    def open(cls, data: Path, reached: Callable[[str], None] = lambda place: None) -> SqliteStore:
        """Open or create the store in a folder for writing; StoreInUse while another process has it, else StoreError.

        `reached` is called with a transaction's places `before_commit` and `after_commit`.
        """
        lock = FolderLock.take(data)
        try:
            _create(data / FILE_NAME)
            connection = _connect(data / FILE_NAME)
        except (sqlite3.Error, OSError) as error:
            lock.release()
            raise StoreError(f"{data / FILE_NAME} cannot be opened: {error}") from error
        return cls(data, connection, lock, reached)

    @classmethod
    def open_read_only(cls, data: Path) -> SqliteStore:
        """Open for reading beside a running instance, or when none runs; StoreError when there is no store."""
        path = data / FILE_NAME
        if not path.exists():
            raise StoreError(f"there is no store at {path} yet: start the service once with `rollcall run`")
        if not path.is_file():
            raise StoreError(f"{path} is not a regular file: reading it could wait for ever")
        try:
            connection = connect_to_read(path)
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        return cls(data, connection)

    def close(self) -> None:
        """Give the file back."""
        self._readers.close()
        self._connection.close()
        if self._lock is not None:
            self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction, durable when the block is left; StoreError when it could not be, and then nothing of it is."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._reached("before_commit")
            self._connection.execute("COMMIT")
            self._reached("after_commit")
        except BaseException as error:
            with suppress(sqlite3.Error):  # SQLite rolls back by itself on a full disk
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{COMMIT_FAILED}: {error}") from error
            raise

    def reading(self) -> AbstractContextManager[SqliteReader]:
        """A reader beside the writer, on a connection of its own."""
        return self._readers.reading()

    @classmethod
    def open_to_copy(cls, data: Path, *, is_source: bool) -> SqliteCopySide:
        """The whole store in a folder as one side of a copy; the other side is another store. Raises as `open` does.

        A source must exist, a target is made.
        """
        path = data / FILE_NAME
        if is_source and not path.is_file():
            raise StoreError(f"there is no store at {path}: nothing to copy")
        return cls.open(data).whole()

    def whole(self) -> SqliteCopySide:
        """Everything in it, as one side of a copy; the store belongs to that from now on."""
        return SqliteCopySide(self.path, self._connection, self.transaction, self.close)

    def proof(self, challenge: str) -> str:
        """See `FolderLock.proof`; empty without the lock."""
        return self._lock.proof(challenge) if self._lock is not None else ""

    def meta(self, key: str) -> str | None:
        """One remembered value; None: there is none."""
        return read_meta(self._connection, key)

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        write_meta(self._connection, key, value)

    def step_clock(self, step_ms: int, now_ms: int) -> None:
        """See `stores.base.Store`. Rows of the journal stay as they are: their instants say what was decided."""
        moved = {"step": step_ms, "now": now_ms}
        for name in ("waiting", "retrying", "rules", "gaps", "sources", "meta"):
            self._connection.execute(CLOCK[name], moved)
        if step_ms <= -FAR_BACK_MS:
            for name in ("ended_deliveries", "ended_alerts", "quarantine", "sweeps", "corrections"):
                self._connection.execute(CLOCK[name], moved)
            measures.drop_ahead(self._connection, now_ms)
            self.write_meta(AHEAD_ROWS, f"{self.journal.last_id()}:{now_ms}")

    def _purge_rows_ahead(self, before_ms: int, checkpoint: int) -> int:
        """Drop journal rows that were stamped while the clock was ahead, once what followed them is old enough."""
        ahead = self.meta(AHEAD_ROWS)
        row, _, at_ms = (ahead or "").partition(":")
        if not at_ms or int(at_ms) >= before_ms:
            return 0
        return self._connection.execute(Q["purge_journal_to"], (int(row), checkpoint, PURGED_ROWS)).rowcount

    def purge(self, before_ms: int, checkpoint: int) -> int:
        """Drop history, ended alerts and quarantine older than `before_ms`, never past the checkpoint; returns rows."""
        execute = self._connection.execute
        gone = execute(Q["purge_journal"], (before_ms, checkpoint, PURGED_ROWS)).rowcount
        gone += self._purge_rows_ahead(before_ms, checkpoint)
        gone += execute(Q["purge_alerts"], (before_ms, PURGED_ROWS)).rowcount
        gone += execute(Q["trim_quarantine"], (QUARANTINED_ROWS, before_ms)).rowcount
        gone += self.deliveries.purge(before_ms)
        gone += sweeps.purge(self._connection, before_ms, PURGED_ROWS)
        gone += kept.purge(self._connection, before_ms, PURGED_ROWS)
        return gone + measures.purge(self._connection, before_ms, PURGED_ROWS)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        for pragma in (
            "page_size = 8192",
            "journal_mode = WAL",
            "synchronous = FULL",
            f"wal_autocheckpoint = {WAL_PAGES}",
            "journal_size_limit = 268435456",
            "cache_size = -65536",
            "busy_timeout = 5000",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        _migrate(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to the newest version, one numbered file after another, each in its own transaction."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = migrations()[-1][0]
    if version > newest:
        raise sqlite3.DatabaseError(
            f"it was written by a newer version of Rollcall (schema {version}; this version supports up to {newest}): upgrade this installation"
        )
    for number, name in [(number, name) for number, name in migrations() if number > version]:
        outbox = queries("outbox.sql")["create"] if number == 1 else ""
        connection.executescript(f"BEGIN; {script(name)}; {outbox}; PRAGMA user_version = {number}; COMMIT;")
