"""Drawings in a real browser: nobody is kept out (axe), nothing scrolls sideways on a phone, paper shows no controls."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from engine.web.asset_files import content_of
from engine.web.drawings.client_timeline import client_timeline
from engine.web.drawings.flap_map import flap_map
from engine.web.drawings.fleet_curve import fleet_curve
from engine.web.drawings.outage_recovery import outage_recovery
from engine.web.drawings.verdict_latency import verdict_latency
from tests.web import test_client_timeline as timelines
from tests.web import test_fleet_drawings as fleets

AXE = Path(__file__).parent / "vendored" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def everything() -> str:
    """A page with every drawing, loaded with the console's style and nothing else."""
    durations = {"verdicts": 3, "p50": 30.0, "p99": 90.0}
    items = [fleets.item(minute, 90 - minute % 7, minute % 7, flaps=minute) for minute in range(100)]
    outage = fleets.outage(20, 60) | {"rule": "site-down"}
    verdicts = {"items": [{"at": fleets.at(m), "offline": durations, "online": durations} for m in range(9)]}
    drawn = [
        client_timeline(timelines.busy(300), links=timelines.LINKS),
        fleet_curve(
            fleets.curve(items, outages=[outage]),
            zoom=lambda start, end: f"?{start}&{end}",
            alert=lambda id_: f"alert/{id_}",
        ),
        flap_map(fleets.curve(items), zoom=lambda start, end: f"?{start}&{end}"),
        verdict_latency(fleets.curve([]) | verdicts | {"offline": durations, "online": durations}),
        outage_recovery(
            {"alert": outage, "to": fleets.at(50), "items": [{"at": fleets.at(10), "total": 9, "back": 4}]}
        ),
    ]
    style = content_of("console.css").decode() + content_of("drawings.css").decode()
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drawings</title><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><style>{style}</style></head><body><main><h1>Drawings</h1>'
        f"{''.join(drawn)}</main></body></html>"
    )


def opened(browser: Browser, width: int, scheme: str = "light") -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page.set_content(everything())
    return page


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (390, "dark")])
def test_nobody_is_kept_out(browser: Browser, width: int, scheme: str) -> None:
    page = opened(browser, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing scrolls sideways"
    for summary in page.locator(".d-table summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    page.close()


def test_marks_keep_their_size_and_words_fit_on_a_phone(browser: Browser) -> None:
    page = opened(browser, 390)
    boxes = [one.bounding_box() for one in page.locator("#timeline .d-event.d-tick > path").all()[:20]]
    assert boxes and all(box is not None and 10 <= box["height"] <= 14 for box in boxes)
    right = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.d-picture text')].map(one => one.getBoundingClientRect().right))"
    )
    assert right <= 390
    page.close()


def test_paper_shows_drawings_without_controls(browser: Browser) -> None:
    page = opened(browser, 700)
    assert page.locator(".d-controls").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator(".d-picture").first.is_visible() and not page.locator(".d-controls").first.is_visible()
    page.close()
