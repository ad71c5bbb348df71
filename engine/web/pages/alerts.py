"""The alerts, newest first, by their state or their rule. Read `collect`."""

from __future__ import annotations

from typing import Final

from engine.stores.base import Reader
from engine.web.alert_lines import AlertLines
from engine.web.pages.base import ROWS, Page, Shown, Wanted, choices, link
from engine.web.service import Service
from engine.web.views import number_of

STATES: Final = ("firing", "pending", "suppressed", "resolved")


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows."""
    return await service.ask(lambda reader: _collected(service, reader, wanted))


def _collected(service: Service, reader: Reader, wanted: Wanted) -> Shown:
    state, rule = wanted.one_of("state", STATES), wanted.get("rule") or None
    started_at, _, id_ = wanted.get("cursor").partition("-")
    at_ms = number_of(started_at)
    rows = reader.alerts(state=state, rule=rule, limit=ROWS + 1, cursor=(at_ms, id_) if at_ms is not None else None)
    lines = AlertLines(service)
    last = rows[ROWS - 1] if len(rows) > ROWS else None
    return {
        "alerts": [lines.of(row) for row in rows[:ROWS]],
        "next": link("alerts", state=state, rule=rule, cursor=f"{last.started_at_ms}-{last.id}") if last else None,
        "filters": choices(
            "alerts", "state", [("", "All"), *((one, one.capitalize()) for one in STATES)], state, rule=rule
        ),
        "state": state,
        "rule": rule,
        "totals": reader.totals(),
    }


PAGE: Final = Page(
    path="/alerts",
    template="alerts.html",
    collect=collect,
    parameters=("state", "rule", "cursor"),
    section="alerts",
    words="Alerts",
    needs_states=False,
)
