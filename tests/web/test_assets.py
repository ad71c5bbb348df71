"""What pages load comes from this service, with a licence and a known hash, and is in the wheel."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from engine.web import asset_files
from engine.web.html_page import POLICY, rendered

ASSETS = Path(asset_files.__file__).parent / "assets"
ROW = re.compile(
    r"^\| `(?P<file>[^`]+)` \| [^|]+ \| `[^`]+` \| [^|]*\((?P<licence>[^)]+)\)\)? \| `(?P<sha256>[0-9a-f]{64})` \|$",
    re.MULTILINE,
)
OWN = {"console.css", "console.js", "drawings.css", "icon.svg"}


def test_every_file_of_others_is_listed_with_its_licence_and_has_its_hash() -> None:
    rows = list(ROW.finditer((ASSETS / "VENDORED.md").read_text()))
    assert {row["file"] for row in rows} == asset_files.names() - OWN
    for row in rows:
        assert hashlib.sha256((ASSETS / row["file"]).read_bytes()).hexdigest() == row["sha256"], row["file"]
        assert (ASSETS / row["licence"]).read_text().strip()


@pytest.mark.parametrize("name", ["../console.py", "VENDORED.md", "LICENSE.htmx.txt", "", "nothing.js"])
def test_nothing_else_is_served(name: str) -> None:
    assert asset_files.asset_response(name).status_code == 404


def test_a_file_has_an_address_of_its_content_and_is_kept() -> None:
    assert asset_files.address_of("console.js") == f"assets/console.js?v={hashlib.sha256((ASSETS / 'console.js').read_bytes()).hexdigest()[:16]}"  # fmt: skip
    answer = asset_files.asset_response("console.js")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/javascript")


def test_no_template_needs_what_the_policy_forbids() -> None:
    assert "unsafe" not in POLICY and "http" not in POLICY
    for file in (ASSETS.parent / "templates").glob("*.html"):
        text = file.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), file
        assert not re.search(r"\s(style|on[a-z]+)=", text), file
        assert "javascript:" not in text and "| safe" not in text, file


def test_a_page_escapes_what_it_shows() -> None:
    hostile = "<script>alert(1)</script>\u202e"
    shown = {
        "root": "./",
        "problem": hostile,
        "status": 400,
        "back": "",
        "section": "",
        "said": None,
        "live": "",
        "form": "",
        "fields": {},
    }
    visitor = type("Visitor", (), {"token": "t", "name": "", "is_signed_in": False, "can": lambda self, form: True})()
    page = rendered("problem.html", shown | {"visitor": visitor, "version": "1", "now": "2026-01-01T00:00:00.000Z", "not_ready": [], "longest_name": 9, "navigation": [], "asks_name": False})  # fmt: skip
    assert "<script>alert" not in page and "\u202e" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in page
