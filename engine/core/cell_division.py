"""How a fleet is divided into cells, and why that cannot be changed under a database in use. Pure; read `division_problem`.

The states of a client, its open alerts and its history are in its cell. Under another division it would be new in another one, and
its old alerts would stay open for ever, without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

WAY_OUT: Final = (
    "every replica needs the same `cells`; another division begins with an empty database, and learns the states again"
)


class Division(NamedTuple):
    """One cell of a division, with the patterns of its groups. The first cell that matches a group has it."""

    name: str
    groups: tuple[str, ...]


def division_problem(wanted: Sequence[Division], kept: Sequence[Division]) -> str | None:
    """What is wrong with `cells` of a configuration for a database that was divided as `kept` says; None: nothing."""
    if list(wanted) == list(kept):
        return None
    return f"the database is divided into {_shown(kept)}, and `cells` says {_shown(wanted)}: {WAY_OUT}"


def _shown(cells: Sequence[Division]) -> str:
    return "; ".join(f"{cell.name} ({', '.join(cell.groups)})" for cell in cells)
