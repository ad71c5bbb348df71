"""What is counted once a minute, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from engine.stores.alert_rows import alert_as_seen
from engine.stores.base import AlertRow, CurvePoint, FleetSample, LatencyCount, ProgressPoint
from engine.stores.measure_spans import FOLDS, MINUTE_MS, SPANS, fold_to, rows_of
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.queries import queries

Q = queries("measures.sql")


@translated(COMMIT_FAILED)
class SqliteMeasures:
    """See `stores.base.Measures`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, sample: FleetSample) -> None:
        """Write what was counted."""
        self._connection.executemany(Q["add"], rows_of(sample))
        self._connection.executemany(
            Q["add_latency"], [(MINUTE_MS, sample.at_ms, *latency) for latency in sample.latencies]
        )

    def add_progress(self, at_ms: int, progress: Iterable[tuple[str, int, int]]) -> None:
        """Write how outages go."""
        rows = [(alert, at_ms, joined, back) for alert, joined, back in progress]
        self._connection.executemany(Q["add_progress"], rows)


def fold(connection: sqlite3.Connection) -> None:
    """Make coarser what has grown old."""
    newest_ms = connection.execute(Q["newest"], (MINUTE_MS,)).fetchone()[0]
    for span_ms, longer_ms, age_ms in FOLDS:
        oldest_ms = connection.execute(Q["oldest"], (span_ms,)).fetchone()[0]
        to_ms = fold_to(oldest_ms, newest_ms, longer_ms, age_ms)
        if to_ms is not None:
            for name in ("fold", "folded", "fold_latency", "folded_latency"):
                connection.execute(Q[name], {"span": span_ms, "longer": longer_ms, "to": to_ms})


def purge(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Drop what is older, and make the rest coarser; returns how many rows were dropped."""
    fold(connection)
    gone = connection.execute(Q["purge_progress"], {"before": before_ms, "limit": limit}).rowcount
    for span_ms in SPANS:
        for name in ("purge", "purge_latency"):
            gone += connection.execute(Q[name], {"span": span_ms, "before": before_ms, "limit": limit}).rowcount
    return gone


def drop_ahead(connection: sqlite3.Connection, now_ms: int) -> None:
    """The clock was put back: drop what was counted in a future that was none."""
    for name in ("ahead", "ahead_latency", "ahead_progress"):
        connection.execute(Q[name], {"now": now_ms})


def curve(
    connection: sqlite3.Connection, group: str, from_ms: int, to_ms: int, step_ms: int, limit: int
) -> list[CurvePoint]:
    """The fleet's curve, oldest first."""
    wanted = {"group": group, "from": from_ms, "to": to_ms, "step": step_ms, "limit": limit}
    return [CurvePoint(*map(int, row)) for row in connection.execute(Q["curve"], wanted)]


def groups(connection: sqlite3.Connection) -> list[str]:
    """The groups of the newest minute."""
    return [name for (name,) in connection.execute(Q["groups"])]


def latency(connection: sqlite3.Connection, from_ms: int, to_ms: int, step_ms: int, limit: int) -> list[LatencyCount]:
    """How long verdicts took, oldest first."""
    wanted = {"from": from_ms, "to": to_ms, "step": step_ms, "limit": limit}
    return [LatencyCount(*row) for row in connection.execute(Q["latency"], wanted)]


def progress(connection: sqlite3.Connection, alert: str, limit: int) -> list[ProgressPoint]:
    """How an outage went, oldest first."""
    return [ProgressPoint(*row) for row in connection.execute(Q["progress"], (alert, limit))]


def outages(connection: sqlite3.Connection, from_ms: int, to_ms: int, limit: int) -> list[AlertRow]:
    """Outages that went on between two instants, newest first."""
    wanted = {"from": from_ms, "to": to_ms, "limit": limit}
    return [alert_as_seen(row) for row in connection.execute(Q["outages"], wanted)]
