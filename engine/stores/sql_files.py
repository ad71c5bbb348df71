"""SQL in the folder `sql` of a store's package: named statements, and the numbered scripts that make the schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable


def folder(package: str) -> Traversable:
    """Where the files of a package are."""
    return resources.files(package) / "sql"


@cache
def queries(package: str, file: str) -> Mapping[str, str]:
    """The statements of one file by name, without their comments. `-- name: NAME` starts a statement."""
    found = {}
    for part in script(package, file).split("-- name: ")[1:]:
        name, _, body = part.partition("\n")
        lines = (line for line in body.splitlines() if not line.startswith("--"))
        found[name.strip()] = "\n".join(lines).strip()
    return found


def script(package: str, file: str) -> str:
    """The text of one file, as it stands."""
    return (folder(package) / file).read_text(encoding="utf-8")


@cache
def migrations(package: str) -> tuple[tuple[int, str], ...]:
    """The numbered scripts that make the schema: (number, file), in their order."""
    names = sorted(entry.name for entry in folder(package).iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name))
    return tuple((int(name[:4]), name) for name in names)
