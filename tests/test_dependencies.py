"""The lock has one exact version of every dependency, with the hashes of its files, and names no registry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def entries() -> list[str]:
    """Each locked package with its hashes, as one line."""
    text = re.sub(r"\\\n", " ", (ROOT / "requirements.txt").read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def test_every_package_of_the_lock_has_an_exact_version_and_hashes() -> None:
    assert len(entries()) > 50
    locked = re.compile(r"[A-Za-z0-9._-]+==[^ ;]+(\s*;[^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    for entry in entries():
        assert locked.fullmatch(entry), entry[:80]


def test_the_lock_names_no_registry() -> None:
    assert not re.search(r"://|--index|--find-links", (ROOT / "requirements.txt").read_text())


def test_the_lock_has_everything_that_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    declared += [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    locked = {name_of(entry) for entry in entries()}
    assert {name_of(one) for one in declared} - locked == set()
