"""Alerts and throttles in SQLite, and what goes on for many alerts together (`kept`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.stores.alert_rows import alert_of_row, alert_row
from engine.stores.sqlite import kept
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.queries import queries

Q = queries("queries.sql")


@translated(COMMIT_FAILED)
class SqliteAlerts:
    """See `stores.base.Alerts`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, alerts: Iterable[Alert]) -> None:
        """Write changed alerts; a dropped one leaves no row."""
        kept_rows, gone = [], []
        for alert in alerts:
            if alert.state == "dropped":
                gone.append((alert.id,))
            else:
                kept_rows.append(alert_row(alert))
        if kept_rows:
            self._connection.executemany(Q["write_alert"], kept_rows)
        if gone:
            self._connection.executemany(Q["delete_alert"], gone)

    def open(self) -> list[Alert]:
        """Alerts that are about something that goes on, oldest first."""
        return [alert_of_row(row) for row in self._connection.execute(Q["open_alerts"])]

    def write_throttles(self, throttles: Iterable[Throttled]) -> None:
        """Write changed throttles; one in which nothing counts leaves no row."""
        for throttled in throttles:
            if throttled.firings:
                row = (throttled.rule, throttled.key, json.dumps(throttled.firings))
                self._connection.execute(Q["write_throttle"], row)
            else:
                self._connection.execute(Q["delete_throttle"], (throttled.rule, throttled.key))

    def throttles(self) -> list[Throttled]:
        """Every throttle with its firings that may still count."""
        rows = self._connection.execute(Q["all_throttles"])
        return [Throttled(rule, key, json.loads(firings)) for rule, key, firings in rows]

    def write_kept(self, out: Output) -> None:
        """Write what a step changed of silences, groups, outages and their members, schedules, bursts and escalations."""
        kept.write(self._connection, out)

    def kept(self) -> Kept:
        """All of these that are not over; silences also when they are."""
        return kept.read(self._connection)
