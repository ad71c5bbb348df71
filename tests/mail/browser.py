"""A real browser that shows a page without a window: what it laid out, and a picture of it."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.service import requires

WIDTHS = (320, 800)
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--force-device-scale-factor=1", "--virtual-time-budget=2000"]  # fmt: skip

# Read after the page was laid out: how wide it came out, and every text with its place, size and colours.
LOOK = """
const looks = {};
for (const frame of document.querySelectorAll('iframe')) frame.addEventListener('load', () => {
  const page = frame.contentDocument, window = page.defaultView, texts = [];
  const walk = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    if (!text) continue;
    const range = page.createRange();
    range.selectNodeContents(walk.currentNode);
    const box = range.getBoundingClientRect(), style = window.getComputedStyle(walk.currentNode.parentElement);
    let back = walk.currentNode.parentElement;
    while (back && window.getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
    texts.push({text, left: box.left, right: box.right, height: box.height, size: parseFloat(style.fontSize),
                color: style.color, background: back ? window.getComputedStyle(back).backgroundColor : ''});
  }
  looks[frame.offsetWidth] = {
    wide: page.documentElement.scrollWidth, high: page.documentElement.scrollHeight, texts,
    loads: window.performance.getEntriesByType('resource').length + page.images.length,
  };
  document.querySelector('#seen').textContent = JSON.stringify(looks);
});
"""


@dataclass(frozen=True, slots=True)
class Look:
    """A page as it was laid out: size in CSS pixels, and its texts."""

    wide: int
    high: int
    texts: list[dict[str, Any]]
    loads: int  # images and other things fetched


class Browser:
    """Starts a browser for each page and each picture, with a profile of its own; pages are looked at in all `WIDTHS`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = next((path for name in NAMES if (path := shutil.which(name))), None)
        requires("a browser (apt-get install chromium)", found)
        self._program = str(found)
        self._looks: dict[str, dict[int, Look]] = {}

    def look(self, page: str, width: int) -> Look:
        """How a page is laid out at a width: in a frame, since no window is as narrow as a telephone."""
        if page not in self._looks:
            dom = self._run(self._framed(page, WIDTHS, 10), "--window-size=1000,1000", "--dump-dom")
            found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
            assert found is not None and found[1], dom[-2000:]
            looks = json.loads(html.unescape(found[1]))
            self._looks[page] = {int(wide): Look(**look) for wide, look in looks.items()}
        return self._looks[page][width]

    def picture(self, page: str, width: int, high: int) -> bytes:
        """The same as a PNG."""
        file = self._folder / "picture.png"
        file.unlink(missing_ok=True)
        self._run(self._framed(page, [width], high), f"--window-size={max(width, 500)},{high}", f"--screenshot={file}")
        return file.read_bytes()

    def _framed(self, page: str, widths: Sequence[int], high: int) -> Path:
        file, source = self._folder / "page.html", html.escape(page)
        frame = "".join(
            f'<iframe style="border:0;width:{width}px;height:{high}px;display:block" srcdoc="{source}"></iframe>'
            for width in widths
        )
        shell = f'<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">{frame}<pre id="seen"></pre>'
        file.write_text(f"{shell}<script>{LOOK}</script></body>", encoding="utf-8")
        return file

    def _run(self, page: Path, *options: str) -> str:
        profile = self._folder / "profile"
        command = [self._program, *QUIET, f"--user-data-dir={profile}", *options, page.as_uri()]
        environment = os.environ | {"HOME": str(self._folder)}
        done = subprocess.run(command, capture_output=True, timeout=120, check=True, env=environment)
        return done.stdout.decode()
