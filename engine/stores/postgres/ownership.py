"""Who runs a cell: taking it, holding it by each commit, giving it back, and what became of a commit whose answer was lost.

Safety is in the transaction (`advance` in the schema), not in the lease: the lease only says how soon another replica may try. The
deadline of `may_send` counts by a clock that nobody sets, from before the statement that renewed the lease was sent, so it ends before
the database lets another replica take the cell. Read `Ownership.take`, `opening` and `settle`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn
from uuid import uuid4

import psycopg

from engine.errors import Fenced, StoreBehind, StoreError
from engine.stores.postgres.failures import explain, store_errors
from engine.stores.postgres.fence import CellRow, CommitFate, Fence, verdict
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session
from engine.stores.postgres.transactions import unfenced

Q = queries("cells.sql")


def steady_s() -> float:
    """Seconds that have passed, those included in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Ownership:
    """What one replica holds of one cell. Used by the thread of its session; `may_send` and `is_owner` by every thread."""

    def __init__(
        self, session: Session, name: str, replica: str, lease_s: float, now_s: Callable[[], float] = steady_s
    ) -> None:
        """`name`: of the cell. `now_s` must never be set and must count while the machine sleeps."""
        self.name, self.replica, self.lease_s = name, replica, lease_s
        self.fenced_commits = 0  # transactions of ours that the fence stopped, since the start
        self._session, self._now_s = session, now_s
        self._fence: Fence | None = None
        self._sent_s = 0.0  # when the statement that renews the lease was about to be sent
        self._deadline_s = 0.0
        self._is_fate_unknown = False

    # What every thread may ask

    @property
    def is_owner(self) -> bool:
        """Does this replica hold the cell, as far as it knows?"""
        return self._fence is not None

    @property
    def epoch(self) -> int:
        """Of how many takings this is the newest; 0: this replica is not the owner."""
        fence = self._fence
        return fence.epoch if fence is not None else 0

    @property
    def head(self) -> int:
        """How many transactions are committed, as this replica knows; 0: it is not the owner."""
        fence = self._fence
        return fence.head if fence is not None else 0

    def left_s(self) -> float:
        """How long the lease still lasts; 0: it is over, or this replica is not the owner."""
        return max(0.0, self._deadline_s - self._now_s()) if self._fence is not None else 0.0

    def may_send(self) -> bool:
        """May something of this cell leave now? Not when the lease has run out, and not while it is unknown what is committed."""
        return self._fence is not None and not self._is_fate_unknown and self._now_s() < self._deadline_s

    # In the thread of the session

    def look(self) -> CellRow:
        """The cell as the database has it. StoreError when it cannot be asked."""
        with store_errors("the cell could not be read"):
            row = self._session.row(Q["by_name"], (self.name,))
        if row is None:
            raise StoreError(f"the database has no cell {self.name!r}")
        return cell_row(row)

    def take(self, *, force: bool = False) -> bool:
        """Become the owner, if the cell is free by the database's clock; `force`: also when it is not. False: somebody else is."""
        sent_s, token = self._now_s(), uuid4()
        with store_errors("the cell could not be taken"):
            values = {"token": token, "owner": self.replica, "lease": self.lease_s, "name": self.name, "force": force}
            row = self._session.row(Q["take"], values)
        if row is None:
            return False
        cell, epoch, head = row
        self._fence = Fence(cell=cell, epoch=epoch, token=token, head=head)
        self._deadline_s, self._is_fate_unknown = sent_s + self.lease_s, False
        return True

    def release(self) -> None:
        """Give the cell back after the last transaction: another replica may take it at once. Nothing is sent from now on."""
        fence = self.forget()
        if fence is not None:
            with store_errors("the cell could not be given back"):
                self._session.rows(f"{Q['release']} RETURNING cell", (fence.cell, fence.epoch, fence.token))

    def forget(self) -> Fence | None:
        """Be no owner any more; what was held."""
        fence, self._fence, self._is_fate_unknown = self._fence, None, False
        return fence

    def opening(self) -> str:
        """What begins a transaction: the fence moves, or nothing is committed."""
        fence = self._held()
        self._sent_s = self._now_s()
        return (
            f"BEGIN; SELECT advance({fence.cell}, {fence.epoch}, '{fence.token}', {fence.head}, "
            f"make_interval(secs => {self.lease_s!r}))"
        )

    def committed(self) -> None:
        """The transaction that began with `opening` is durable."""
        fence = self._held()
        self._fence = replace(fence, head=fence.head + 1)
        self._deadline_s, self._is_fate_unknown = self._sent_s + self.lease_s, False

    def settle(self) -> None:
        """Before a transaction: find out what became of one whose answer was lost. Fenced, StoreBehind, or StoreError when nobody answers."""
        self._held()
        if self._is_fate_unknown:
            found = self._ask()
            if found is not CommitFate.UNDONE:  # also when it had committed: memory took it for undone
                self._fail(found)
            self._is_fate_unknown = False

    def lost_while_committing(self, error: psycopg.Error) -> None:
        """The connection was lost around COMMIT: returns if it had committed.

        Raises StoreError when it had not or nobody can be asked, else Fenced or StoreBehind.
        """
        self._is_fate_unknown = True
        self._session.drop()
        try:
            found = self._ask()
        except StoreError as unknown:
            raise StoreError(
                f"the connection was lost while committing, and whether it was committed is not known yet: {unknown}"
            ) from error
        if found is CommitFate.COMMITTED:
            self.committed()
            return
        self._is_fate_unknown = False
        if found is CommitFate.UNDONE:
            raise explain("the store could not commit", error) from error
        self._fail(found)

    def stopped(self) -> NoReturn:
        """The fence stopped a transaction: Fenced, StoreBehind, or StoreError when it cannot be told which."""
        self.fenced_commits += 1
        self._fail(self._ask())

    def _held(self) -> Fence:
        if self._fence is None:
            raise Fenced(f"this replica does not own the cell {self.name!r}")
        return self._fence

    def _ask(self) -> CommitFate:
        """What the database says of our newest transaction, once that has certainly ended.

        The lock makes the question a transaction of its own, whose commit waits for a synchronous standby as every other does: so does
        what is answered here.
        """
        fence = self._held()
        with store_errors("the cell could not be read"), unfenced(self._session):
            row = self._session.row(Q["settle"], (fence.cell,))
        return verdict(fence, None if row is None else cell_row(row))

    def _fail(self, found: CommitFate) -> NoReturn:
        """Be no owner any more, and say why."""
        if found is CommitFate.FENCED:
            self.forget()
            raise Fenced(
                f"another replica has taken the cell {self.name!r}: this one forgets what it knows and stands by"
            )
        with suppress(StoreError):  # the next owner, maybe this replica, need not wait for the lease
            self.release()
        self.forget()
        raise StoreBehind(
            f"the store of the cell {self.name!r} is not where this replica left it, as after a failover to a standby that lagged:"
            " everything is loaded again"
        )


def cell_row(row: Sequence[Any]) -> CellRow:
    """The value of a row, in the order of `by_name`."""
    cell, name, epoch, token, owner, head, left_s, now_ms, wanted, placed = row
    return CellRow(
        cell=cell,
        name=name,
        epoch=epoch,
        token=token,
        owner=owner,
        head=head,
        left_s=float(left_s),
        now_ms=now_ms,
        wanted=wanted,
        placed=placed,
    )
