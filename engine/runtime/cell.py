"""One cell at this replica: everything that lives as long as an ownership. Read `Cell`, then `Cell.start`.

Its parts are made together, before anything is read; `load` fills the fleet from the store; from `start` to `stop` it decides and
sends. A cell that lost its ownership (`abandon`) is thrown away with all that it remembers: the next one loads the store again.

What outlives an ownership (HTTP, configuration, rule files, log) is in `runtime.app`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from engine import __version__
from engine.actions.base import OutboxItem
from engine.clock import EngineClock, SteadyClock
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.delivery import DeliveryPolicy
from engine.core.presence.query import QueryRequest
from engine.core.rules import Rule
from engine.delivery.dead_log import DeadDeliveryLog
from engine.delivery.dispatcher import Dispatcher
from engine.delivery.limits import Limits
from engine.delivery.outbox import Outbox
from engine.delivery.rendering import render_or_bury, render_row
from engine.delivery.target_watch import TargetWatch
from engine.errors import Fenced, RollcallError, StoreBehind, StoreError
from engine.runtime.cell_watch import CellWatch
from engine.runtime.client_limit import ClientLimit
from engine.runtime.failpoints import Failpoints
from engine.runtime.fleet_factory import command_routes, fleet_of, mail_route, renderer_of, routes_of
from engine.runtime.history_codec import decode_stored
from engine.runtime.inbox_source import InboxSource
from engine.runtime.posted_acts import ActRunner
from engine.runtime.recovery import loading_states
from engine.runtime.senders import Senders
from engine.runtime.shared_cell import Shared
from engine.runtime.source_factory import push_source
from engine.runtime.source_runner import SourceRunner
from engine.runtime.standby import Standby
from engine.runtime.status_queries import assemble
from engine.runtime.writer import Writer
from engine.sources.base import Gap, SourceHealth
from engine.stores.base import Reader, SourceRow, Store
from engine.telemetry import Event, logger
from engine.web.service import CellState

T = TypeVar("T")

DRAIN_S = 10.0
"""How long a stop waits for deliveries under way."""

WRITER_STOP_S = 15.0
"""How long it waits for the batch in hand."""

CLOSE_S = 8.0
"""How long it waits for each thing beside these."""

Begin = Callable[["Cell", Mapping[str, SourceRow]], list[asyncio.Task[None]]]
"""Starts the background parts of a cell; the dispatcher's comes first. Gets how far each source was read."""

FIRST_RETRY_S = 0.2
"""Before the first transaction of an ownership is tried again."""

BEATS = 4
"""Renewals in the time of a lease, when nothing else renews it."""

LONGEST_BEAT_S = 1.0
"""Between two of them at most: so soon an operator's wish for another owner is seen."""

READ_ELSEWHERE = "read by the replica that owns the cell"
"""The detail of a source at a standby."""

log = logger(__name__)


class Cell:
    """The parts that work on a cell, and their life."""

    def __init__(
        self,
        config: Config,
        clock: EngineClock,
        inventory: Inventory,
        rules: tuple[Rule, ...],
        store: Store,
        failpoints: Failpoints,
        shared: Shared | None = None,
    ) -> None:
        """Nothing is read or started yet. `rules`: those to begin with. `shared`: of a store that several replicas share."""
        self.config, self.clock, self.inventory, self.store = config, clock, inventory, store
        self.name = config.cell.name
        self.steady = SteadyClock(clock)
        self.ready_at_ms: int | None = None  # of the steady clock: since when it decides and sends
        self.error: BaseException | None = None  # why nothing is committed any more: an internal error
        self.lost: StoreError | None = None  # or the cell is not ours any more, or memory is not what the store has
        self.ended = asyncio.Event()  # set when nothing is committed any more
        self.hand_over = asyncio.Event()  # set when another replica shall have the cell
        self.shared = shared
        # While it is owned: carries out what operators asked other replicas for.
        self.act_runner: ActRunner | None = None
        self._beat: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.fleet = fleet_of(config, rules, inventory)
        self._client_limit = ClientLimit(config.clients.limit, inventory.lists)
        push = push_source if shared is None else shared.inbox_source
        self.source_runner = SourceRunner(config, clock, self.fleet, self._client_limit, push)
        renderer = renderer_of(mail_route(config), command_routes(config), config.receivers)
        failpoints.break_fleet(self.fleet)
        render = failpoints.break_rendering(partial(render_row, renderer))
        self.target_watch = TargetWatch()
        dead_log = DeadDeliveryLog(self.steady, self.target_watch)
        self.writer = Writer(
            store,
            self.fleet,
            clock,
            render=partial(render_or_bury, render, dead_log),
            watermark_of=self.source_runner.watermark_of,
            announce=self._announce,
            keep_ms=config.history.keep_ms,
            give_up=self._writer_gave_up,
            request_queries=self._request_queries,
            checkpoint=failpoints.checkpoint(store, self.steady.now_ms()),
            stepped=self._clock_stepped,
            client_limit=self._client_limit,
        )
        ownership = None if shared is None else shared.store.ownership
        self.standby = None if shared is None else Standby(shared.store, self.writer, shared.clock, shared.others_owned)
        self.cell_watch = None
        if shared is not None and self.standby is not None:
            self.cell_watch = CellWatch(shared.store, self.standby, self.fleet, clock)
        self.senders = (
            Senders(config, clock)
            if shared is None
            else Senders(config, clock, shared.store.ownership.may_send, shared.send_until_s)
        )
        policy = DeliveryPolicy(max_age_ms=config.deliveries.max_age_ms)
        self.dispatcher = Dispatcher(
            Outbox(store, self.write, clock, policy),
            self.senders.by_action(),
            clock,
            Limits(per_target=config.deliveries.per_target, policy=policy),
            dead_log,
            self.target_watch,
            may_send=None if ownership is None else ownership.may_send,
        )
        self.queries = assemble(
            config, store.sweeps, self.fleet, inventory, clock, self.writer.submit, lambda: self._has_read_all()
        )

    @property
    def is_standby(self) -> bool:
        """Does another replica own the cell, or nobody, so that nothing is written here?"""
        return self.shared is not None and not self.shared.store.ownership.is_owner

    def follow(self, before: Cell) -> None:
        """This cell takes the place of one that was lost or given away: what is counted since the process started goes on."""
        if self.shared is not None and before.shared is not None:
            self.shared.store.ownership.fenced_commits = before.shared.store.ownership.fenced_commits

    def state(self) -> CellState | None:
        """The cell as this replica sees it; None with the embedded store."""
        if self.shared is None or self.standby is None:
            return None
        return self.shared.state(self.standby, self.lost)

    @property
    def is_loaded(self) -> bool:
        """Have the states of its clients been loaded?"""
        return self.ready_at_ms is not None or (self.standby is not None and self.standby.is_warm)

    def as_of_ms(self) -> int | None:
        """The instant of which its clients are shown, when other replicas may know more; None with the embedded store."""
        if self.standby is None:
            return None
        now_ms = self.clock.now_ms()
        return now_ms if not self.is_standby else now_ms - int(self.standby.lag_s() * 1000)

    def healths(self) -> list[SourceHealth]:
        """The health of every source, with the text of its open feed alert."""
        if self.is_standby:
            return [replace(health, detail=READ_ELSEWHERE) for health in self.source_runner.healths()]
        trouble = self.source_runner.watch.trouble
        return [replace(health, trouble=trouble.get(health.name)) for health in self.source_runner.healths()]

    def not_ready(self) -> list[str]:
        """Why it does not decide and send, although it is owned; empty when it does."""
        reasons = [] if self.ready_at_ms is not None else ["starting: client states are being loaded"]
        if self.writer.failure is not None:
            reasons.append(self.writer.failure)
        return reasons + [f"source {name}: {reason}" for name, reason in self.source_runner.not_flowing()]

    def counters(self) -> dict[str, int]:
        """What was counted since it was made, by name."""
        stats, sent = self.writer.stats, self.dispatcher.stats
        found = {name: int(getattr(stats, name)) for name in stats.__slots__}
        found["flaps_suppressed"] = self.fleet.counts.flaps_suppressed
        for name in ("sent", "delivered", "retried", "rejected"):
            found[f"delivery_{name}"] = int(getattr(sent, name))
        return found

    def ring(self) -> None:
        """On the loop: something was posted to the cell, perhaps."""
        for source in self.source_runner.sources.values():
            if isinstance(source, InboxSource):
                source.ring()
        if self.act_runner is not None:
            self.act_runner.ring()

    def configured(self, config: Config) -> None:
        """SIGHUP has changed the configuration, as far as that needs no restart."""
        self.config = config
        self.writer.retention.keep_ms = config.history.keep_ms
        self._client_limit.set(config.clients.limit)
        self.fleet.tombstone_ms = config.clients.tombstone_ms
        self.fleet.alerts.routing.routes = routes_of(config.receivers)

    async def write(self, work: Callable[[], T]) -> T:
        """Do something inside the next transaction; returns when it has committed. StoreError when it could not."""
        return await asyncio.wrap_future(self.writer.submit(work))

    def read(self, question: Callable[[Reader], T]) -> T:
        """Ask the store, beside the writer, in any thread; it blocks. StoreError when it cannot be read."""
        with self.store.reading() as reader:
            return question(reader)

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """As `read`, in a thread."""
        return await asyncio.to_thread(self.read, question)

    # Life

    def load(self) -> None:
        """In a thread: fill the fleet from the store."""
        with loading_states():
            applied = self.writer.recover(decode_stored)
        log.info(Event.RECOVERED, clients=len(self.fleet.states), events=applied)

    async def start(self, begin: Begin, take_rules: Callable[[], None]) -> None:
        """The fleet is loaded: decide and send from now on. `take_rules` puts the rules in force, in the writer's thread."""
        self._loop = asyncio.get_running_loop()
        with self.store.reading() as reader:
            gaps, left = reader.gaps(), reader.sources()
        self.source_runner.recall(gaps)
        if self.queries is not None:
            self.queries.reconciler.recover(gaps, self.config.feed.max_lag_ms)
        self.writer.start()
        await self._take_rules(take_rules)
        await self.senders.start()
        if self.shared is not None:
            self._beat = asyncio.create_task(self._keep_lease(self.shared), name="lease")
        self._tasks = begin(self, left)
        self.ready_at_ms = self.steady.now_ms()
        if self.queries is not None:
            self.queries.start()
        for source in self.source_runner.sources.values():
            if source.type == "simulator":
                log.warning(Event.SOURCE_SYNTHETIC, source=source.name)
        log.info(
            Event.READY, clients=len(self.fleet.states), rules=len(self.fleet.alerts.matcher.rules), version=__version__
        )

    async def _take_rules(self, take_rules: Callable[[], None]) -> None:
        """The first transaction. A store that several share may fail meanwhile: then it is tried again until the cell is lost."""
        while True:
            try:
                return await self.write(take_rules)
            except StoreError:
                if self.shared is None or self.lost is not None or self.error is not None:
                    raise
                await asyncio.sleep(FIRST_RETRY_S)

    async def _keep_lease(self, shared: Shared) -> None:
        """Renew the lease when nothing else does, tell the senders, and see whether another replica shall have the cell."""
        ownership = shared.store.ownership
        while True:
            with contextlib.suppress(RollcallError):  # the writer says what is wrong
                if not (await self.write(shared.look)).may_be_of(ownership.replica):
                    self.hand_over.set()
            self.senders.tell_lease()
            await asyncio.sleep(min(LONGEST_BEAT_S, ownership.lease_s / BEATS))

    async def stop(self) -> bool:
        """Sources first, then the batch in hand, then deliveries under way; each within a bound.

        Returns whether the writer has ended: the store may be closed.
        """
        dispatcher, *others = self._tasks
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=CLOSE_S)
        if self.queries is not None:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self.write(lambda queries=self.queries: queries.reconciler.remember_alive())  # type: ignore[misc]
            await asyncio.to_thread(self.queries.stop)
        self.senders.stop_waiting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self.dispatcher.stop()
        dispatcher.cancel()
        await asyncio.wait([dispatcher], timeout=CLOSE_S)
        await self._close_senders()
        if self._beat is not None:
            self._beat.cancel()
        return await asyncio.to_thread(self.writer.stop, WRITER_STOP_S)

    async def abandon(self) -> None:
        """The cell is lost: nothing more is sent or acknowledged, and what is under way is given up."""
        tasks = [*self._tasks, *([self._beat] if self._beat is not None else [])]
        for task in tasks:
            task.cancel()
        self.senders.stop_waiting()
        await self._close_senders()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        if self.queries is not None:
            await asyncio.to_thread(self.queries.stop)
        await asyncio.to_thread(self.writer.stop, WRITER_STOP_S)

    async def _close_senders(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.senders.close()

    # From the writer's thread to the loop

    def _request_queries(self, requests: list[QueryRequest]) -> None:
        """In the writer's thread: a committed transaction wants these queries."""
        if self.queries is not None:
            self.queries.enqueue(requests)

    def _announce(self, calls: list[Callable[[], None]], items: list[OutboxItem]) -> None:
        loop = self._loop
        if loop is None or not (calls or items):
            return
        with contextlib.suppress(RuntimeError):  # the event loop has ended: nothing waits any more
            loop.call_soon_threadsafe(self._announced, calls, items)

    def _announced(self, calls: list[Callable[[], None]], items: list[OutboxItem]) -> None:
        if items:
            calls = [*calls, partial(self.dispatcher.offer, items)]
        for call in calls:
            try:
                call()
            except Exception as error:  # one broken listener must not stop the others
                log.error(Event.INTERNAL_ERROR, exc_info=error)
                self.dispatcher.wake()  # it may have been offered something: that is in the outbox

    def _clock_stepped(self, step_ms: int, now_ms: int) -> None:
        """On the loop: the wall clock was set, and what waited was moved."""
        self.source_runner.clock_stepped(step_ms, now_ms)
        self.dispatcher.wake()

    def _writer_gave_up(self, error: Exception) -> None:
        """In the writer's thread: nothing will be committed any more."""
        if isinstance(error, Fenced | StoreBehind):
            self.lost = error
        else:
            self.error = error
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the service with it
                loop.call_soon_threadsafe(self.ended.set)

    # Asked by the parts

    def _has_read_all(self) -> bool:
        """Has everything been read that the sources held when we began?"""
        if self.ready_at_ms is None:
            return False
        return self.source_runner.watermark_of(self.clock.now_ms()) >= self.steady.engine_ms(self.ready_at_ms)

    def note_gap(self, gap: Gap) -> None:
        """A source has lost messages."""
        self.fleet.note_gap(gap.to_ms, gap.noted_at_ms)
        if self.queries is not None:
            self.queries.note_gap(gap)
