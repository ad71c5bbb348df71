"""The fleet over time: its curve with the outages, a week of flaps, how long verdicts took. Read `collect`."""

from __future__ import annotations

from typing import Final

from engine.stores.base import Reader
from engine.web.pages.base import Page, Shown, Wanted, link
from engine.web.service import Service

ROOT: Final = "./"
"""The way from this page to the root of the console."""


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows. BadQuestion for a time that is none."""
    return await service.ask(lambda reader: _collected(service, reader, wanted))


def _collected(service: Service, reader: Reader, wanted: Wanted) -> Shown:
    drawings = service.views.drawings
    from_, to, group = wanted.get("from"), wanted.get("to"), wanted.get("group")
    groups = reader.curve_groups()
    return {
        "curve": drawings.curve(reader, ROOT, from_, to, group),
        "flaps": drawings.flaps(reader, ROOT),
        "verdicts": drawings.verdicts(reader, ROOT, from_, to),
        "choices": [
            {
                "words": name or "Whole fleet",
                "href": link("fleet", **{"from": from_, "to": to}, group=name),
                "on": name == group,
            }
            for name in ("", *groups)
        ]
        if groups
        else [],
        "group": group,
    }


PAGE: Final = Page(
    path="/fleet",
    template="fleet.html",
    collect=collect,
    parameters=("from", "to", "group"),
    section="fleet",
    words="Fleet",
    needs_states=False,
)
