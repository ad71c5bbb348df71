"""The style, the scripts and what else pages load: files of `assets/`, each under an address that changes with its content. Read `address_of`."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Final

from starlette.responses import Response

MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by the end of its name; licences and the list of files are not."""

KEPT_S: Final = 365 * 86_400
"""Seconds for which a browser keeps a file: another content has another address."""


@cache
def names() -> frozenset[str]:
    """The names of all files that are served."""
    folder = resources.files("engine.web") / "assets"
    return frozenset(file.name for file in folder.iterdir() if _end_of(file.name) in MEDIA_TYPES)


@cache
def content_of(name: str) -> bytes:
    """The bytes of one file; `name` must be one of `names`."""
    return (resources.files("engine.web") / "assets" / name).read_bytes()


@cache
def address_of(name: str) -> str:
    """Where pages load a file from, relative to the root of the console."""
    return f"assets/{name}?v={hashlib.sha256(content_of(name)).hexdigest()[:16]}"


def asset_response(name: str) -> Response:
    """A file with headers that let browsers keep it; 404 for a name that is not served."""
    if name not in names():
        return Response("there is no such file", 404, media_type="text/plain")
    headers = {"Cache-Control": f"public, max-age={KEPT_S}, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(content_of(name), headers=headers, media_type=MEDIA_TYPES[_end_of(name)])


def _end_of(name: str) -> str:
    return name[name.rfind(".") :]
