"""The shipped e-mails in a real browser: nothing is cut off or runs over, on a telephone and on a desk."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.templates.email import MailRenderer
from tests.mail.browser import WIDTHS, Browser, Look
from tests.mail.test_mailrendering import planned, variables

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LONG = "GID_PUMP_STATIONS_OF_THE_NORTHERN_WATERWORKS@@@pump-station-" + "0123456789" * 6


def fleet(**alert: Any) -> dict[str, Any]:
    found = variables("GID_PUMP@@@p-0172", attributes={"site": "Nordhafen", "owner": "water@example.com"}, **alert)
    found["rule"] = {
        "name": "pump-offline",
        "severity": "critical",
        "description": "A pump has been dark for five minutes. Call the waterworks before you drive out.",
        "labels": {"team": "water", "runbook": "https://wiki.example.com/runbooks/pumps/when-a-pump-goes-dark"},
    }
    return found


CLIENTS = [f"GID_PUMP@@@p-{number:04d}" for number in range(170, 194)]
MAILS: dict[str, PlannedDelivery] = {
    "firing": planned(fleet()),
    "recovery": planned(fleet(state="resolved") | {"status": "online", "previous": "offline"}, phase="recovery"),
    "clients": planned(
        fleet(count=24, clients=CLIENTS, key={"group": "GID_PUMP", "site": "Nordhafen"}), clients=tuple(CLIENTS)
    ),
}
EXTREME: dict[str, PlannedDelivery] = {
    "long id": planned(variables(LONG, attributes={"a-very-long-column-name-indeed": "x" * 200})),
    "long list": planned(variables(count=500, clients=[LONG] * 500, key={"group": LONG}), clients=(LONG,)),
    "markup": planned(variables("G@@@<script>alert(1)</script><b>bold</b>")),
    "source": planned({**variables(source="broker-" + "x" * 80, detail="silent for 5m", clients=[]), "client": None}),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(tmp_path_factory.mktemp("browser"))


def page_of(mail: PlannedDelivery) -> str:
    found = MailRenderer()(mail)
    assert found.problem is None
    return str(found.request["html"])


def lightness(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(text: dict[str, Any]) -> float:
    dark, light = sorted([lightness(text["color"]), lightness(text["background"])])
    return (light + 0.05) / (dark + 0.05)


def pixels(png: bytes) -> tuple[int, int, set[bytes]]:
    """Width, height and the colours of a PNG of 8 bits a channel."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8 and kind in (2, 6)
    at, packed = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += 12 + length
    size = 3 if kind == 2 else 4
    data, before, colours = zlib.decompress(packed), bytes(width * size), set()
    for row in range(height):
        line = bytearray(data[row * (width * size + 1) + 1 : (row + 1) * (width * size + 1)])
        unfilter(data[row * (width * size + 1)], line, before, size)
        colours |= {bytes(line[place : place + 3]) for place in range(0, len(line), size)}
        before = bytes(line)
    return width, height, colours


def unfilter(how: int, line: bytearray, before: bytes, size: int) -> None:
    for place in range(len(line)):
        left = line[place - size] if place >= size else 0
        corner = before[place - size] if place >= size else 0
        above = before[place]
        guess = (0, left, above, (left + above) // 2, paeth(left, above, corner))[how]
        line[place] = (line[place] + guess) & 255


def paeth(left: int, above: int, corner: int) -> int:
    near = left + above - corner
    return min((abs(near - left), 0, left), (abs(near - above), 1, above), (abs(near - corner), 2, corner))[2]


def check(look: Look, width: int) -> None:
    assert look.wide <= width, "runs over the side"
    assert look.texts and look.loads == 0
    for text in look.texts:
        assert text["left"] >= 0 and text["right"] <= width, text
        assert text["height"] >= 12 and text["size"] >= 12, text
        assert contrast(text) >= 4.5, text


@pytest.mark.parametrize("name", [*MAILS, *EXTREME])
def test_it_is_readable_on_a_telephone_and_on_a_desk(name: str, browser: Browser) -> None:
    page = page_of((MAILS | EXTREME)[name])
    for width in WIDTHS:
        look = browser.look(page, width)
        check(look, width)
        said = " ".join(text["text"] for text in look.texts)
        if name == "markup":
            assert "<script>alert(1)</script><b>bold</b>" in said
        if name == "clients":
            assert all(client in said for client in CLIENTS)
    if width == 800:
        assert max(text["right"] for text in look.texts) - min(text["left"] for text in look.texts) <= 600


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", MAILS)
def test_a_picture_of_it(name: str, width: int, browser: Browser) -> None:
    """Something is to be seen; with ROLLCALL_PICTURES=1 the pictures of the documentation are made anew."""
    page = page_of(MAILS[name])
    high = browser.look(page, width).high
    png = browser.picture(page, width, high)
    found_width, found_height, colours = pixels(png)
    assert (found_width, found_height) == (max(width, 500), high)
    head = {"recovery": (0x06, 0x76, 0x47)}.get(name, (0xB4, 0x23, 0x18))
    assert bytes(head) in colours and bytes((0x10, 0x18, 0x28)) in colours and len(colours) > 20
    if os.environ.get("ROLLCALL_PICTURES") == "1":
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / f"mail-{name}-{width}.png").write_bytes(png)
    assert (IMAGES / f"mail-{name}-{width}.png").stat().st_size < 100_000
