"""A real browser that a test drives as a person does: it opens addresses, types, presses keys and touches. Scripts of pages are off.

It is spoken to over a pipe (the browser's own DevTools protocol), so nothing but the browser is needed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.acceptance.service import eventually, requires
from tests.mail.browser import NAMES

QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe"]  # fmt: skip
KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}
TELEPHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


class BrowserSession:
    """One window. Use it as a context; `folder` holds its profile."""

    def __init__(self, folder: Path, *, telephone: bool = False) -> None:
        found = next((path for name in NAMES if (path := shutil.which(name))), None)
        requires("a browser (apt-get install chromium)", found)
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        # It reads from 3 and writes to 4.
        redirected = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirected, str(found), *QUIET, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(commands, answers),
            env=os.environ | {"HOME": str(folder)},
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._left = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        targets = self._do("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self._do("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._do("Emulation.setScriptExecutionDisabled", value=True)
        if telephone:
            self._do("Emulation.setDeviceMetricsOverride", **TELEPHONE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def open(self, address: str) -> None:
        """Go there, as if the address was typed."""
        self._do("Page.navigate", url=address)

    def text(self) -> str:
        """What the page says now."""
        return str(self._see("document.body ? document.body.innerText : ''"))

    def address(self) -> str:
        """Where the page is."""
        return str(self._see("location.href"))

    def wait_for(self, words: str) -> str:
        """What the page says once it says these words."""
        return eventually(self.text, lambda text: words in text)

    def place(self, selector: str) -> dict[str, float]:
        """Where the first such element is, in pixels of the window: left, right, top, bottom."""
        found = self._see(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return {left: box.left, right: box.right, top: box.top, bottom: box.bottom} })()"
        )
        assert isinstance(found, dict)
        return found

    def focused(self) -> str:
        """The words on the element that has the keyboard, or the name of the field."""
        return str(
            self._see("(document.activeElement || {}).ariaLabel || document.activeElement.name || document.activeElement.innerText")
        )  # fmt: skip

    def width(self) -> int:
        """How wide the page came out."""
        return int(self._see("document.documentElement.scrollWidth"))

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        code, text = KEYS[key]
        self._do("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
        self._do("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Type into what has the keyboard."""
        self._do("Input.insertText", text=text)

    def touch(self, selector: str) -> None:
        """Press the middle of the first such element."""
        self._see(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.place(selector)
        at = {"x": (box["left"] + box["right"]) / 2, "y": (box["top"] + box["bottom"]) / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self._do("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def _see(self, expression: str) -> Any:
        found = self._do("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        said: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            said["sessionId"] = self._session
        os.write(self._to, json.dumps(said).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            some = os.read(self._from, 1 << 20)
            assert some, "the browser has ended"
            self._left += some
        line, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(line))
