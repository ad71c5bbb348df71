"""Which replica should own which cell, so that several replicas share several cells. Pure; read `better_owner` and `should_wait`.

No replica decides for the others: each looks at what all of them said of themselves last, so at worst a cell moves once too often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

OWNER: Final = "owner"
STANDBY: Final = "standby"
BEHIND: Final = "behind"
"""How a replica stands to a cell: behind, when its states are not loaded or it does not see what the owner commits."""


class ReplicaStanding(NamedTuple):
    """A replica as it described itself last."""

    cell: int
    name: str
    standing: str  # owner, standby or behind


def cells_owned(standings: Iterable[ReplicaStanding]) -> Mapping[str, int]:
    """How many cells each replica owns, by its name; 0 for one that owns none."""
    found: dict[str, int] = {}
    for one in standings:
        found[one.name] = found.get(one.name, 0) + (one.standing == OWNER)
    return found


def should_wait(standings: Iterable[ReplicaStanding], cell: int, replica: str, owned: int) -> bool:
    """May a replica that owns `owned` cells leave a free one to another, which stands by for it and owns fewer?"""
    all_ = list(standings)
    counts = cells_owned(all_)
    return any(
        one.cell == cell and one.standing == STANDBY and one.name != replica and counts[one.name] < owned
        for one in all_
    )


def better_owner(standings: Iterable[ReplicaStanding], cell: int, replica: str) -> str | None:
    """The replica that should get a cell from its owner `replica`, which has too many; None: leave it.

    Only one of the owner's cells is given away at a time: the last one for which somebody stands by who owns at least two fewer.
    """
    all_ = list(standings)
    counts = cells_owned(all_)
    mine = {one.cell for one in all_ if one.name == replica and one.standing == OWNER}
    wanting = {
        (one.cell, counts[one.name], one.name)
        for one in all_
        if one.cell in mine and one.standing == STANDBY and counts[one.name] <= len(mine) - 2
    }
    if not wanting or max(number for number, _, _ in wanting) != cell:
        return None
    return min((count, name) for number, count, name in wanting if number == cell)[1]
