"""One alert as the console shows it: a line of a list, and its own page, to which notifications link. Read `AlertLines`, then `collect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.stores.base import AlertRow, FiringRow, Reader
from engine.web import serializers
from engine.web.service import Service

FIRING = "firing"

MEMBERS_SHOWN = 1_000
"""Alerts of one group or bundle that its page lists."""

COUNTED = 10_000
"""Alerts of one group or bundle that its page counts."""


class AlertLines:
    """Alerts as lines of a list, with what is known of them at one instant."""

    def __init__(self, service: Service) -> None:
        self.outages = service.outages()  # how many clients of each, and how many are back
        self._now_ms = service.now_ms()
        self._severities = {rule.name: rule.severity for rule in service.rules}

    def of(self, row: AlertRow) -> dict[str, Any]:
        """One alert. `waits`: it fires, and nobody has acknowledged it."""
        total, back = self.outages.get(row.id, (0, 0))
        return serializers.alert_object(row) | {
            "total": total,
            "back": back,
            "severity": self._severities.get(row.rule, ""),
            "age": serializers.seconds_since(row.started_at_ms, self._now_ms),
            "count": 1,
            "acknowledged": int(row.acknowledged_by is not None),
            "waits": row.state == FIRING and row.acknowledged_by is None,
        }

    def of_firing(self, row: FiringRow) -> dict[str, Any]:
        """What fires and was told together, as one line with the id that acknowledges all of it."""
        counted = {"count": row.count, "acknowledged": row.acknowledged, "waits": row.acknowledged < row.count}
        return self.of(row.first) | {"id": row.id} | counted

    def of_all(self, id_: str, rows: Sequence[AlertRow]) -> dict[str, Any]:
        """The same of all rows that have one id. Only what fires is counted, if any does."""
        some = [row for row in rows if row.state == FIRING] or rows
        acknowledged = [row for row in some if row.acknowledged_by is not None]
        first = min(some, key=lambda row: (row.started_at_ms, row.id))
        found = self.of(first) | {"id": id_, "count": len(some), "acknowledged": len(acknowledged)}
        found["acknowledged_by"] = acknowledged[0].acknowledged_by if acknowledged else None
        found["waits"] = first.state == FIRING and len(acknowledged) < len(some)
        return found


def collect(service: Service, reader: Reader, id_: str) -> dict[str, Any]:
    """What the page of an alert, a group or a bundle shows; `alert` is None when there is none. It asks the store."""
    lines = AlertLines(service)
    rows = reader.alerts_of(id_, limit=COUNTED)
    if not rows and (ended := reader.alert(id_)) is not None:
        rows = [ended]
    gone = ""
    if not rows:
        was_sent = reader.deliveries(alert=id_, limit=1)
        gone = "This alert has ended: nothing in it fires." if was_sent else "There is no such alert (any more)."
    return {
        "alert": lines.of_all(id_, rows) if rows else None,
        "members": [lines.of(row) for row in rows[:MEMBERS_SHOWN] if row.state == FIRING],
        "gone": gone,
    }
