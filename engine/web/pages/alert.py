"""One alert, to which notifications link: its life, the stages it passed, its deliveries with every attempt. Read `collect`."""

from __future__ import annotations

from typing import Any, Final

from engine.errors import NotThere
from engine.stores.base import AlertRow, DeliveryRow, Reader
from engine.web.alert_lines import FIRING, AlertLines
from engine.web.pages.base import Page, Shown, Wanted
from engine.web.service import Service

MEMBERS_SHOWN: Final = 200
"""Alerts of one group or bundle that its page lists."""

COUNTED: Final = 10_000
"""Alerts of one group or bundle that its page counts."""

DELIVERIES: Final = 20
"""Deliveries of an alert that its page shows in full."""


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page of an alert, a group or a bundle shows. NotThere."""
    return await service.ask(lambda reader: _collected(service, reader, wanted.part("id")))


def _collected(service: Service, reader: Reader, id_: str) -> Shown:
    lines = AlertLines(service)
    rows = reader.alerts_of(id_, limit=COUNTED)
    if not rows and (ended := reader.alert(id_)) is not None:
        rows = [ended]
    sent = reader.deliveries(alert=id_, limit=DELIVERIES + 1)
    if not rows and not sent:
        raise NotThere("there is no such alert (any more)")
    return {
        "id": id_,
        "alert": lines.of_all(id_, rows) if rows else None,
        "members": [lines.of(row) for row in rows[:MEMBERS_SHOWN] if row.state == FIRING],
        "rule": next((rule for rule in service.rules if rows and rule.name == rows[0].rule), None),
        "deliveries": [_in_full(service, reader, row) for row in sent[:DELIVERIES]],
        "more_sent": len(sent) > DELIVERIES,
        "recovery": service.views.drawings.recovery(reader, id_),
        "passed": _passed(service, reader, rows, sent),
    }


def _in_full(service: Service, reader: Reader, row: DeliveryRow) -> dict[str, Any]:
    return service.views.delivery(reader, row.id)


def _passed(service: Service, reader: Reader, rows: list[AlertRow], sent: list[DeliveryRow]) -> list[dict[str, Any]]:
    """The stages that the firing passed, as its oldest delivery explains them."""
    first = next((row for row in reversed(sent) if row.phase == "firing"), None)
    found: list[dict[str, Any]] = service.views.delivery(reader, first.id)["passed"] if first is not None else []
    return found


PAGE: Final = Page(path="/alert/{id}", template="alert.html", collect=collect, section="alerts", needs_states=False)
