"""Alerts as rows of a store, and back: the same columns in every store. Read `alert_row`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.core.alerting.alert import Alert
from engine.core.presence.client_state import Transition
from engine.stores.rows import AlertLife, AlertRow


def alert_row(alert: Alert) -> tuple[Any, ...]:
    """The row of an alert.

    In this order: id, rule, client, source, trigger, state, reason, started, due, fired, resolved, was anybody notified, throttle key,
    detail, key, life, acknowledged by.
    """
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
    """The alert of a row, in the order of `alert_row`."""
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


def alert_as_seen(row: Sequence[Any]) -> AlertRow:
    """An alert as people see it, from its row in the order of the query `alert`."""
    id_, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by = row
    return AlertRow(
        id=id_,
        rule=rule,
        client=client,
        source=source,
        state=state,
        reason=reason,
        started_at_ms=started_at,
        resolved_at_ms=resolved_at,
        key=key,
        acknowledged_by=acknowledged_by,
    )


def life_of(fired_at_ms: int | None, detail: str) -> AlertLife:
    """What is kept of an alert beside its row, from two of the columns of `alert_row`."""
    return AlertLife(fired_at_ms, json.loads(detail)[2] or None)
