"""The deliveries, newest first, by their state, rule or alert; what is held is released or given up by rule. Read `collect`."""

from __future__ import annotations

from collections import Counter
from typing import Final

from engine.stores.base import Reader
from engine.web.pages.base import ROWS, Page, Shown, Wanted, choices, next_link
from engine.web.service import Service

STATES: Final = ("due", "delivered", "dead", "held", "shadow", "discarded")
WORDS: Final = {"due": "Waiting", "delivered": "Delivered", "dead": "Dead", "held": "Held", "shadow": "Shadow", "discarded": "Discarded"}  # fmt: skip

HELD_COUNTED: Final = 10_000
"""Held deliveries that are counted by rule at most."""


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows."""
    return await service.ask(lambda reader: _collected(service, reader, wanted))


def _collected(service: Service, reader: Reader, wanted: Wanted) -> Shown:
    state = wanted.one_of("state", STATES)
    filters = {name: wanted.get(name) or None for name in ("rule", "client", "alert")}
    found = service.views.deliveries(reader, limit=ROWS, cursor=wanted.get("cursor"), state=state, **filters)
    totals = reader.totals()
    held = (
        Counter(row.rule for row in reader.deliveries(state="held", limit=HELD_COUNTED)) if totals.held else Counter()
    )
    return {
        "deliveries": found["items"],
        "next": next_link("deliveries", found, state=state, **filters),
        "filters": choices("deliveries", "state", [("", "All"), *WORDS.items()], state, **filters),
        "narrowed": {name: value for name, value in filters.items() if value},
        "held": held.most_common() if state in (None, "held") else [],
        "counted": HELD_COUNTED,
        "totals": totals,
        "pauses": list(service.pauses().values()),
    }


PAGE: Final = Page(
    path="/deliveries",
    template="deliveries.html",
    collect=collect,
    parameters=("state", "rule", "client", "alert", "cursor"),
    section="deliveries",
    words="Deliveries",
    needs_states=False,
)
