"""The status page at `/`: what an operator wants to see first, rendered on the server, with nothing from elsewhere.

Everything on it may come from devices, so the template escapes; and should that ever fail, the browser is told to run no
script and to load nothing (`POLICY`).
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
from engine.config.durations import format_duration
from engine.core.alerting.silences import Silence
from engine.core.times import rfc3339
from engine.stores.base import TOTALS_STOP, AlertRow, Reader
from engine.telemetry import escape
from engine.web import serializers
from engine.web.answers import Answers
from engine.web.service import Service

SHOWN = 25
"""Lines of each list."""

HELD_SHOWN = 1_000
"""Held deliveries that are looked at to tell whose they are."""

_UNITS = re.compile(r"\d+[a-z]+(\d+[a-z]+)?")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@cache
def _template() -> tuple[Template, str]:
    """The page, and the policy that allows its style and nothing else."""
    text = (resources.files("engine.web") / "templates" / "status.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["count"] = lambda number: f"{number:,}" + ("+" if number == TOTALS_STOP else "")
    environment.filters["plain"] = lambda value: "–" if value is None else escape(str(value))
    found = _STYLE.search(text)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    environment.filters["age"] = age
    return environment.from_string(text), policy


def age(seconds: float | None) -> str:
    """So many seconds as people say it, in two units at most: `2h5m`. None: nobody knows."""
    if seconds is None:
        return "–"
    found = _UNITS.match(format_duration(int(seconds) * 1000))
    return found[0] if found else "–"


def collect(service: Service, answers: Answers, reader: Reader) -> dict[str, Any]:
    """What the page shows; asks the store, so it runs in a thread."""
    now_ms = service.now_ms()
    severities = {rule.name: rule.severity for rule in service.rules}
    counted = service.outages()

    def alert(row: AlertRow) -> dict[str, Any]:
        total, back = counted.get(row.id, (0, 0))
        more = {"total": total, "back": back, "severity": severities.get(row.rule, "")}
        return serializers.alert_object(row) | more | {"age": serializers.seconds_since(row.started_at_ms, now_ms)}

    return {
        "now": rfc3339(now_ms),
        "version": __version__,
        "reasons": service.readiness(now_ms),
        "clients": answers.count_by_status(),
        "totals": reader.totals(),
        "sources": [_source(found, now_ms, health) for found, health in _sources(service, answers, reader)],
        "rules": len(service.rules),
        "rules_problem": service.rules_problem,
        "sweep": _last_sweep(reader) if service.asking is not None else None,
        "asking_trouble": service.asking.numbers().trouble if service.asking is not None else None,
        "firing": [alert(row) for row in reader.alerts(state="firing", limit=SHOWN)],
        "outages": [alert(row) for row in map(reader.alert, islice(counted, SHOWN)) if row is not None],
        "held_back": [alert(row) for row in reader.held_back(limit=SHOWN)],
        "silences": [_silence(found, now_ms) for found in reader.silences(now_ms=now_ms, state="active", limit=SHOWN)],
        "held": Counter(row.rule for row in reader.deliveries(state="held", limit=HELD_SHOWN)),
        "due": [serializers.delivery_object(row) for row in reader.deliveries(state="due", limit=SHOWN)],
        "dead": [serializers.delivery_object(row) for row in reader.deliveries(state="dead", limit=SHOWN)],
    }


def _silence(silence: Silence, now_ms: int) -> dict[str, Any]:
    """A silence with the time that is left of it."""
    return serializers.silence_object(silence, now_ms) | {"left": max(0, silence.until_ms - now_ms) / 1000}


def _last_sweep(reader: Reader) -> dict[str, Any] | None:
    """The newest sweep that was no dry run."""
    row = next((row for row in reader.reconciliations(limit=SHOWN) if row.why != "dry run"), None)
    return None if row is None else serializers.reconciliation_object(row) | {"why": row.why, "total": row.total}


def _sources(service: Service, answers: Answers, reader: Reader) -> list[tuple[dict[str, Any], serializers.Health]]:
    return list(zip(answers.sources(reader)["items"], service.healths(), strict=False))


def _source(found: dict[str, Any], now_ms: int, health: serializers.Health) -> dict[str, Any]:
    """A source with how far it is behind, in seconds."""
    return found | {"behind": serializers.seconds_since(health.caught_up_to_ms, now_ms)}


def response(told: dict[str, Any]) -> Response:
    """The page as it is sent."""
    template, policy = _template()
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return Response(template.render(told), 200, headers, media_type="text/html")
