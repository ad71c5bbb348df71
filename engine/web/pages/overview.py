"""The overview: what needs somebody now, first. Read `collect`."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any, Final

from engine.stores.base import Reader
from engine.web import serializers
from engine.web.alert_lines import AlertLines
from engine.web.pages.base import Page, Shown, Wanted
from engine.web.service import Service

SHOWN: Final = 25
"""Rows of each list."""

HELD_COUNTED: Final = 1_000
"""Held deliveries that are counted by rule at most."""


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows."""
    return await service.ask(lambda reader: _collected(service, reader))


def _collected(service: Service, reader: Reader) -> Shown:
    now_ms = service.now_ms()
    lines = AlertLines(service)
    firing = reader.firing(limit=SHOWN + 1)
    outages = [lines.of(row) for row in map(reader.alert, islice(lines.outages, SHOWN)) if row is not None]
    listed = {alert["id"] for alert in outages}
    alerts = [alert for alert in map(lines.of_firing, firing[:SHOWN]) if alert["id"] not in listed]
    sources = service.views.sources(reader)["items"]
    return {
        "degraded": service.degraded(),
        "refused_edits": service.refused_edits,
        "clients": service.views.count_by_status(),
        "totals": reader.totals(),
        "sick": [source for source in sources if source["trouble"] or not source["connected"]],
        "sources": len(sources),
        "outages": sorted(outages, key=_urgency),
        "firing": sorted(alerts, key=_urgency),
        "more_fires": len(firing) > SHOWN,
        "silences": service.silences_active(),
        "held": Counter(row.rule for row in reader.deliveries(state="held", limit=HELD_COUNTED)).most_common(),
        "dead": [serializers.delivery_object(row) for row in reader.deliveries(state="dead", limit=5)],
        "rules": len(service.rules),
        "now_ms": now_ms,
        "curve": service.views.drawings.curve(reader, "./"),
    }


def _urgency(alert: dict[str, Any]) -> tuple[bool, bool]:
    """What waits comes first, and of it what is critical; else the newest, as they come."""
    return not alert["waits"], alert["severity"] != "critical"


PAGE: Final = Page(
    path="/", template="overview.html", collect=collect, section="overview", words="Overview", needs_states=False
)
