"""One delivery: what was sent, every attempt with its answer, what may be done with it. Read `collect`."""

from __future__ import annotations

from typing import Final

from engine.errors import NotThere
from engine.web.pages.base import Page, Shown, Wanted
from engine.web.service import Service


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows. NotThere."""
    text = wanted.part("number")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotThere(f"there is no delivery {text[:60]!r}")
    return {"delivery": await service.ask(lambda reader: service.views.delivery(reader, int(text)))}


PAGE: Final = Page(
    path="/delivery/{number}", template="delivery.html", collect=collect, section="deliveries", needs_states=False
)
