"""Which cells of a shared store have no owner, for the trigger `cell`. Read `CellWatch.run`.

A cell without an owner cannot say so itself. Its next owner does, afterwards; and meanwhile the owner of the first cell that has one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.clock import Clock
from engine.core.alerting.triggers import CELL
from engine.core.cell_placement import better_owner
from engine.core.fleet import Fleet
from engine.core.times import duration_text
from engine.runtime.standby import RECENT_S, Standby

if TYPE_CHECKING:  # they need a package that is not always installed
    from engine.stores.postgres.fence import CellRow
    from engine.stores.postgres.store import PostgresStore

LOOK_S: Final = 1.0
"""Between two looks at the cells."""

UNEVEN_S: Final = 15.0
"""So long another replica must have had two cells fewer before one is given to it: a restart is not worth a move."""

Write = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Does work in the writer's next transaction."""


class CellWatch:
    """Opens and ends the alerts of the trigger `cell`, while this replica owns a cell."""

    def __init__(self, store: PostgresStore, standby: Standby, fleet: Fleet, clock: Clock) -> None:
        self._store, self._standby, self._fleet, self._clock = store, standby, fleet, clock
        self._own, self._lease_s = store.ownership.name, store.ownership.lease_s
        self._is_told = False  # was it said that the own cell had no owner?
        self._uneven_s: float | None = None  # since when another replica has two cells fewer; None: none has
        self.are_all_owned = True  # had every cell an owner at the last look?

    async def run(self, write: Write) -> None:
        """Look until cancelled."""
        while True:
            await write(self._look)
            self._is_told = True
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        """In the writer's thread, inside a transaction."""
        now_ms, triggers = self._clock.now_ms(), self._fleet.alerts.triggers
        if not self._is_told and self._standby.unowned_s > self._lease_s:
            triggers.cell(self._own, _trouble(self._standby.unowned_s), now_ms)
        rows = self._store.all_cells()
        self.are_all_owned = not lapsed_cells(rows, self._lease_s)
        self._share_out(rows)
        unowned = unowned_cells(rows, self._own, self._lease_s)
        for name in self._in_trouble() - unowned.keys():
            triggers.cell(name, None, now_ms)
        for name, for_s in unowned.items():
            triggers.cell(name, _trouble(for_s), now_ms)

    def _share_out(self, rows: Sequence[CellRow]) -> None:
        """Give the cell to a replica that owns fewer, once that has been so for a while: each takes its part of the work."""
        if len(rows) < 2:
            return
        replica, now_s = self._store.ownership.replica, time.monotonic()
        found = better_owner(self._store.replicas(RECENT_S), self._store.cell, replica)
        if found is None:
            self._uneven_s = None
            return
        self._uneven_s = self._uneven_s or now_s
        if now_s - self._uneven_s >= UNEVEN_S:
            self._store.share_out(found)
            self._uneven_s = None

    def _in_trouble(self) -> set[str]:
        """The cells of which alerts are open."""
        alerts = self._fleet.alerts.open_alerts.of_trigger("cell")
        return {alert.source.removeprefix(CELL) for alert in alerts if alert.source is not None}


def unowned_cells(rows: Sequence[CellRow], own: str, lease_s: float) -> dict[str, float]:
    """Cells that have had no owner for longer than the lease, and for how many seconds; what the owner of `own` has to say of them.

    Only the owner of the first cell that has one speaks, so that it is said once.
    """
    speaker = next((row.name for row in rows if row.left_s > 0), None)
    if speaker != own:
        return {}
    return lapsed_cells(rows, lease_s)


def lapsed_cells(rows: Sequence[CellRow], lease_s: float) -> dict[str, float]:
    """Cells that have had no owner for longer than the lease, and for how many seconds. A cell that was never owned is new."""
    return {row.name: -row.left_s for row in rows if row.epoch and row.left_s < -lease_s}


def _trouble(for_s: float) -> str:
    return f"no replica has owned it for {duration_text(int(for_s) * 1000)}"
