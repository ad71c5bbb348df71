"""What any replica takes for the owners of the cells: events over HTTP, and acts of operators. It lives as long as the process.

Read `Posting.parts` and `Posting.ring`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from engine.clock import EngineClock
from engine.config.loader import Config
from engine.runtime.cell_filter import CellPosts
from engine.runtime.event_poster import EventPoster
from engine.runtime.posted_acts import ActSender
from engine.runtime.source_factory import source_of
from engine.runtime.store_factory import cell_numbers, database_of, readers_of
from engine.runtime.supervision import Supervisor
from engine.sources.http import HttpSource

if TYPE_CHECKING:  # they need a package that is not always installed
    from engine.stores.postgres.inbox import PostgresInbox


class Posting:
    """The door of a replica. `push` takes events, `acts` takes acts; `taking` runs them. `readers`: of the replica's cells together."""

    def __init__(self, config: Config, clock: EngineClock, rung: Callable[[], None]) -> None:
        """`rung`: called on the loop when something was posted by any replica."""
        self._database, self._rung = database_of(config), rung
        self.numbers = cell_numbers(config)  # of all cells in the database, by name
        self._first = self.numbers[config.cell.name]
        self.readers = readers_of(config, [self.numbers[cell.name] for cell in config.own_cells])
        entries = [entry for entry in config.sources if entry.type == "http"]
        made = [source_of(entry, config, clock) for entry in entries]
        self.push = next((source for source in made if isinstance(source, HttpSource)), None)
        self.acts = ActSender(self._inbox, list(self.numbers.values()))
        parts = CellPosts(config, self.numbers).parts if len(config.cells) > 1 else None
        self._poster = EventPoster(self._inbox(), parts)

    def _inbox(self) -> PostgresInbox:
        from engine.stores.postgres.inbox import PostgresInbox

        return PostgresInbox(self._database, self._first)

    @asynccontextmanager
    async def taking(self, supervisor: Supervisor) -> AsyncIterator[None]:
        """Take what comes for the block; what was taken is written before it is left."""
        from engine.stores.postgres.bell import PostgresBell

        loop = asyncio.get_running_loop()

        def ring(what: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._ring)

        bell = PostgresBell(self._database, list(self.numbers.values()), ring)
        bell.start()
        self._poster.start()
        supervisor.watch("posted events", lambda: self._poster.trouble, is_vital=False)
        push = self.push
        task = None if push is None else supervisor.keep("events over HTTP", lambda: push.run(self._poster.offer, None))
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            await asyncio.to_thread(self._poster.close)
            self.acts.close()
            self.readers.close()
            await asyncio.to_thread(bell.close)

    def _ring(self) -> None:
        self.acts.ring()
        self._rung()
