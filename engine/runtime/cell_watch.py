"""Which cells of a shared store have no owner, for the trigger `cell`. Read `CellWatch.run`.

A cell without an owner cannot say so itself. Its next owner does, afterwards; and meanwhile the owner of the first cell that has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.clock import Clock
from engine.core.alerting.triggers import CELL
from engine.core.fleet import Fleet
from engine.core.times import duration_text
from engine.runtime.standby import Standby

if TYPE_CHECKING:  # they need a package that is not always installed
    from engine.stores.postgres.fence import CellRow
    from engine.stores.postgres.store import PostgresStore

LOOK_S: Final = 1.0
"""Between two looks at the cells."""

Write = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Does work in the writer's next transaction."""


class CellWatch:
    """Opens and ends the alerts of the trigger `cell`, while this replica owns a cell."""

    def __init__(self, store: PostgresStore, standby: Standby, fleet: Fleet, clock: Clock, write: Write) -> None:
        self._store, self._standby, self._fleet, self._clock, self._write = store, standby, fleet, clock, write
        self._own, self._lease_s = store.ownership.name, store.ownership.lease_s
        self._is_told = False  # was it said that the own cell had no owner?

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._write(self._look)
            self._is_told = True
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        """In the writer's thread, inside a transaction."""
        now_ms, triggers = self._clock.now_ms(), self._fleet.alerts.triggers
        if not self._is_told and self._standby.unowned_s > self._lease_s:
            triggers.cell(self._own, _trouble(self._standby.unowned_s), now_ms)
        unowned = unowned_cells(self._store.all_cells(), self._own, self._lease_s)
        for name in self._in_trouble() - unowned.keys():
            triggers.cell(name, None, now_ms)
        for name, for_s in unowned.items():
            triggers.cell(name, _trouble(for_s), now_ms)

    def _in_trouble(self) -> set[str]:
        """The cells of which alerts are open."""
        alerts = self._fleet.alerts.open_alerts.of_trigger("cell")
        return {alert.source.removeprefix(CELL) for alert in alerts if alert.source is not None}


def unowned_cells(rows: Sequence[CellRow], own: str, lease_s: float) -> dict[str, float]:
    """Cells that have had no owner for longer than the lease, and for how many seconds; what the owner of `own` has to say of them.

    Only the owner of the first cell that has one speaks, so that it is said once. A cell that was never owned is new.
    """
    speaker = next((row.name for row in rows if row.left_s > 0), None)
    if speaker != own:
        return {}
    return {row.name: -row.left_s for row in rows if row.epoch and row.left_s < -lease_s}


def _trouble(for_s: float) -> str:
    return f"no replica has owned it for {duration_text(int(for_s) * 1000)}"
