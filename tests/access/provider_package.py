"""A real identity provider (`oidc-provider` from npm), in a cache outside of the checkout. `python -m tests.access.provider_package` fetches it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

VERSION: Final = "9.13.3"
FETCH_S: Final = 300


class Absent(Exception):
    """What is missing for a provider, as a sentence."""


def cache() -> Path:
    """Where it is kept: `ROLLCALL_OIDC_PROVIDER`, or a folder of the user's cache."""
    told = os.environ.get("ROLLCALL_OIDC_PROVIDER")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(told) if told else home / "rollcall" / f"oidc-provider-{VERSION}"


def node() -> str:
    """The Node.js to run it with."""
    found = shutil.which("node")
    if found is None:
        raise Absent("Node.js is not installed (Debian: apt-get install nodejs npm)")
    return found


def modules() -> Path:
    """The folder with its modules, fetched if they are not there; Absent when they cannot be had."""
    folder = cache()
    if (folder / "complete").exists():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise Absent("npm is not installed (Debian: apt-get install nodejs npm)")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", f"oidc-provider@{VERSION}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired as slow:
        raise Absent(f"npm did not fetch oidc-provider within {FETCH_S} s") from slow
    if done.returncode:
        raise Absent(f"npm could not fetch oidc-provider: {done.stderr[-500:]}")
    (folder / "complete").touch()
    return folder


if __name__ == "__main__":
    try:
        print(modules())
    except Absent as absent:
        sys.exit(str(absent))
