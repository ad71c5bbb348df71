"""One alert as the console shows it, in a list and on its own page. Read `AlertLines`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.stores.base import AlertRow, FiringRow
from engine.web import serializers
from engine.web.service import Service

FIRING = "firing"


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
