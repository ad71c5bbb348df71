"""A real identity provider (`oidc-provider` from npm), in a cache outside of the checkout. `python -m tests.access.provider_package` fetches it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.fetched import Absent, cache_folder, fetch, is_complete, program

VERSION: Final = "9.13.3"
FETCH_S: Final = 300


def cache() -> Path:
    """Where it is kept: `ROLLCALL_OIDC_PROVIDER`, or a folder of the user's cache."""
    return cache_folder("ROLLCALL_OIDC_PROVIDER", f"oidc-provider-{VERSION}")


def node() -> str:
    """The Node.js to run it with."""
    return program("node", "Node.js", "nodejs npm")


def modules() -> Path:
    """The folder with its modules, fetched if they are not there; Absent when they cannot be had."""
    folder = cache()
    if not is_complete(folder):
        npm = program("npm", "npm", "nodejs npm")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", f"oidc-provider@{VERSION}"]
        fetch(command, folder, "npm", "oidc-provider", FETCH_S)
    return folder


if __name__ == "__main__":
    try:
        print(modules())
    except Absent as absent:
        sys.exit(str(absent))
