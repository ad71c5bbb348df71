"""The sweeps, newest first, and what one of them corrected. Read `collect`."""

from __future__ import annotations

from typing import Final

from engine.errors import NotThere
from engine.stores.base import Reader
from engine.web.pages.base import Page, Shown, Wanted, next_link
from engine.web.service import NO_PROVIDER, Service

SWEEPS: Final = 20
CORRECTIONS: Final = 200


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows; the parameter `sweep` chooses the one that is shown with its corrections, by default the newest."""
    return await service.ask(lambda reader: _collected(service, reader, wanted))


def _collected(service: Service, reader: Reader, wanted: Wanted) -> Shown:
    found = service.views.reconciliations(reader, limit=SWEEPS, cursor=wanted.get("cursor"))
    chosen = wanted.get("sweep")
    if chosen and not (chosen.isascii() and chosen.isdigit() and len(chosen) <= 18):
        raise NotThere(f"there is no sweep {chosen[:60]!r}")
    number = int(chosen) if chosen else (found["items"][0]["id"] if found["items"] else None)
    one = service.views.reconciliation(reader, number) if number is not None else None
    return {
        "sweeps": found["items"],
        "next": next_link("sweeps", found),
        "sweep": one,
        "corrections": one["corrections"][:CORRECTIONS] if one else [],
        "left_out": max(0, len(one["corrections"]) - CORRECTIONS) + one["corrections_left_out"] if one else 0,
        "problem": NO_PROVIDER if service.queries is None else service.queries.trouble,
        "can_sweep": service.queries is not None,
    }


PAGE: Final = Page(
    path="/sweeps",
    template="sweeps.html",
    collect=collect,
    parameters=("sweep", "cursor"),
    section="sweeps",
    words="Sweeps",
    needs_states=False,
)
