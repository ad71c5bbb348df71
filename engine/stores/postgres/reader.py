"""What is asked of the PostgreSQL store beside its writer: the `Reader` of `stores.base`, of one cell or of several.

Lists are of all cells that the reader was made for; what leaves, and histories, are of its own cell. Each question is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from engine.core.alerting.silences import Silence
from engine.core.delivery import OutboxItem
from engine.sources.base import Gap
from engine.stores.alert_rows import alert_as_seen, life_of
from engine.stores.kept_rows import silence_of_row
from engine.stores.postgres import activity, delivery_reads, measures, sweeps
from engine.stores.postgres.journal import history, newest
from engine.stores.postgres.queries import queries
from engine.stores.postgres.questions import Questions
from engine.stores.postgres.read_pool import ReadPool
from engine.stores.rows import (
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

Q = queries("reading.sql")

OPEN_STATES = frozenset({"pending", "firing"})
"""States of alerts that are never over: an index holds exactly the open ones."""


class CellReaders:
    """Readers of one database, for any thread."""

    def __init__(
        self, connect: Callable[[], psycopg.Connection], cell: int, cells: Sequence[int] | None = None
    ) -> None:
        """`connect` makes a session; `cell`: whose deliveries leave and whose histories are told; `cells`: those of lists, None: this one."""
        self._pool = ReadPool(connect)
        self._cell, self._cells = cell, [cell] if cells is None else list(cells)

    @contextmanager
    def reading(self, cells: Sequence[int] | None = None, *, own: int | None = None) -> Iterator[PostgresReader]:
        """A reader for the block; `cells`: those of lists, `own`: whose histories are told; None: those that it was made for."""
        yield PostgresReader(
            self._pool, self._cell if own is None else own, self._cells if cells is None else list(cells)
        )

    def close(self) -> None:
        """Close the sessions."""
        self._pool.close()


class PostgresReader:
    """Answers from what was committed before each question."""

    def __init__(self, questions: Questions, cell: int, cells: Sequence[int]) -> None:
        self._questions = questions
        self._cell = cell
        self._cells = list(cells)

    def _rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._questions.rows(Q[name], {"cells": self._cells, **values})

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
        name = "open_alerts" if state in OPEN_STATES else "alerts"
        rows = self._rows(name, state=state, rule=rule, client=client, at=at_ms, id=id_, limit=limit)
        return [alert_as_seen(row) for row in rows]

    def held_back(self, *, limit: int = 100) -> list[AlertRow]:
        """Alerts that are suppressed at present, newest first."""
        rows = self._rows("open_alerts", state="suppressed", rule=None, client=None, at=None, id="", limit=limit)
        return [alert_as_seen(row) for row in rows]

    def firing(self, *, limit: int = 100) -> list[FiringRow]:
        """What fires at present, groups and bundles as one; what is not acknowledged comes first."""
        rows = self._rows("firing_notifications", limit=limit)
        return [
            FiringRow(id=row[10], first=alert_as_seen(row[:10]), count=row[11], acknowledged=row[12]) for row in rows
        ]

    def alerts_of(self, id_: str, *, limit: int = 100) -> list[AlertRow]:
        """Open alerts with this id, or all of the group or the bundle with this id."""
        return [alert_as_seen(row) for row in self._rows("alerts_of", id=id_, limit=limit)]

    def alert(self, id_: str) -> AlertRow | None:
        """One alert."""
        rows = self._rows("alert", id=id_)
        return alert_as_seen(rows[0]) if rows else None

    def alert_life(self, id_: str) -> AlertLife | None:
        """What else is kept of one alert."""
        rows = self._rows("alert_life", id=id_)
        return life_of(*rows[0]) if rows else None

    def newest_journal(self, events: int) -> list[JournalRow]:
        """The newest rows of the journals that have so many events together, newest first."""
        found = [row for cell in self._cells for row in newest(self._questions, cell, events // len(self._cells))]
        return sorted(found, key=lambda row: row.at_ms, reverse=True) if len(self._cells) > 1 else found

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
            self._questions, self._cells, state=state, rule=rule, client=client, alert=alert, limit=limit, cursor=cursor
        )

    def delivery(self, number: int) -> DeliveryRow | None:
        """One delivery."""
        return delivery_reads.delivery_of(self._questions, self._cells, number)

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
        at_ms, id_ = cursor if cursor is not None else (None, "")
        rows = self._rows("silences", now=now_ms, state=state, author=author, at=at_ms, id=id_, limit=limit)
        return [silence_of_row(row) for row in rows]

    def rule_at(self, rule: str, at_ms: int) -> str | None:
        """The definition of a rule that was in force at an instant."""
        rows = self._rows("rule_at", rule=rule, at=at_ms)
        return str(rows[0][0]) if rows else None

    def silence(self, id_: str) -> Silence | None:
        """One silence."""
        rows = self._rows("silence", id=id_)
        return silence_of_row(rows[0]) if rows else None

    def quarantine(self, *, limit: int = 100, cursor: int | None = None) -> list[QuarantineRow]:
        """What was not accepted, newest first; `cursor` is an id."""
        return [
            QuarantineRow(id=id_, received_at_ms=at_ms, source=source, reason=reason, raw=bytes(raw))
            for id_, at_ms, source, reason, raw in self._rows("quarantine", limit=limit, cursor=cursor)
        ]

    def sources(self) -> dict[str, SourceRow]:
        """How far each source was read; of several cells: how far all of them."""
        return {
            name: SourceRow(position=position, caught_up_to_ms=upto_ms, last_event_at_ms=last_ms)
            for name, position, upto_ms, last_ms in self._rows("sources")
        }

    def gaps(self, limit: int = 1000) -> list[Gap]:
        """Recorded gaps, newest first."""
        return [
            Gap(source=source, noted_at_ms=noted, from_ms=start, to_ms=end, reason=reason)
            for source, noted, start, end, reason in self._rows("gaps", limit=limit)
        ]

    def reconciliations(self, *, limit: int = 100, cursor: int | None = None) -> list[ReconciliationRow]:
        """Sweeps, newest first; `cursor` is an id."""
        return sweeps.sweeps(self._questions, self._cells, limit, cursor)

    def reconciliation(self, number: int) -> ReconciliationRow | None:
        """One sweep."""
        return sweeps.sweep(self._questions, self._cells, number)

    def corrections(self, reconciliation: int | None, *, limit: int = 1000, cursor: int = 0) -> list[CorrectionRow]:
        """What was corrected, oldest first; `cursor` is an id."""
        return sweeps.corrections(self._questions, self._cells, reconciliation, limit, cursor)

    def history(self, position: int) -> Iterator[HistoryEntry]:
        """A client's entries from a position backwards; nothing for a position that was purged or never was."""
        return history(self._questions, self._cell, position)

    def totals(self) -> Totals:
        """How much there is."""
        ((firing, suppressed),) = self._rows("open_counts")
        due, held = delivery_reads.counts(self._questions, self._cells)
        return Totals(
            firing=firing,
            suppressed=suppressed,
            due=due,
            held=held,
            dead=self._rows("dead", limit=TOTALS_STOP)[0][0],
            quarantined=self._rows("quarantined", limit=TOTALS_STOP)[0][0],
        )

    def recorded(self, before: int | None, *, limit: int) -> list[JournalRow]:
        """Rows of the journal that have events, newest first."""
        return activity.recorded(self._questions, self._cell, before, limit)

    def alerts_since(self, since_ms: int) -> list[RuleAlerts]:
        """Alerts that began since an instant, by rule, state and reason."""
        return activity.alerts_since(self._questions, self._cells, since_ms)

    def deliveries_since(self, since_ms: int) -> list[RuleDeliveries]:
        """Deliveries that were decided since an instant, by rule, phase and state."""
        return activity.deliveries_since(self._questions, self._cells, since_ms)

    def fleet_curve(self, group: str, from_ms: int, to_ms: int, step_ms: int, *, limit: int) -> list[CurvePoint]:
        """The fleet's curve, oldest first."""
        return measures.curve(self._questions, self._cells, group, from_ms, to_ms, step_ms, limit)

    def curve_groups(self) -> list[str]:
        """The MQTT groups that were counted in the newest minute, by name."""
        return measures.groups(self._questions, self._cells)

    def verdict_latency(self, from_ms: int, to_ms: int, step_ms: int, *, limit: int) -> list[LatencyCount]:
        """How long verdicts took, oldest first."""
        return measures.latency(self._questions, self._cells, from_ms, to_ms, step_ms, limit)

    def outage_progress(self, alert: str, *, limit: int) -> list[ProgressPoint]:
        """How the outage of an alert went, oldest first."""
        return measures.progress(self._questions, self._cells, alert, limit)

    def outages(self, from_ms: int, to_ms: int, *, limit: int = 100) -> list[AlertRow]:
        """Outages that went on between two instants, newest first."""
        return measures.outages(self._questions, self._cells, from_ms, to_ms, limit)

    def waiting(self, now_ms: int) -> Waiting:
        """Which targets have something to send, and when the next retry is due."""
        return delivery_reads.waiting(self._questions, self._cell, now_ms)

    def due(self, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
        """What may leave, a lane's earlier ones first."""
        return delivery_reads.due(self._questions, self._cell, now_ms, shares)
