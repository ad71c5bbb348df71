"""What is asked of the SQLite store beside its writer: the `Reader` of `stores.base` over a connection of its own.

`Readers` keeps a few connections open: opening one costs more than most questions.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.core.alerting.silences import Silence
from engine.core.delivery import OutboxItem
from engine.sources.base import Gap
from engine.stores.access_tables import SqlAccess
from engine.stores.alert_rows import alert_as_seen, life_of
from engine.stores.base import (
    TOTALS_STOP,
    AlertLife,
    AlertRow,
    CorrectionRow,
    CurvePoint,
    DeliveryRow,
    FiringRow,
    HistoryEntry,
    JournalRow,
    LatencyCount,
    ProgressPoint,
    QuarantineRow,
    ReconciliationRow,
    RuleAlerts,
    RuleDeliveries,
    Share,
    SourceRow,
    Totals,
    Waiting,
)
from engine.stores.sqlite import activity, delivery_reads, journal, kept, measures, rules, sources, sweeps
from engine.stores.sqlite.access import access_tables
from engine.stores.sqlite.at_once import rows_at_once
from engine.stores.sqlite.failures import READ_FAILED, store_errors, translated
from engine.stores.sqlite.queries import queries

Q = queries("reading.sql")

OPEN_STATES = frozenset({"pending", "firing"})
"""States of alerts that are never over: an index holds exactly the open ones."""

MAX_IDLE = 4
"""Connections kept open between questions: as many as are usually asked at the same time."""


class Readers:
    """Readers of one file, handed to any thread, one thread each at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[SqliteReader]:
        """A reader for the block. StoreError when the store cannot be read."""
        with store_errors(READ_FAILED):
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = connect_to_read(self._path)
            try:
                yield SqliteReader(connection)
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; a reader in use is closed when its block ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.Error when there is no store or it cannot be read."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    # A damaged text costs its own row, not the whole list.
    connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("SELECT 1 FROM meta LIMIT 1")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@translated(READ_FAILED)
class SqliteReader:
    """Answers from what was committed before each question."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def access(self) -> SqlAccess:
        """Users, tokens, sessions and the audit log."""
        return access_tables(self._connection)

    def alerts(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[AlertRow]:
        """Alerts, newest first; `cursor` is (started_at_ms, id)."""
        at_ms, id_ = cursor if cursor is not None else (None, "")
        wanted = {"state": state, "rule": rule, "client": client, "at": at_ms, "id": id_, "limit": limit}
        return self._alerts("open_alerts" if state in OPEN_STATES else "alerts", wanted)

    def _alerts(self, name: str, wanted: Mapping[str, Any]) -> list[AlertRow]:
        return [alert_as_seen(row) for row in rows_at_once(self._connection, Q[name], wanted)]

    def held_back(self, *, limit: int = 100) -> list[AlertRow]:
        """Alerts that are suppressed at present, newest first."""
        wanted = {"state": "suppressed", "rule": None, "client": None, "at": None, "id": "", "limit": limit}
        return self._alerts("open_alerts", wanted)

    def firing(self, *, limit: int = 100) -> list[FiringRow]:
        """What fires at present, groups and bundles as one; what is not acknowledged comes first."""
        rows = rows_at_once(self._connection, Q["firing_notifications"], (limit,))
        return [
            FiringRow(id=row[10], first=alert_as_seen(row[:10]), count=row[11], acknowledged=row[12]) for row in rows
        ]

    def alerts_of(self, id_: str, *, limit: int = 100) -> list[AlertRow]:
        """Open alerts with this id, or all of the group or the bundle with this id."""
        return self._alerts("alerts_of", {"id": id_, "limit": limit})

    def alert(self, id_: str) -> AlertRow | None:
        """One alert."""
        row = self._connection.execute(Q["alert"], (id_,)).fetchone()
        return None if row is None else alert_as_seen(row)

    def alert_life(self, id_: str) -> AlertLife | None:
        """What else is kept of one alert."""
        row = self._connection.execute(Q["alert_life"], (id_,)).fetchone()
        return None if row is None else life_of(*row)

    def deliveries(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        alert: str | None = None,
        limit: int = 100,
        cursor: int | None = None,
    ) -> list[DeliveryRow]:
        """Deliveries, newest first; `cursor` is an id."""
        return delivery_reads.deliveries(
            self._connection, state=state, rule=rule, client=client, alert=alert, limit=limit, cursor=cursor
        )

    def delivery(self, number: int) -> DeliveryRow | None:
        """One delivery."""
        return delivery_reads.delivery_of(self._connection, number)

    def silences(
        self,
        *,
        now_ms: int,
        state: str | None = None,
        author: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[Silence]:
        """Silences, newest first; `cursor` is (from_ms, id)."""
        return kept.silences(self._connection, now_ms=now_ms, state=state, author=author, limit=limit, cursor=cursor)

    def rule_at(self, rule: str, at_ms: int) -> str | None:
        """The definition of a rule that was in force at an instant."""
        return rules.rule_at(self._connection, rule, at_ms)

    def silence(self, id_: str) -> Silence | None:
        """One silence."""
        return kept.silence(self._connection, id_)

    def quarantine(self, *, limit: int = 100, cursor: int | None = None) -> list[QuarantineRow]:
        """What was not accepted, newest first; `cursor` is an id."""
        return sources.quarantined(self._connection, limit, cursor)

    def sources(self) -> dict[str, SourceRow]:
        """How far each source was read."""
        return sources.sources(self._connection)

    def gaps(self, limit: int = 1000) -> list[Gap]:
        """Recorded gaps, newest first."""
        return sources.gaps(self._connection, limit)

    def reconciliations(self, *, limit: int = 100, cursor: int | None = None) -> list[ReconciliationRow]:
        """Sweeps, newest first; `cursor` is an id."""
        return sweeps.sweeps(self._connection, limit, cursor)

    def reconciliation(self, number: int) -> ReconciliationRow | None:
        """One sweep."""
        return sweeps.sweep(self._connection, number)

    def corrections(self, reconciliation: int | None, *, limit: int = 1000, cursor: int = 0) -> list[CorrectionRow]:
        """What was corrected, oldest first; `cursor` is an id."""
        return sweeps.corrections(self._connection, reconciliation, limit, cursor)

    def history(self, position: int) -> Iterator[HistoryEntry]:
        """A client's entries from a position backwards; nothing for a position that was purged or never was."""
        return journal.history(self._connection, position)

    def newest_journal(self, events: int) -> list[JournalRow]:
        """The newest rows of the journal that have so many events."""
        return journal.newest(self._connection, events)

    def totals(self) -> Totals:
        """How much there is."""
        unfinished = delivery_reads.counts(self._connection)
        return Totals(
            firing=self._count("open_count", "firing"),
            suppressed=self._count("open_count", "suppressed"),
            due=unfinished.get("due", 0),
            held=unfinished.get("held", 0),
            dead=self._count("dead", TOTALS_STOP),
            quarantined=self._count("quarantined", TOTALS_STOP),
        )

    def _count(self, name: str, *values: Any) -> int:
        return int(self._connection.execute(Q[name], values).fetchone()[0])

    def recorded(self, before: int | None, *, limit: int) -> list[JournalRow]:
        """Rows of the journal that have events, newest first."""
        return activity.recorded(self._connection, before, limit)

    def alerts_since(self, since_ms: int) -> list[RuleAlerts]:
        """Alerts that began since an instant, by rule, state and reason."""
        return activity.alerts_since(self._connection, since_ms)

    def deliveries_since(self, since_ms: int) -> list[RuleDeliveries]:
        """Deliveries that were decided since an instant, by rule, phase and state."""
        return activity.deliveries_since(self._connection, since_ms)

    def fleet_curve(self, group: str, from_ms: int, to_ms: int, step_ms: int, *, limit: int) -> list[CurvePoint]:
        """The fleet's curve, oldest first."""
        return measures.curve(self._connection, group, from_ms, to_ms, step_ms, limit)

    def curve_groups(self) -> list[str]:
        """The MQTT groups that were counted in the newest minute, by name."""
        return measures.groups(self._connection)

    def verdict_latency(self, from_ms: int, to_ms: int, step_ms: int, *, limit: int) -> list[LatencyCount]:
        """How long verdicts took, oldest first."""
        return measures.latency(self._connection, from_ms, to_ms, step_ms, limit)

    def outage_progress(self, alert: str, *, limit: int) -> list[ProgressPoint]:
        """How the outage of an alert went, oldest first."""
        return measures.progress(self._connection, alert, limit)

    def outages(self, from_ms: int, to_ms: int, *, limit: int = 100) -> list[AlertRow]:
        """Outages that went on between two instants, newest first."""
        return measures.outages(self._connection, from_ms, to_ms, limit)

    def waiting(self, now_ms: int) -> Waiting:
        """Which targets have something to send, and when the next retry is due."""
        return delivery_reads.waiting(self._connection, now_ms)

    def due(self, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
        """What may leave, a lane's earlier ones first."""
        return delivery_reads.due(self._connection, now_ms, shares)
