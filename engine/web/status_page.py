"""What the console shows at `/`: what an operator needs to see first. Read `collect`."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

from engine import __version__
from engine.core.times import rfc3339
from engine.sources.base import SourceHealth
from engine.stores.base import Reader
from engine.web import serializers
from engine.web.alert_page import AlertLines
from engine.web.service import Service
from engine.web.views import Views

SHOWN = 25
"""Lines of each list."""

HELD_SHOWN = 1_000
"""Held deliveries that are counted by rule at most."""


def collect(service: Service, views: Views, reader: Reader) -> dict[str, Any]:
    """What the page shows. It asks the store, so call it in a thread."""
    now_ms = service.now_ms()
    pauses, lines = service.pauses(), AlertLines(service)
    firing = reader.firing(limit=SHOWN + 1)
    return {
        "now": rfc3339(now_ms),
        "version": __version__,
        "reasons": service.readiness(now_ms),
        "degraded": service.degraded(),
        "clients": views.count_by_status(),
        "totals": reader.totals(),
        "sources": [_source(found, now_ms, health) for found, health in _sources(service, views, reader)],
        "rules": len(service.rules),
        "refused_edits": service.refused_edits,
        "sweep": _last_sweep(reader) if service.queries is not None else None,
        "query_trouble": service.queries.numbers().trouble if service.queries is not None else None,
        "firing": [lines.of_firing(row) for row in firing[:SHOWN]],
        "more_fires": len(firing) > SHOWN,
        "outages": [lines.of(row) for row in map(reader.alert, islice(lines.outages, SHOWN)) if row is not None],
        "suppressed": [lines.of(row) for row in reader.held_back(limit=SHOWN)],
        "silences": _silences(views, reader, now_ms),
        "held": Counter(row.rule for row in reader.deliveries(state="held", limit=HELD_SHOWN)),
        "due": [
            serializers.delivery_object(row, pauses.get(row.target))
            for row in reader.deliveries(state="due", limit=SHOWN)
        ],
        "dead": [serializers.delivery_object(row) for row in reader.deliveries(state="dead", limit=SHOWN)],
    }


def _silences(views: Views, reader: Reader, now_ms: int) -> list[dict[str, Any]]:
    """Active and planned silences, with what they cover and how many seconds are left of each, or until it begins."""
    found = [
        silence
        for state in ("active", "planned")
        for silence in reader.silences(now_ms=now_ms, state=state, limit=SHOWN)
    ]
    return [
        shown
        | {
            "left": max(0, silence.until_ms - now_ms) / 1000,
            "begins_in": max(0, silence.from_ms - now_ms) / 1000,
        }
        for silence, shown in zip(found, views.silence_objects(found, now_ms), strict=True)
    ]


def _last_sweep(reader: Reader) -> dict[str, Any] | None:
    """The newest sweep that was no dry run."""
    row = next((row for row in reader.reconciliations(limit=SHOWN) if row.why != "dry run"), None)
    return None if row is None else serializers.reconciliation_object(row) | {"why": row.why, "total": row.total}


def _sources(service: Service, views: Views, reader: Reader) -> list[tuple[dict[str, Any], SourceHealth]]:
    return list(zip(views.sources(reader)["items"], service.healths(), strict=False))


def _source(found: dict[str, Any], now_ms: int, health: SourceHealth) -> dict[str, Any]:
    """A source and how many seconds it is behind the present."""
    return found | {"behind": serializers.seconds_since(health.caught_up_to_ms, now_ms)}
