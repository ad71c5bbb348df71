"""The pictures of docs/images, taken of a bad night: `python -m tests.web.screenshots`. Look at them before they are committed."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.acceptance.service import eventually
from tests.web.bad_night import PUMP_12, Night, bad_night
from tests.web.chromium import DESK, PHONE, chromium, window

IMAGES = Path(__file__).parents[2] / "docs" / "images"
TIME_ZONE = "UTC"


def take(night: Night, folder: Path) -> list[Path]:
    """Every picture; their files."""
    (outage,) = night.service.items("/v1/alerts", rule="site-down", state="firing")
    dead = night.service.items("/v1/deliveries", state="dead")[0]
    eventually(lambda: night.service.get("/v1/fleet/curve")["items"])
    shots = {
        "overview": ("/", DESK, "light"),
        "overview-phone": ("/", PHONE, "dark"),
        "client": (f"/client?id={quote(PUMP_12)}", DESK, "light"),
        "alert-phone": (f"/alert/{outage['id']}", PHONE, "light"),
        "delivery-phone": (f"/delivery/{dead['id']}", PHONE, "dark"),
        "silences-phone": ("/silences?match=device%3Dcam-*&for=8h", PHONE, "light"),
        "rules": ("/rules", DESK, "dark"),
        "sources-phone": ("/sources", PHONE, "light"),
    }
    with chromium() as browser:
        for name, (address, viewport, scheme) in shots.items():
            with window(browser, night.url, viewport=viewport, color_scheme=scheme, timezone_id=TIME_ZONE) as page:
                page.goto(address)
                _shoot(page, folder / f"{name}.png")
        with window(browser, night.url, viewport=DESK, timezone_id=TIME_ZONE) as page:
            page.goto("/try?rule=pump-offline")
            text = page.locator("#text").input_value()
            page.locator("#text").fill(text.replace("trigger: offline\n", "trigger: offline\n  for: 2m\n", 1))
            expect(page.locator("#problems")).to_contain_text("No mistake")
            page.get_by_role("button", name="See what it would have done").click()
            expect(page.locator("#result")).to_contain_text(re.compile("pump-offline"))
            _shoot(page, folder / "try.png")
    return sorted(folder.glob("*.png"))


def _shoot(page: Page, file: Path) -> None:
    page.wait_for_function("document.documentElement.classList.contains('scripted')")
    page.screenshot(path=file, full_page=True)


def main() -> None:
    """Take them into the folder of the first argument, by default docs/images."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, bad_night(Path(data)) as night:
        for file in take(night, folder):
            print(f"{file} ({file.stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    main()
