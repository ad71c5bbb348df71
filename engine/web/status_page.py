"""The status page at `/`: what an operator needs to see first, rendered on the server, with nothing loaded from elsewhere.

Everything on it may come from devices, so the template escapes it; should that ever fail, the content security policy lets the
browser run no script and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from starlette.responses import Response

from engine import __version__
from engine.core.foreign_text import visible_text
from engine.core.times import duration_text, rfc3339
from engine.sources.base import SourceHealth
from engine.stores.base import TOTALS_STOP, AlertRow, Reader
from engine.web import serializers
from engine.web.service import Service
from engine.web.views import Views

SHOWN = 25
"""Lines of each list."""

HELD_SHOWN = 1_000
"""Held deliveries that are counted by rule at most."""

_UNITS = re.compile(r"\d+[a-z]+(\d+[a-z]+)?")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@cache
def _template() -> tuple[Template, str]:
    """The page, and the policy that allows its style and nothing else."""
    text = (resources.files("engine.web") / "templates" / "status.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["count"] = lambda number: f"{number:,}" + ("+" if number == TOTALS_STOP else "")
    environment.filters["plain"] = lambda value: "–" if value is None else visible_text(str(value))
    found = _STYLE.search(text)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    environment.filters["age"] = age
    return environment.from_string(text), policy


def age(seconds: float | None) -> str:
    """Seconds as a duration of at most two units: `2h5m`. None, not known, is a dash."""
    if seconds is None:
        return "–"
    found = _UNITS.match(duration_text(int(seconds) * 1000))
    return found[0] if found else "–"


def collect(service: Service, views: Views, reader: Reader) -> dict[str, Any]:
    """What the page shows. It asks the store, so call it in a thread."""
    now_ms = service.now_ms()
    severities = {rule.name: rule.severity for rule in service.rules}
    counted, pauses = service.outages(), service.pauses()

    def alert(row: AlertRow) -> dict[str, Any]:
        total, back = counted.get(row.id, (0, 0))
        more = {"total": total, "back": back, "severity": severities.get(row.rule, "")}
        return serializers.alert_object(row) | more | {"age": serializers.seconds_since(row.started_at_ms, now_ms)}

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
        "firing": [alert(row) for row in reader.alerts(state="firing", limit=SHOWN)],
        "outages": [alert(row) for row in map(reader.alert, islice(counted, SHOWN)) if row is not None],
        "suppressed": [alert(row) for row in reader.held_back(limit=SHOWN)],
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


def response(shown: dict[str, Any]) -> Response:
    """The page with its headers."""
    template, policy = _template()
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return Response(template.render(shown), 200, headers, media_type="text/html")
