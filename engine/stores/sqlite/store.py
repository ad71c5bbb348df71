"""The embedded store: one SQLite file in WAL mode with `synchronous=FULL`, one writer.

The journal is the truth; client rows are a cache of it, written lazily in slices (see `services.writer`). Every method is
called from the writer's thread and inside `transaction`, except those that say they only read, which use a connection of
their own. Opening takes a lock on the data folder, so that a second instance is refused instead of paging twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import IO, Any

import msgspec

from engine.actions.base import OutboxItem
from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.core.history import FACT_OFFSET, POSITION_BITS, Fact
from engine.core.presence.client_state import ClientState, Transition, state_of_row
from engine.errors import StoreError, StoreInUse
from engine.sources.base import Gap
from engine.stores.base import NewCorrection, NewDelivery, ReconciliationRow, Tally
from engine.stores.journal import JournalRow
from engine.stores.sqlite import alert_rows, delivery_rows, sweep_rows

FILE_NAME = "rollcall.sqlite3"
LOCK_NAME = "rollcall.lock"
WAL_PAGES = 20_000
"""Pages in the write-ahead log before SQLite copies them back: larger is faster, up to a longer pause."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def failpoint(name: str) -> None:
    """Die here, as if the power had gone, when `ROLLCALL_FAILPOINT` is `name:N` and this is the N-th time. For tests."""
    wanted = _FAILPOINT.get(name)
    if wanted is not None:
        _FAILPOINT[name] = wanted - 1
        if wanted <= 1:
            os.kill(os.getpid(), signal.SIGKILL)


def _failpoints() -> dict[str, int]:
    name, _, count = os.environ.get("ROLLCALL_FAILPOINT", "").partition(":")
    return {name: int(count or 1)} if name else {}


_FAILPOINT = _failpoints()


def queries(text: str) -> dict[str, str]:
    """Named queries of an SQL file: name -> statement."""
    parts = _NAME.split(text)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _sql(name: str) -> str:
    return (resources.files("engine.stores.sqlite") / "sql" / name).read_text(encoding="utf-8")


Q = queries(_sql("queries.sql"))


def owner(data: Path) -> int | None:
    """The process that was the last to take the lock on a data folder, working or not; None: nobody, or it may not be seen."""
    try:
        return int((data / LOCK_NAME).read_text("ascii", "replace")[:20])
    except (OSError, ValueError):
        return None


class SqliteStore:
    """The store on one file. `open` it, use it from one thread, `close` it."""

    def __init__(self, data: Path, connection: sqlite3.Connection, lock: IO[str] | None) -> None:
        self.path = data / FILE_NAME
        self.connection = connection
        self._lock = lock

    @classmethod
    def open(cls, data: Path) -> SqliteStore:
        """Open or create the store in a folder for writing; StoreInUse while another process has it, else StoreError."""
        try:
            data.mkdir(parents=True, exist_ok=True)
            lock = (data / LOCK_NAME).open("a+")
        except OSError as error:
            raise StoreError(f"the data folder {data} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise StoreInUse(f"{data} is in use by another rollcall (process {holder}); stop it first") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            connection = _connect(data / FILE_NAME)
        except sqlite3.Error as error:
            lock.close()
            raise StoreError(f"{data / FILE_NAME} cannot be opened: {error}") from error
        return cls(data, connection, lock)

    @classmethod
    def open_read_only(cls, data: Path) -> SqliteStore:
        """Open for reading beside a running instance, or when none runs; StoreError when there is no store."""
        path = data / FILE_NAME
        if not path.exists():
            raise StoreError(f"there is no store at {path} yet")
        try:
            connection = sqlite3.connect(
                f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA busy_timeout = 5000")
            connection.execute("SELECT 1 FROM meta LIMIT 1")
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        return cls(data, connection, None)

    def reader(self) -> sqlite3.Connection:
        """One more connection, for reading on another thread."""
        return SqliteStore.open_read_only(self.path.parent).connection

    def close(self) -> None:
        """Give the file back."""
        self.connection.close()
        if self._lock is not None:
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when the block is left; StoreError when it could not be, and then nothing of it is."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            failpoint("before_commit")
            self.connection.execute("COMMIT")
            failpoint("after_commit")
        except BaseException as error:
            if self.connection.in_transaction:
                with suppress(sqlite3.Error):  # SQLite rolls back by itself on a full disk
                    self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"the store could not commit: {error}") from error
            raise

    # The journal

    def last_journal_id(self) -> int:
        """The newest row's id, also when older ones were purged; 0 for a new store."""
        newest = self.connection.execute(Q["last_journal_id"]).fetchone()[0]
        return max(int(newest), int(self.meta("checkpoint") or 0))

    def append_journal(
        self, row: int, at_ms: int, source: str, events: Sequence[bytes], previous: Sequence[int], facts: Sequence[Fact]
    ) -> None:
        """Add one row: what a batch accepted, or what passing time brought about."""
        self.connection.execute(
            Q["append_journal"],
            (row, at_ms, source, len(events), b"\n".join(events), array("q", previous).tobytes(), _encode(facts)),
        )

    def journal_after(self, row: int) -> Iterator[JournalRow]:
        """Rows newer than `row`, oldest first, without history positions."""
        for found, at_ms, events, facts in self.connection.execute(Q["journal_after"], (row,)):
            yield JournalRow(found, at_ms, "", _lines(events), (), _facts(facts))

    def journal_row(self, row: int) -> JournalRow | None:
        """One row, None when it was purged."""
        found = self.connection.execute(Q["journal_row"], (row,)).fetchone()
        if found is None:
            return None
        at_ms, source, events, previous, facts = found
        positions = array("q")
        positions.frombytes(previous)
        return JournalRow(row, at_ms, source, _lines(events), positions, _facts(facts))

    def history(self, position: int, limit: int) -> Iterator[tuple[int, JournalRow, bytes | Fact]]:
        """A client's entries from a history position backwards: (position, row, event or fact), newest first."""
        rows: dict[int, JournalRow | None] = {}
        while position and limit:
            number, place = (position >> POSITION_BITS, position & ((1 << POSITION_BITS) - 1))
            if number not in rows:
                if len(rows) > 64:
                    rows.clear()
                rows[number] = self.journal_row(number)
            row = rows[number]
            if row is None:
                return
            limit -= 1
            if place >= FACT_OFFSET:
                fact = row.facts[place - FACT_OFFSET]
                yield position, row, fact
                position = fact.previous
            else:
                yield position, row, row.events[place]
                position = row.previous[place]

    # Client states

    def load_clients(self) -> dict[str, ClientState]:
        """Every client row, as states."""
        states: dict[str, ClientState] = {}
        for client, _, packed in self.connection.execute(Q["all_clients"]):
            states[client] = state_of_row(_decode(packed), client)
        return states

    def write_clients(self, clients: Iterable[tuple[str, ClientState | None]]) -> None:
        """Write states (None: forgotten) as of the newest committed journal row."""
        kept, gone = [], []
        for client, state in clients:
            if state is None:
                gone.append((client,))
            else:
                kept.append((client, state.last, _encode(state.as_row())))
        self.connection.executemany(Q["write_client"], kept)
        if gone:
            self.connection.executemany(Q["delete_client"], gone)

    # Alerts and throttles

    def write_alerts(self, alerts: Iterable[Alert]) -> None:
        """Write changed alerts; a dropped one leaves no row."""
        kept, gone = [], []
        for alert in alerts:
            if alert.state == "dropped":
                gone.append((alert.id,))
            else:
                kept.append(_alert_row(alert))
        if kept:
            self.connection.executemany(Q["write_alert"], kept)
        if gone:
            self.connection.executemany(Q["delete_alert"], gone)

    def open_alerts(self) -> list[Alert]:
        """Alerts that are about something that goes on, oldest first."""
        return [_alert(row) for row in self.connection.execute(Q["open_alerts"])]

    def write_throttles(self, throttles: Iterable[Throttled]) -> None:
        """Write changed throttles; one in which nothing counts leaves no row."""
        for throttled in throttles:
            if throttled.firings:
                row = (throttled.rule, throttled.key, json.dumps(throttled.firings))
                self.connection.execute(Q["write_throttle"], row)
            else:
                self.connection.execute(Q["delete_throttle"], (throttled.rule, throttled.key))

    def throttles(self) -> list[Throttled]:
        """Every throttle with its firings that may still count."""
        rows = self.connection.execute(Q["all_throttles"])
        return [Throttled(rule, key, json.loads(firings)) for rule, key, firings in rows]

    def write_kept(self, out: Output) -> None:
        """Write what a step changed of silences, groups, outages and their members, schedules and bursts."""
        alert_rows.write(self.connection, out)

    def kept(self) -> Kept:
        """All of these that are not over; silences also when they are."""
        return alert_rows.read(self.connection)

    def add_deliveries(self, rows: Sequence[NewDelivery]) -> list[OutboxItem]:
        """Write rendered deliveries; returns those that may leave at once."""
        ids = delivery_rows.insert(self.connection, rows)
        return delivery_rows.fresh_items(self.connection, rows, ids)

    def failpoint(self, name: str) -> None:
        """A place where tests may kill the process."""
        failpoint(name)

    # Sources, quarantine, rules, meta

    def write_source(
        self, name: str, position: str | None, caught_up_to_ms: int | None, last_event_at_ms: int | None
    ) -> None:
        """Move a source's position; what is None stays as it was."""
        self.connection.execute(Q["write_source"], (name, position, caught_up_to_ms, last_event_at_ms))

    def sources(self) -> dict[str, tuple[str | None, int | None, int | None]]:
        """Name -> (position, caught_up_to_ms, last_event_at_ms)."""
        return {
            name: (position, upto, last) for name, position, upto, last in self.connection.execute(Q["all_sources"])
        }

    def write_gap(self, gap: Gap) -> None:
        """Record messages that were never read and are gone."""
        self.connection.execute(Q["write_gap"], (gap.source, gap.noted_at_ms, gap.from_ms, gap.to_ms, gap.reason))

    def gaps(self, limit: int = 1000) -> list[Gap]:
        """Recorded gaps, newest first."""
        rows = self.connection.execute(Q["all_gaps"], (limit,))
        return [
            Gap(source=source, noted_at_ms=noted, from_ms=start, to_ms=end, reason=reason)
            for source, noted, start, end, reason in rows
        ]

    def quarantine(self, source: str, received_at_ms: int, rejected: Iterable[tuple[str, bytes]]) -> None:
        """Keep what could not be accepted: (reason, raw bytes)."""
        rows = [(received_at_ms, source, reason, raw) for reason, raw in rejected]
        self.connection.executemany(Q["quarantine"], rows)

    def delete_quarantined(self, ids: Iterable[int]) -> None:
        """Drop what has been accepted after all."""
        self.connection.executemany(Q["delete_quarantined"], [(id_,) for id_ in ids])

    def rules(self) -> dict[str, tuple[str, int | None]]:
        """Rules that were loaded before: name -> (definition, missing since)."""
        return {name: (definition, missing) for name, definition, _, missing in self.connection.execute(Q["all_rules"])}

    def write_rule(self, name: str, definition: str, now_ms: int, missing_since_ms: int | None) -> None:
        """Remember a rule."""
        self.connection.execute(Q["write_rule"], (name, definition, now_ms, missing_since_ms))
        alert_rows.write_version(self.connection, name, definition, now_ms)

    def delete_rule(self, name: str) -> None:
        """Forget a rule."""
        self.connection.execute(Q["delete_rule"], (name,))

    def meta(self, key: str) -> str | None:
        """One remembered value."""
        row = self.connection.execute(Q["read_meta"], (key,)).fetchone()
        return row[0] if row else None

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        self.connection.execute(Q["write_meta"], (key, value))

    # Reconciling

    def begin_reconciliation(self, why: str, scope: Mapping[str, Any] | None, started_at_ms: int, total: int) -> int:
        """A sweep begins; its number."""
        return sweep_rows.begin(self.connection, why, scope, started_at_ms, total)

    def count_reconciliation(self, number: int, more: Tally) -> None:
        """So many more clients of a sweep have their final answer."""
        sweep_rows.count(self.connection, number, more)

    def write_reconciliation_total(self, number: int, total: int) -> None:
        """How many clients a sweep is about."""
        sweep_rows.write_total(self.connection, number, total)

    def finish_reconciliation(self, number: int, finished_at_ms: int) -> None:
        """A sweep has ended."""
        sweep_rows.finish(self.connection, number, finished_at_ms)

    def open_reconciliations(self) -> list[ReconciliationRow]:
        """Sweeps that have not ended, oldest first."""
        return sweep_rows.open_(self.connection)

    def write_corrections(self, corrections: Sequence[NewCorrection]) -> None:
        """Record what was corrected."""
        sweep_rows.correct(self.connection, corrections)

    # Retention

    def purge(self, before_ms: int, checkpoint: int, limit: int = 2_000, quarantined: int = 10_000) -> int:
        """Drop history, ended alerts and quarantine older than `before_ms`, never past the checkpoint; returns rows."""
        execute = self.connection.execute
        gone = execute(Q["purge_journal"], (before_ms, checkpoint, limit)).rowcount
        gone += execute(Q["purge_alerts"], (before_ms, limit)).rowcount
        gone += execute(Q["trim_quarantine"], (quarantined, before_ms)).rowcount
        gone += delivery_rows.purge(self.connection, before_ms)
        gone += sweep_rows.purge(self.connection, before_ms, limit)
        gone += alert_rows.purge(self.connection, before_ms, limit)
        return gone


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
    folder = resources.files("engine.stores.sqlite") / "sql"
    files = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name))
    newest = int(files[-1][:4])
    if version > newest:
        raise sqlite3.DatabaseError(f"it was written by a newer version (schema {version}, this knows {newest})")
    for number, name in [(int(name[:4]), name) for name in files if int(name[:4]) > version]:
        outbox = delivery_rows.queries()["create"] if number == 1 else ""
        connection.executescript(f"BEGIN; {_sql(name)}; {outbox}; PRAGMA user_version = {number}; COMMIT;")


def _lines(events: bytes) -> list[bytes]:
    return events.split(b"\n") if events else []


def _facts(packed: bytes) -> list[Fact]:
    return [_fact(*fields) for fields in _decode(packed)]


def _fact(
    after: int, kind: str, client: str, at_ms: int, previous: int, answer: tuple[int, int, bool] | None = None
) -> Fact:
    return Fact(after, kind, client, at_ms, previous, None if answer is None else (answer[0], answer[1], answer[2]))


def _alert_row(alert: Alert) -> tuple[Any, ...]:
    transition = alert.transition and alert.transition.as_row()
    kept = [alert.detail, transition, alert.notification_id, alert.verified]
    detail = json.dumps([*kept, alert.until] if alert.until else kept, ensure_ascii=False)
    return (
        alert.id,
        alert.rule,
        alert.client,
        alert.source,
        alert.trigger,
        alert.state,
        alert.reason,
        alert.started_at_ms,
        alert.due_at_ms,
        alert.fired_at_ms,
        alert.resolved_at_ms,
        alert.notified,
        alert.throttle_key,
        detail,
        alert.key,
        # An outage and its members know their alert by its full name; everything else is content with the id.
        json.dumps(
            [alert.group, alert.acknowledged, alert.remind_at_ms, alert.name if alert.trigger == "outage" else None],
            ensure_ascii=False,
        ),
        alert.acknowledged_by or None,
    )


def _alert(row: Sequence[Any]) -> Alert:
    detail, transition, notification_id, *later = json.loads(row[13])
    group, acknowledged, remind_at_ms, name = json.loads(row[15]) or (None, False, None, None)
    return Alert(
        name=name or row[0],
        id=row[0],
        rule=row[1],
        client=row[2],
        source=row[3],
        trigger=row[4],
        state=row[5],
        reason=row[6],
        started_at_ms=row[7],
        due_at_ms=row[8],
        fired_at_ms=row[9],
        resolved_at_ms=row[10],
        notified=bool(row[11]),
        notification_id=notification_id,
        verified=later[0] if later else "",
        until=later[1] if len(later) > 1 else "",
        throttle_key=row[12],
        detail=detail,
        key=row[14],
        group=group,
        acknowledged=acknowledged,
        acknowledged_by=row[16] or "",
        remind_at_ms=remind_at_ms,
        transition=Transition.of_row(transition) if transition else None,
    )
