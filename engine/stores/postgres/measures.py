"""What is counted once a minute, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.stores.alert_rows import alert_as_seen
from engine.stores.measure_spans import FOLDS, MINUTE_MS, SPANS, fold_to, rows_of
from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.queries import queries
from engine.stores.postgres.questions import Questions
from engine.stores.postgres.session import Session
from engine.stores.rows import AlertRow, CurvePoint, FleetSample, LatencyCount, ProgressPoint

Q = queries("measures.sql")


@translated(COMMIT_FAILED)
class PostgresMeasures:
    """See `stores.base.Measures`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session, self._cell = session, cell

    def add(self, sample: FleetSample) -> None:
        """Write what was counted."""
        self._session.write_many(Q["add"], [{"cell": self._cell, **row} for row in rows_of(sample)])
        self._session.write_many(
            Q["add_latency"], [(self._cell, MINUTE_MS, sample.at_ms, *latency) for latency in sample.latencies]
        )

    def add_progress(self, at_ms: int, progress: Iterable[tuple[str, int, int]]) -> None:
        """Write how outages go."""
        rows = [(self._cell, alert, at_ms, joined, back) for alert, joined, back in progress]
        self._session.write_many(Q["add_progress"], rows)


def fold(session: Session, cell: int) -> None:
    """Make coarser what has grown old."""
    newest_ms = _instant(session, "newest", cell, MINUTE_MS)
    for span_ms, longer_ms, age_ms in FOLDS:
        to_ms = fold_to(_instant(session, "oldest", cell, span_ms), newest_ms, longer_ms, age_ms)
        if to_ms is not None:
            for name in ("fold", "folded", "fold_latency", "folded_latency"):
                session.write(Q[name], {"cell": cell, "span": span_ms, "longer": longer_ms, "to": to_ms})


def _instant(session: Session, name: str, cell: int, span_ms: int) -> int | None:
    row = session.row(Q[name], (cell, span_ms))
    return None if row is None else row[0]


def purge(session: Session, cell: int, before_ms: int, limit: int) -> int:
    """Drop what is older, and make the rest coarser; returns how many rows were dropped."""
    fold(session, cell)
    old = {"cell": cell, "before": before_ms, "limit": limit}
    gone = session.changed(Q["purge_progress"], old)
    for span_ms in SPANS:
        for name in ("purge", "purge_latency"):
            gone += session.changed(Q[name], old | {"span": span_ms})
    return gone


def drop_ahead(session: Session, cell: int, now_ms: int) -> None:
    """The clock was put back: drop what was counted in a future that was none."""
    for name in ("ahead", "ahead_latency", "ahead_progress"):
        session.write(Q[name], {"cell": cell, "now": now_ms})


def curve(
    questions: Questions, cells: Sequence[int], group: str, from_ms: int, to_ms: int, step_ms: int, limit: int
) -> list[CurvePoint]:
    """The fleet's curve, oldest first; of several cells all together."""
    wanted = {"cells": list(cells), "group": group, "from": from_ms, "to": to_ms, "step": step_ms, "limit": limit}
    return [CurvePoint(*row) for row in questions.rows(Q["curve"], wanted)]


def groups(questions: Questions, cells: Sequence[int]) -> list[str]:
    """The groups of each cell's newest minute."""
    return [name for (name,) in questions.rows(Q["groups"], {"cells": list(cells)})]


def latency(
    questions: Questions, cells: Sequence[int], from_ms: int, to_ms: int, step_ms: int, limit: int
) -> list[LatencyCount]:
    """How long verdicts took, oldest first."""
    wanted = {"cells": list(cells), "from": from_ms, "to": to_ms, "step": step_ms, "limit": limit}
    return [LatencyCount(*row) for row in questions.rows(Q["latency"], wanted)]


def progress(questions: Questions, cells: Sequence[int], alert: str, limit: int) -> list[ProgressPoint]:
    """How an outage went, oldest first."""
    wanted = {"cells": list(cells), "alert": alert, "limit": limit}
    return [ProgressPoint(*row) for row in questions.rows(Q["progress"], wanted)]


def outages(questions: Questions, cells: Sequence[int], from_ms: int, to_ms: int, limit: int) -> list[AlertRow]:
    """Outages that went on between two instants, newest first."""
    wanted = {"cells": list(cells), "from": from_ms, "to": to_ms, "limit": limit}
    return [alert_as_seen(row) for row in questions.rows(Q["outages"], wanted)]
