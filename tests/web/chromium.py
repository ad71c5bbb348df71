"""Chromium, driven by playwright: the browser of the machine, with scripts, as people use the console."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.acceptance.service import PATIENCE_S, requires
from tests.mail.browser import NAMES

AXE = (Path(__file__).parent / "vendored" / "axe.min.js").read_text()
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 900}

expect.set_options(timeout=PATIENCE_S * 1000)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, for the block."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    requires("a browser (apt-get install chromium)", found)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, url: str, **how: Any) -> Iterator[Page]:
    """One window of somebody who was not here before. Whatever a script or the security policy complains of fails the test."""
    context = browser.new_context(base_url=url, viewport=how.pop("viewport", DESK), locale="en-GB", **how)
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        yield page
        assert complaints == []
    finally:
        context.close()


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 AA, each with where it is."""
    page.evaluate(AXE)
    found = page.evaluate(f"axe.run(document, {{runOnly: {json.dumps(STANDARD)}, resultTypes: ['violations']}})")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def width(page: Page) -> int:
    """How wide the page came out."""
    return int(page.evaluate("document.documentElement.scrollWidth"))
