"""A cell of the running service as acts of operators see it. Read `CellBackend`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from engine.core.fleet import Fleet
from engine.core.rules import Rule
from engine.errors import NotConfigured, Unavailable
from engine.runtime.cell import Cell
from engine.runtime.cell_filter import CellPosts
from engine.sources.base import Batch, SourceHealth
from engine.stores.base import AccessTables, Reader
from engine.web.service import NO_PROVIDER, TargetPause
from engine.web.views import Views

if TYPE_CHECKING:  # it makes these
    from engine.runtime.running_service import RunningService

T = TypeVar("T")

ACT_TIMEOUT_S = 50.0
"""Seconds that an act waits for the writer; less than what the client of the command line waits for the answer."""


class CellBackend:
    """One cell as acts see it; see `Backend`. Its methods block, so they are called in threads, never in the loop."""

    def __init__(
        self,
        service: RunningService,
        cell: Cell,
        loop: asyncio.AbstractEventLoop,
        views: Views | None = None,
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        """`views`: of the service, where this is its only cell; None: the views are of this cell alone. `numbers`: of all cells, by name."""
        self._service, self._cell, self._loop, self._numbers = service, cell, loop, numbers
        self.config, self.store, self.codec = cell.config, cell.store, service.codec
        self.fleet, self.inventory = cell.fleet, cell.inventory
        self.views = views or Views(self)

    # As a subject of views

    @property
    def fleets(self) -> Sequence[Fleet]:
        """See `Subject`."""
        return [self.fleet]

    def fleet_of(self, client: str) -> Fleet:
        """See `Subject`."""
        return self.fleet

    @property
    def rules(self) -> Sequence[Rule]:
        """See `Subject`."""
        return self._service.rules

    @property
    def rules_problem(self) -> str | None:
        """See `Subject`."""
        return self._service.rules_problem

    @property
    def is_loaded(self) -> bool:
        """See `Subject`."""
        return self._cell.is_loaded

    def healths(self) -> Sequence[SourceHealth]:
        """See `Subject`."""
        return self._cell.healths()

    def pauses(self) -> Mapping[str, TargetPause]:
        """See `Subject`."""
        return self._cell.dispatcher.health().pauses

    def now_ms(self) -> int:
        """See `Backend`."""
        return self._cell.clock.now_ms()

    # As a backend

    def asked_ms(self) -> int:
        """See `Backend`: an act that reaches its owner directly has not waited."""
        return self.now_ms()

    def read(self, question: Callable[[Reader], T]) -> T:
        """See `Backend`."""
        return self._cell.read(question)

    def inspect(self, work: Callable[[], T]) -> T:
        """See `Backend`: between two transactions nothing changes the fleet."""
        return self.write(work)

    def change(self, work: Callable[[], T]) -> T:
        """See `Backend`."""
        return self.write(work)

    def write(self, work: Callable[[], T]) -> T:
        """See `Backend`."""
        return _result(self._cell.writer.submit(work))

    by = "the engine"

    def access(self, work: Callable[[AccessTables], T]) -> T:
        """See `Backend`."""
        found = self._service.door.write(work)
        self._service.access.refresh()
        return found

    def offer(self, batch: Batch) -> None:
        """See `Backend`. Events of clients of other cells are put into the inboxes of those in the same transaction."""
        if self._numbers is not None:
            self._forward_others(batch, self._numbers)
        done: Future[Exception | None] = Future()
        batch.acknowledge = done.set_result
        self._cell.writer.offer(batch)
        error = _result(done)
        if error is not None:
            raise error

    def _forward_others(self, batch: Batch, numbers: Mapping[str, int]) -> None:
        shared = self._cell.shared
        own = numbers[self._cell.name]
        others = [one for one in CellPosts(self.config, numbers).parts(batch) if one.cell != own]
        if shared is None or not others:
            return
        posted = {raw for one in others for raw in one.raw}
        kept = [place for place, raw in enumerate(batch.raw) if raw not in posted]
        batch.events, batch.raw = [batch.events[at] for at in kept], [batch.raw[at] for at in kept]
        along, replica, forward = batch.along, shared.store.ownership.replica, shared.store.posted.forward

        def both() -> None:
            if along is not None:
                along()
            forward(others, replica)

        batch.along = both

    def wake_dispatcher(self) -> None:
        """See `Backend`."""
        self._loop.call_soon_threadsafe(self._cell.dispatcher.wake)

    def begin_sweep(self, *, dry_run: bool) -> int:
        """See `Backend`."""
        if self._cell.queries is None:
            raise NotConfigured(NO_PROVIDER)
        return self._cell.queries.begin_sweep(dry_run=dry_run)


def _result(done: Future[T]) -> T:
    """What the writer's thread returns or raises. Unavailable when that takes too long."""
    try:
        return done.result(ACT_TIMEOUT_S)
    except TimeoutError:
        raise Unavailable(
            f"the request was not committed within {ACT_TIMEOUT_S:.0f} s; it may still take effect: check before you repeat it"
        ) from None
