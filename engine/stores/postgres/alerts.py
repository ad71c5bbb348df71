"""Alerts and throttles of a cell in PostgreSQL, and what goes on for many alerts together (`kept`)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.stores.alert_rows import alert_of_row, alert_row
from engine.stores.postgres import kept
from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session

Q = queries("alerts.sql")


@translated(COMMIT_FAILED)
class PostgresAlerts:
    """See `stores.base.Alerts`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session, self._cell = session, cell

    def write(self, alerts: Iterable[Alert]) -> None:
        """Write changed alerts; a dropped one leaves no row."""
        rows, gone = {}, []
        for alert in alerts:
            if alert.state == "dropped":
                gone.append(alert.id)
            else:
                rows[alert.id] = alert_row(alert)
        if rows:
            columns = [list(column) for column in zip(*rows.values(), strict=True)]
            self._session.write(Q["write"], (self._cell, *columns))
        if gone:
            self._session.write(Q["delete"], (self._cell, gone))

    def open(self) -> list[Alert]:
        """Alerts that are about something that goes on, oldest first."""
        return [alert_of_row(row) for row in self._session.rows(Q["open"], (self._cell,))]

    def write_throttles(self, throttles: Iterable[Throttled]) -> None:
        """Write changed throttles; one in which nothing counts leaves no row."""
        rows = list(throttles)
        counting = [(self._cell, one.rule, one.key, json.dumps(one.firings)) for one in rows if one.firings]
        self._session.write_many(Q["write_throttle"], counting)
        self._session.write_many(
            Q["delete_throttle"], [(self._cell, one.rule, one.key) for one in rows if not one.firings]
        )

    def throttles(self) -> list[Throttled]:
        """Every throttle with its firings that may still count."""
        rows = self._session.rows(Q["throttles"], (self._cell,))
        return [Throttled(rule, key, json.loads(firings)) for rule, key, firings in rows]

    def write_kept(self, out: Output) -> None:
        """Write what a step changed of silences, groups, outages and their members, schedules, bursts and escalations."""
        kept.write(self._session, self._cell, out)

    def kept(self) -> Kept:
        """All of these that are not over; silences also when they are."""
        return kept.read(self._session, self._cell)
