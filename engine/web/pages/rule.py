"""One rule: as it is loaded, with its file and line, and what it did in 24 hours. Read `collect`."""

from __future__ import annotations

import difflib
import json
from typing import Final

from engine.core.client_ids import shown_name
from engine.errors import NotThere
from engine.stores.base import Reader
from engine.web.alert_lines import AlertLines
from engine.web.pages.base import Page, Shown, Wanted
from engine.web.rule_activity import DAY_MS, activity
from engine.web.service import Service

NEWEST: Final = 20


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows. NotThere."""
    return await service.ask(lambda reader: _collected(service, reader, wanted.part("name")))


def _collected(service: Service, reader: Reader, name: str) -> Shown:
    rule = next((rule for rule in service.rules if rule.name == name), None)
    did = activity(reader, service.now_ms() - DAY_MS)[name]
    alerts = reader.alerts(rule=name, limit=NEWEST)
    if rule is None and not alerts:
        near = difflib.get_close_matches(name[:200], [one.name for one in service.rules], n=1)
        raise NotThere(f"there is no rule {shown_name(name)}{f'; did you mean {near[0]}?' if near else ''}")
    lines = AlertLines(service)
    return {
        "name": name,
        "rule": rule,
        "definition": json.loads(rule.definition) if rule is not None and rule.definition else None,
        "did": did,
        "alerts": [lines.of(row) for row in alerts],
    }


PAGE: Final = Page(path="/rule/{name}", template="rule.html", collect=collect, section="rules", needs_states=False)
