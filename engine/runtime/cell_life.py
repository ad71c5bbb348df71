"""A cell at this replica, from one ownership to the next. Read `CellLife.run`.

With the embedded store there is one ownership, and it lasts as long as the process. With a store that several replicas share, the cell
stands by until it is owned; an owner that is fenced, or whose memory is not what the store has, forgets everything and stands by again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from engine.errors import RollcallError, StoreBehind, StoreError
from engine.runtime.cell import Begin, Cell
from engine.runtime.standby import RETRY_S, Standby
from engine.telemetry import Event, logger

log = logger(__name__)


class CellLife:
    """Has a cell run, and makes the next one when it is lost."""

    def __init__(
        self,
        cell: Cell,
        make: Callable[[], Cell],
        *,
        begin: Begin,
        end: Callable[[], None],
        take_rules: Callable[[Cell], None],
    ) -> None:
        """`make`: a new cell with a store of its own, in a thread. `begin` and `end`: of the background parts.

        `take_rules`: puts the rules in force in a cell, in its writer's thread.
        """
        self.cell = cell  # the present one
        self._make, self._begin, self._end, self._take_rules = make, begin, end, take_rules
        self._standing_by = ThreadPoolExecutor(1, "standby")

    async def run(self, stop: asyncio.Event, before_stop: Callable[[], Awaitable[None]]) -> BaseException | None:
        """Until `stop` is set, or an internal error ends it, which is returned. `before_stop` is awaited before the last cell stops."""
        while True:
            cell = self.cell
            is_over = await self._run_once(cell, stop, before_stop)
            if is_over:
                return cell.error
            self._end()
            following = await self._made(stop)
            if following is None:
                await before_stop()
                return None
            following.follow(cell)
            self.cell = following

    async def _run_once(self, cell: Cell, stop: asyncio.Event, before_stop: Callable[[], Awaitable[None]]) -> bool:
        """One ownership; True: the service ends."""
        if cell.standby is None:
            await asyncio.to_thread(cell.load)
        elif not await self._owns(cell, cell.standby, stop):
            return await self._over(cell, stop, before_stop)
        try:
            await cell.start(self._begin, partial(self._take_rules, cell))
        except StoreError:
            if cell.lost is None:
                raise
        await _first_of(stop, cell.ended, cell.hand_over)
        if cell.lost is not None:
            self._end()
            await cell.abandon()
            await asyncio.to_thread(cell.store.close)
            return False
        if not stop.is_set() and cell.error is None:
            self._end()
            await self._given_back(cell)
            return False
        await before_stop()
        await self._given_back(cell)
        return True

    async def _owns(self, cell: Cell, standby: Standby, stop: asyncio.Event) -> bool:
        """Stand by until the cell is owned. False: it must be loaded again, or the service stops."""
        halt = threading.Event()
        waiting = asyncio.create_task(stop.wait())
        waiting.add_done_callback(lambda done: halt.set())
        try:
            found = asyncio.get_running_loop().run_in_executor(self._standing_by, standby.until_owner, halt)
            is_owner = await found
        except StoreBehind as error:
            log.warning(Event.CELL_LOST, cell=standby.name, error=str(error))
            return False
        finally:
            waiting.cancel()
        if is_owner:
            log.info(Event.CELL_TAKEN, cell=standby.name, epoch=standby.epoch)
        return is_owner

    async def _over(self, cell: Cell, stop: asyncio.Event, before_stop: Callable[[], Awaitable[None]]) -> bool:
        """A cell that was never owned ends; True: and so does the service."""
        if stop.is_set():
            await before_stop()
        if cell.queries is not None:
            await asyncio.to_thread(cell.queries.stop)
        await asyncio.to_thread(cell.store.close)
        return stop.is_set()

    async def _given_back(self, cell: Cell) -> None:
        """Finish what is in hand, and give the cell back."""
        if not await cell.stop():
            cell.error = cell.error or RollcallError("the writer did not stop in time")
            return
        await asyncio.to_thread(cell.store.close)
        if cell.standby is not None:
            log.info(Event.CELL_RELEASED, cell=cell.standby.name)

    async def _made(self, stop: asyncio.Event) -> Cell | None:
        """The next cell, as soon as its store can be opened. None when the service stops before."""
        is_said = False
        while not stop.is_set():
            try:
                return await asyncio.to_thread(self._make)
            except RollcallError as error:
                if not is_said:
                    log.warning(Event.CELL_UNREACHABLE, error=str(error))
                is_said = True
            await _first_of(stop, within_s=RETRY_S)
        return None


async def _first_of(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Wait until one of them is set, at most so long."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
