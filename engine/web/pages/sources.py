"""The sources: which one is sick, how far each was read, its gaps; and what was not accepted. Read `collect`."""

from __future__ import annotations

from typing import Final

from engine.stores.base import Reader
from engine.web.pages.base import Page, Shown, Wanted, next_link
from engine.web.service import Service

QUARANTINED: Final = 20


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows."""
    return await service.ask(lambda reader: _collected(service, reader, wanted))


def _collected(service: Service, reader: Reader, wanted: Wanted) -> Shown:
    found = service.views.sources(reader)["items"]
    quarantine = service.views.quarantine(reader, limit=QUARANTINED, cursor=wanted.get("cursor"))
    return {
        "sources": sorted(found, key=lambda one: not (one["trouble"] or not one["connected"])),
        "quarantine": quarantine["items"],
        "next": next_link("sources", quarantine),
        "totals": reader.totals(),
    }


PAGE: Final = Page(
    path="/sources",
    template="sources.html",
    collect=collect,
    parameters=("cursor",),
    section="sources",
    words="Sources",
    needs_states=False,
)
