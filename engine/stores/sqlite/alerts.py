"""Alerts and throttles in SQLite, and what goes on for many alerts together (`kept`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.core.presence.client_state import Transition
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


def alert_row(alert: Alert) -> tuple[Any, ...]:
    """The row of an alert, in the order of `write_alert`."""
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


def alert_of_row(row: Sequence[Any]) -> Alert:
    """The alert of a row, in the order of `open_alerts`."""
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
