"""What runs in the background while a cell is owned. Read `CellParts.begin`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from engine.config.deliveries import HeartbeatConfig
from engine.runtime.cell import Cell
from engine.runtime.heartbeat import Heartbeat, ping
from engine.runtime.history_codec import HistoryCodec
from engine.runtime.operator_acts import forget_clients
from engine.runtime.operator_api import Backend
from engine.runtime.posted_acts import ActRunner
from engine.runtime.refused_events import RefusedEvents
from engine.runtime.status_queries import ALIVE_EVERY_S
from engine.runtime.supervision import Look, Supervisor
from engine.runtime.target_troubles import keep_target_watch
from engine.stores.base import SourceRow
from engine.telemetry import Event

FORGET_EVERY_S = 3600.0
"""Between two looks for clients that have been quiet for longer than they are kept."""

FORGOTTEN_AT_ONCE = 500
"""Clients that are forgotten in one transaction."""

HEARTBEAT: Final = "heartbeat"


class CellParts:
    """Starts the background parts of cells under a supervisor."""

    def __init__(
        self,
        supervisor: Supervisor,
        codec: HistoryCodec,
        is_flowing: Callable[[Cell], bool],
        backend: Callable[[Cell], Backend],
        *,
        of: str | None = None,
    ) -> None:
        """`is_flowing`: do verdicts flow and are deliveries sent, so that the heartbeat may vouch for it?

        `backend`: what acts of operators work on that came to other replicas. `of`: the name of the cell, where a replica has several.
        """
        self._supervisor, self._codec, self._is_flowing, self._backend = supervisor, codec, is_flowing, backend
        self._of = f" of cell {of}" if of is not None else ""
        self._names: set[str] = set()  # of the parts of the present cell

    def begin(self, cell: Cell, left: Mapping[str, SourceRow]) -> list[asyncio.Task[None]]:
        """Start everything that runs on the event loop, the dispatcher first; and watch what lives in threads and processes."""
        keep, config = self._keep, cell.config
        others = set(self._supervisor.names())
        refused = RefusedEvents(
            cell.fleet, cell.store, self._codec, cell.clock, config.events.max_future_ms, cell.writer.offer
        )
        watch_targets = partial(
            keep_target_watch, cell.target_watch, cell.fleet, clock=cell.clock, write=cell.write, ask=cell.ask
        )
        tasks = [
            keep("dispatcher", cell.dispatcher.run, may_end=True),
            keep("feeds", partial(cell.source_runner.keep_watch, cell.write)),
            keep("targets", watch_targets, is_vital=False),
            keep("refused", partial(refused.run, cell.write), is_vital=False),
            keep("forgetting", partial(_keep_forgetting, cell), is_vital=False),
        ]
        if cell.queries is not None:
            tasks.append(keep("alive", partial(_remember_alive, cell), is_vital=False))
        if config.heartbeat is not None:
            tasks.append(keep(HEARTBEAT, self._heartbeat(cell, config.heartbeat).run, is_vital=False))
        if cell.shared is not None:
            cell.act_runner = ActRunner(cell.shared.inbox, cell.shared.store.posted.take, partial(self._backend, cell))
            tasks.append(keep("acts", cell.act_runner.run, is_vital=False))
        if cell.cell_watch is not None:
            tasks.append(keep("cells", partial(cell.cell_watch.run, cell.write), is_vital=False))
        tasks += self._sources(cell, left)
        self._watch(cell)
        self._names = set(self._supervisor.names()) - others
        return tasks

    def end(self) -> None:
        """What was watched of a cell that ends is watched no more."""
        self._supervisor.drop(self._names)

    def _keep(self, name: str, work: Callable[[], Awaitable[None]], **how: Any) -> asyncio.Task[None]:
        return self._supervisor.keep(name + self._of, work, **how)

    def _heartbeat(self, cell: Cell, beat: HeartbeatConfig) -> Heartbeat:
        denied = [str(network) for network in cell.config.network.deny]
        post = partial(ping, denied, connection=cell.config.webhooks)
        return Heartbeat(beat.url, beat.every_ms, post, partial(self._is_flowing, cell))

    def _sources(self, cell: Cell, left: Mapping[str, SourceRow]) -> list[asyncio.Task[None]]:
        first = dict(left)

        async def position_of(name: str) -> str | None:
            row = first.pop(name, None) or (await cell.ask(lambda reader: reader.sources())).get(name)
            return row.position if row is not None else None

        found = []
        for name in cell.source_runner.sources:
            work = partial(cell.source_runner.run_by_name, name, position_of, cell.writer.offer, cell.note_gap)
            found.append(self._keep(f"source {name}", work, may_end=True, event=Event.SOURCE_FAILED))
        return found

    def _watch(self, cell: Cell) -> None:
        """Parts that live in threads and processes of their own; they log themselves, except for threads that end."""

        def watch(name: str, look: Look, **how: bool) -> None:
            self._supervisor.watch(name + self._of, look, **how)

        watch("writer", cell.writer.trouble, is_logged=False)
        watch("deliveries", lambda: cell.dispatcher.health().trouble, is_logged=False)
        watch("webhook process", cell.senders.webhook_trouble, is_logged=False)
        watch("commands", cell.senders.command_trouble, is_vital=False)
        watch("receivers", cell.senders.receiver_trouble, is_vital=False)
        if cell.queries is not None:
            watch("status queries", cell.queries.thread_trouble, is_vital=False)


async def _keep_forgetting(cell: Cell) -> None:
    while True:
        await asyncio.sleep(FORGET_EVERY_S)
        certain_ms = await cell.write(cell.writer.certain_ms)
        before_ms = certain_ms - cell.config.clients.forget_ms
        names = await asyncio.to_thread(_forgettable, cell, before_ms)
        for start in range(0, len(names), FORGOTTEN_AT_ONCE):
            await _forget(cell, names[start : start + FORGOTTEN_AT_ONCE])


async def _forget(cell: Cell, names: Sequence[str]) -> int:
    return await cell.write(lambda: forget_clients(cell.fleet, names, cell.clock.now_ms()))


def _forgettable(cell: Cell, before_ms: int) -> list[str]:
    found = []
    for client in list(cell.fleet.states):
        state = cell.fleet.published(client)
        if state is not None and state.is_quiet_since(before_ms) and not cell.inventory.names(client):
            found.append(client)
    return found


async def _remember_alive(cell: Cell) -> None:
    """So that the next start knows how long the engine was away."""
    assert cell.queries is not None
    reconciler = cell.queries.reconciler
    while True:
        await cell.write(lambda: reconciler.remember_alive())
        await asyncio.sleep(ALIVE_EVERY_S)
