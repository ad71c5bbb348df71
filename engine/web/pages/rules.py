"""The rules as they are loaded, with what each did in 24 hours. Read `collect`."""

from __future__ import annotations

from typing import Final

from engine.stores.base import Reader
from engine.web.pages.base import Page, Shown, Wanted
from engine.web.rule_activity import DAY_MS, activity
from engine.web.service import Service


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows."""
    return await service.ask(lambda reader: _collected(service, reader))


def _collected(service: Service, reader: Reader) -> Shown:
    found = activity(reader, service.now_ms() - DAY_MS)
    return {
        "rules": [(rule, found[rule.name]) for rule in service.rules],
        "problem": service.rules_problem,
    }


PAGE: Final = Page(
    path="/rules", template="rules.html", collect=collect, section="rules", words="Rules", needs_states=False
)
