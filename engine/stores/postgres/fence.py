"""Whose a cell is, as values: what an owner holds, what the database says, and what follows. Pure; read `verdict`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What a replica holds of the cell that it owns."""

    cell: int
    epoch: int
    token: UUID  # new with each taking: after a failover that lost a taking, an epoch may come twice
    head: int  # transactions that are committed, as this replica knows


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell as the database has it."""

    cell: int
    name: str
    epoch: int
    token: UUID | None
    owner: str | None  # the replica that took it last; None: given back
    head: int
    left_s: float  # until another replica may take it, by the database's clock; not more than 0: it may now
    now_ms: int = 0  # what the database's clock showed, epoch milliseconds
    # The replica that shall own it; `!NAME`: any other than this one; `~NAME`: to share the cells out. None: no wish.
    wanted: str | None = None
    placed: str | None = None  # the wish of an operator by which it was taken last; None: there was none

    def may_be_of(self, replica: str) -> bool:
        """Is there no wish for another owner than this replica?"""
        if self.wanted is None:
            return True
        return self.wanted[1:] != replica if self.wanted.startswith("!") else self.wanted.removeprefix("~") == replica


class CommitFate(Enum):
    """How a transaction ended of which the answer was lost."""

    COMMITTED = "committed"
    UNDONE = "undone"
    BEHIND = "behind"  # neither: the database was put back, or something of ours was committed that we took for undone
    FENCED = "fenced"


def verdict(mine: Fence, found: CellRow | None) -> CommitFate:
    """What became of the transaction that would have moved the head from `mine.head` to the next one."""
    if found is None or (found.epoch, found.token) != (mine.epoch, mine.token):
        return CommitFate.FENCED
    if found.head == mine.head + 1:
        return CommitFate.COMMITTED
    return CommitFate.UNDONE if found.head == mine.head else CommitFate.BEHIND
