"""What a cell needs of a store that several replicas share. Read `Shared`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.clock import running_ms
from engine.core.cell_placement import BEHIND, OWNER, STANDBY
from engine.errors import StoreError
from engine.runtime.inbox_source import InboxSource
from engine.runtime.standby import Standby
from engine.runtime.store_clock import StoreClock
from engine.web.service import CellState

if TYPE_CHECKING:  # they need a package that is not always installed
    from engine.stores.postgres.fence import CellRow
    from engine.stores.postgres.inbox import PostgresInbox
    from engine.stores.postgres.store import PostgresStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a cell needs of a store that several replicas share."""

    store: PostgresStore
    clock: StoreClock
    others_owned: Callable[[], int] = lambda: 0  # how many other cells this replica owns

    def inbox_source(self, options: Mapping[str, Any]) -> InboxSource:
        """What replicas have taken over HTTP, as a source of the owner."""
        return InboxSource(**options, inbox=self.inbox, delete=self.store.posted.delete)

    def inbox(self) -> PostgresInbox:
        """What is posted to the cell, on a connection of its own."""
        from engine.stores.postgres.inbox import PostgresInbox

        return PostgresInbox(self.store.database, self.store.cell)

    def look(self) -> CellRow:
        """In the writer's thread: the cell as the database has it, and the database's clock; say that this replica is its owner."""
        self.store.describe(OWNER, self.store.journal.last_id())
        return self.clock.ask_beside(self.store.ownership.look, lambda row: row.now_ms)

    def send_until_s(self) -> float:
        """Until when something may be sent, by `running_ms`, rounded so that it seldom changes; an instant that has passed: nothing may."""
        ownership = self.store.ownership
        return math.floor((running_ms() / 1000 + ownership.left_s()) * 10) / 10 if ownership.may_send() else 0.0

    def state(self, standby: Standby, lost: StoreError | None) -> CellState:
        """The cell as this replica sees it. `lost`: why it was lost, while it is being loaded again."""
        ownership = self.store.ownership
        fenced = ownership.fenced_commits
        if ownership.is_owner:
            return CellState(ownership.name, OWNER, ownership.replica, ownership.epoch, 0.0, fenced, None)
        lag_s, reason = standby.lag_s(), None
        if lost is not None:
            reason = str(lost)
        elif not standby.is_warm:
            reason = standby.trouble or "the states are being loaded"
        elif lag_s > ownership.lease_s:
            reason = standby.trouble or "the journal has not been read for longer than the lease"
        standing = STANDBY if reason is None else BEHIND
        return CellState(ownership.name, standing, standby.owner, 0, lag_s, fenced, reason)
