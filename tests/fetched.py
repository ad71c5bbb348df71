"""What tests need that comes from a registry of packages, in a cache outside of the checkout. Read `fetch`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


class Absent(Exception):
    """What is missing for a service of the tests, as a sentence."""


def cache_folder(variable: str, name: str) -> Path:
    """Where something is kept: the folder that a variable of the environment names, or one of the user's cache."""
    told = os.environ.get(variable)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(told) if told else home / "rollcall" / name


def program(name: str, what: str, packages: str) -> str:
    """The path of a program; Absent when it is not installed. `packages`: of Debian."""
    found = shutil.which(name)
    if found is None:
        raise Absent(f"{what} is not installed (Debian: apt-get install {packages})")
    return found


def is_complete(folder: Path) -> bool:
    """Has everything been fetched into a folder?"""
    return (folder / "complete").exists()


def fetch(command: Sequence[str], folder: Path, by: str, what: str, within_s: float) -> None:
    """Fetch something into a folder by a command; Absent when that fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired as slow:
        raise Absent(f"{by} did not fetch {what} within {within_s} s") from slow
    if done.returncode:
        raise Absent(f"{by} could not fetch {what}: {(done.stderr.strip() or done.stdout.strip())[-500:]}")
    (folder / "complete").touch()
