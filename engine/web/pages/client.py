"""One client: its status and why, what rules do about it, what was sent, its history. Read `collect`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from engine.core.access import A_PAGE
from engine.errors import RollcallError
from engine.stores.base import Reader
from engine.web import serializers
from engine.web.alert_lines import AlertLines
from engine.web.pages.base import Page, Shown, Wanted, next_link
from engine.web.service import PendingAct, Service, exposed_act

EVENTS: Final = 25
"""Entries of the history on one page."""

ALERTS: Final = 10
EVIDENCE: Final = 10

WHY: Final = "WhyNotAny"
"""The act that explains every rule."""


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows. NotThere for a client that no event has named."""
    client, cursor = wanted.get("id"), wanted.get("cursor")
    shown = await service.ask(lambda reader: _collected(service, reader, client, cursor, wanted), client)
    return shown | await _why(service, client)


def _collected(service: Service, reader: Reader, client: str, cursor: str, wanted: Wanted) -> Shown:
    views, now_ms = service.views, service.now_ms()
    found = views.explanation(reader, client)
    history = views.timeline(reader, client, limit=EVENTS, cursor=cursor)
    lines = AlertLines(service)
    newest = history if not cursor else views.timeline(reader, client, limit=EVENTS)
    return {
        "client": found,
        "age": _seconds(service, client, now_ms),
        "evidence": found["evidence"][-EVIDENCE:][::-1],
        "last_event": next((entry for entry in newest["items"] if entry["kind"] == "event"), None),
        "timeline": views.drawings.timeline(
            partial(views.picture, reader), client, "./", wanted.get("from"), wanted.get("to")
        ),
        "history": history["items"],
        "purged": history["purged"],
        "next": next_link("client", history, id=client),
        "alerts": [lines.of(row) for row in reader.alerts(client=client, limit=ALERTS)],
        "deliveries": views.deliveries(reader, client=client, limit=ALERTS)["items"],
        "can_query": service.queries is not None,
    }


def _seconds(service: Service, client: str, now_ms: int) -> float | None:
    state = service.fleet_of(client).published(client)
    return None if state is None else serializers.seconds_since(state.since_ms, now_ms)


async def _why(service: Service, client: str) -> dict[str, Any]:
    """What each rule does about the client, or why that is not known now."""
    exposed = exposed_act(service, WHY)
    try:
        found = await asyncio.wait_for(service.do(exposed.read({"client": client}, {}), A_PAGE), 5)
    except (RollcallError, TimeoutError) as error:
        return {"rules": [], "unmatched": 0, "why_problem": str(error) or "the engine is busy"}
    if isinstance(found, PendingAct):
        return {
            "rules": [],
            "unmatched": 0,
            "why_problem": "the replica that owns the cell explains the rules; this one follows it",
        }
    return {"rules": found["items"], "unmatched": found["unmatched"], "why_problem": None}


PAGE: Final = Page(
    path="/client",
    template="client.html",
    collect=collect,
    parameters=("id", "cursor", "from", "to"),
    section="clients",
)
