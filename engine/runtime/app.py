"""Puts the parts together: the one place that names concrete classes. Read `build`, then `App.run`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Final

from engine import __version__
from engine.actions.base import OutboxItem
from engine.clock import Clock, SystemClock
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
from engine.errors import InvalidFiles, RollcallError, StoreError
from engine.rulefiles.loader import load_rules
from engine.runtime.client_limit import ClientLimit
from engine.runtime.failpoints import from_environment
from engine.runtime.fleet_factory import command_routes, fleet_of, inventory_of, mail_route, renderer_of, routes_of
from engine.runtime.heartbeat import Heartbeat, ping
from engine.runtime.history_codec import decode_stored
from engine.runtime.http_server import serving_http
from engine.runtime.refused_events import RefusedEvents
from engine.runtime.reload_signal import ReloadSignal
from engine.runtime.rule_reloader import RuleReloader, Seen, seen_now
from engine.runtime.running_service import RunningService
from engine.runtime.senders import Senders
from engine.runtime.shutdown import end_within
from engine.runtime.source_runner import SourceRunner
from engine.runtime.status_queries import ALIVE_EVERY_S, assemble
from engine.runtime.store_factory import open_store
from engine.runtime.target_troubles import keep_target_watch
from engine.runtime.writer import Writer
from engine.sources.base import Gap
from engine.stores.base import SourceRow
from engine.telemetry import Event, flush_log, lines_lost, log_trouble, logger, setup_logging

FORGET_EVERY_S = 3600.0
"""Between two looks for clients that have been quiet for longer than they are kept."""

FORGOTTEN_AT_ONCE = 500
"""Clients that are forgotten in one transaction."""

DRAIN_S = 10.0
"""How long a stop waits for deliveries under way."""

WRITER_STOP_S = 15.0
"""How long it waits for the batch in hand."""

CLOSE_S = 8.0
"""How long it waits for each thing beside these."""

LOG_PROBE_S = 10.0
"""Between two lines that find out whether a log that failed can be written again."""

HEARTBEAT: Final = "heartbeat"
LOG: Final = "log"
"""The parts whose trouble does not stop the heartbeat: itself, and the log, without which everything else works."""

log = logger(__name__)


class App(RunningService):
    """The running service."""

    def __init__(self, config: Config, clock: Clock, inventory: Inventory, rules: tuple[Rule, ...], seen: Seen) -> None:
        """`seen`: what the files that `rules` and `inventory` came from looked like."""
        super().__init__(config, clock, inventory)
        clock = self.clock
        failpoints = from_environment()
        self.store = open_store(config.data, failpoints.reached)
        self.fleet = fleet_of(config, rules, inventory)
        self.rule_reloader = RuleReloader(
            config, inventory, self.fleet, self.store.rules, clock, self.write, rules, seen, self._configured
        )
        self._client_limit = ClientLimit(config.clients.limit, inventory.lists)
        self.source_runner = SourceRunner(config, clock, self.fleet, self._client_limit)
        renderer = renderer_of(mail_route(config), command_routes(config), config.receivers)
        failpoints.break_fleet(self.fleet)
        render = failpoints.break_rendering(partial(render_row, renderer))
        self.target_watch = TargetWatch()
        dead_log = DeadDeliveryLog(self.steady, self.target_watch)
        self.writer = Writer(
            self.store,
            self.fleet,
            clock,
            render=partial(render_or_bury, render, dead_log),
            watermark_of=self.source_runner.watermark_of,
            announce=self._announce,
            keep_ms=config.history.keep_ms,
            give_up=self._writer_gave_up,
            request_queries=self._request_queries,
            checkpoint=failpoints.checkpoint(self.store, self.steady.now_ms()),
            stepped=self._clock_stepped,
            client_limit=self._client_limit,
        )
        self._error: BaseException | None = None
        self._writer_ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.senders = Senders(config, clock)
        policy = DeliveryPolicy(max_age_ms=config.deliveries.max_age_ms)
        self.dispatcher = Dispatcher(
            Outbox(self.store, self.write, clock, policy),
            self.senders.by_action(),
            clock,
            Limits(per_target=config.deliveries.per_target, policy=policy),
            dead_log,
            self.target_watch,
        )
        self.queries = assemble(
            config, self.store.sweeps, self.fleet, inventory, clock, self.writer.submit, lambda: self._has_read_all()
        )

    def proof(self, challenge: str) -> str:
        """See `web.service.Service.proof`."""
        return self.store.proof(challenge)

    def _configured(self, config: Config) -> None:
        """SIGHUP has changed the configuration, as far as that needs no restart."""
        if config.log != self.config.log:
            setup_logging(config.log.level, config.log.format)
        self.config = config
        self.writer.retention.keep_ms = config.history.keep_ms
        self._client_limit.set(config.clients.limit)
        self.fleet.tombstone_ms = config.clients.tombstone_ms
        self.fleet.alerts.routing.routes = routes_of(config.receivers)

    def reload(self) -> None:
        """Load the configuration, the rules and the inventory again; on the event loop. Harmless at any time."""
        self.rule_reloader.ask()

    def _has_read_all(self) -> bool:
        """Has everything been read that the sources held when we began?"""
        if self.ready_at_ms is None:
            return False
        return self.source_runner.watermark_of(self.clock.now_ms()) >= self.steady.engine_ms(self.ready_at_ms)

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
        """In the writer's thread: nothing will be committed any more, so the service ends with exit code 1."""
        self._error = error
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the service with it
                loop.call_soon_threadsafe(self._writer_ended.set)

    # Running

    @contextlib.asynccontextmanager
    async def _serving_http(self) -> AsyncIterator[None]:
        if self.config.http is None:
            yield
            return
        from engine.web.refusals import Refusals
        from engine.web.routes import create

        refusals = Refusals()
        async with serving_http(create(self, refusals), self.config.http, refusals, self.supervisor):
            yield

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish what is in hand."""
        self._loop = asyncio.get_running_loop()
        async with self._serving_http():
            await asyncio.to_thread(self._recover)
            with self.store.reading() as reader:
                gaps, left = reader.gaps(), reader.sources()
            self.source_runner.recall(gaps)
            if self.queries is not None:
                self.queries.reconciler.recover(gaps, self.config.feed.max_lag_ms)
            self.writer.start()
            await self.write(lambda: self.rule_reloader.take(self.rules))
            await self.senders.start()
            tasks = self._keep_parts(left)
            self._watch_parts()
            self.ready_at_ms = self.steady.now_ms()
            if self.queries is not None:
                self.queries.start()
            for source in self.source_runner.sources.values():
                if source.type == "simulator":
                    log.warning(Event.SOURCE_SYNTHETIC, source=source.name)
            log.info(Event.READY, clients=len(self.fleet.states), rules=len(self.rules), version=__version__)
            ends = [asyncio.create_task(stop.wait()), asyncio.create_task(self._writer_ended.wait())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            log.info(Event.STOPPING)
            await self._stop(tasks)
        if self._error is not None:
            raise RollcallError(
                f"stopped by an internal error; no accepted event is lost; please report it: {self._error!r}"
            )
        log.info(Event.STOPPED)

    def _recover(self) -> None:
        gc.disable()
        applied = self.writer.recover(decode_stored)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        gc.enable()
        log.info(Event.RECOVERED, clients=len(self.fleet.states), events=applied)

    def _keep_parts(self, left: Mapping[str, SourceRow]) -> list[asyncio.Task[None]]:
        """Start everything that runs on the event loop; the dispatcher comes first."""
        keep = self.supervisor.keep
        refused = RefusedEvents(
            self.fleet, self.store, self.codec, self.clock, self.config.events.max_future_ms, self.writer.offer
        )
        tasks = [
            keep("dispatcher", self.dispatcher.run, may_end=True),
            keep("supervisor", self.supervisor.look_around),
            keep("log watch", self._watch_log, is_vital=False),
            keep("rules", self.rule_reloader.watch, is_vital=False),
            keep("feeds", partial(self.source_runner.keep_watch, self.write)),
            keep(
                "targets",
                partial(
                    keep_target_watch,
                    self.target_watch,
                    self.fleet,
                    clock=self.clock,
                    write=self.write,
                    ask=self.ask,
                ),
                is_vital=False,
            ),
            keep("refused", partial(refused.run, self.write), is_vital=False),
            keep("forgetting", self._forget_clients, is_vital=False),
        ]
        if self.queries is not None:
            tasks.append(keep("alive", self._remember_alive, is_vital=False))
        beat = self.config.heartbeat
        if beat is not None:
            denied = [str(network) for network in self.config.network.deny]
            post = partial(ping, denied, connection=self.config.webhooks)
            heartbeat = Heartbeat(beat.url, beat.every_ms, post, self._is_flowing)
            tasks.append(keep(HEARTBEAT, heartbeat.run, is_vital=False))
        first = dict(left)

        async def position_of(name: str) -> str | None:
            row = first.pop(name, None) or (await self.ask(lambda reader: reader.sources())).get(name)
            return row.position if row is not None else None

        for name in self.source_runner.sources:
            work = partial(self.source_runner.run_by_name, name, position_of, self.writer.offer, self._note_gap)
            tasks.append(keep(f"source {name}", work, may_end=True, event=Event.SOURCE_FAILED))
        return tasks

    def _watch_parts(self) -> None:
        """Parts that live in threads and processes of their own; they log themselves, except for threads that end."""
        watch = self.supervisor.watch
        watch("writer", self.writer.trouble, is_logged=False)
        watch("deliveries", lambda: self.dispatcher.health().trouble, is_logged=False)
        watch("webhook process", self.senders.webhook_trouble, is_logged=False)
        watch("commands", self.senders.command_trouble, is_vital=False)
        watch("receivers", self.senders.receiver_trouble, is_vital=False)
        watch(
            LOG, lambda: found.reason if (found := log_trouble()) is not None else None, is_vital=False, is_logged=False
        )
        if self.queries is not None:
            watch("status queries", self.queries.thread_trouble, is_vital=False)

    async def _watch_log(self) -> None:
        """Say how many log lines were lost, as soon as the log can be written again."""
        noted, probe_s = lines_lost(), 0.0
        while True:
            await asyncio.sleep(1.0)
            lost, now_s = lines_lost(), asyncio.get_running_loop().time()
            if lost > noted and (log_trouble() is None or now_s >= probe_s):
                log.warning(Event.LOG_LINES_LOST, lines=lost)
                noted, probe_s = lost, now_s + LOG_PROBE_S

    def _is_flowing(self) -> bool:
        """Do verdicts flow, are deliveries sent, and does every part work that the heartbeat vouches for?"""
        now_ms = self.clock.now_ms()
        return (
            not self.readiness(now_ms)
            and not [trouble for trouble in self.supervisor.troubles() if trouble.name not in (LOG, HEARTBEAT)]
            and now_ms - self.source_runner.watermark_of(now_ms) <= self.config.feed.max_lag_ms
        )

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        """Sources first, then the batch in hand, then deliveries under way; each within a bound."""
        dispatcher, *others = tasks
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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.senders.close()
        if await asyncio.to_thread(self.writer.stop, WRITER_STOP_S):
            self.store.close()
        else:
            self._error = self._error or RollcallError("the writer did not stop in time")

    def _note_gap(self, gap: Gap) -> None:
        self.fleet.note_gap(gap.to_ms, gap.noted_at_ms)
        if self.queries is not None:
            self.queries.note_gap(gap)

    # Forgetting

    async def _forget_clients(self) -> None:
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            certain_ms = await self.write(self.writer.certain_ms)
            before_ms = certain_ms - self.config.clients.forget_ms
            names = await asyncio.to_thread(self._forgettable, before_ms)
            for start in range(0, len(names), FORGOTTEN_AT_ONCE):
                await self.forget(names[start : start + FORGOTTEN_AT_ONCE])

    def _forgettable(self, before_ms: int) -> list[str]:
        found = []
        for client in list(self.fleet.states):
            state = self.fleet.published(client)
            if state is not None and state.is_quiet_since(before_ms) and not self.inventory.names(client):
                found.append(client)
        return found

    async def _remember_alive(self) -> None:
        """So that the next start knows how long the engine was away."""
        assert self.queries is not None
        reconciler = self.queries.reconciler
        while True:
            await self.write(lambda: reconciler.remember_alive())
            await asyncio.sleep(ALIVE_EVERY_S)


def build(config: Config, clock: Clock | None = None) -> App:
    """The service for a configuration.

    Rules that do not load leave those of the last run in force: a restart at night must not stand still for an edit in the
    evening. Raises InvalidFiles for what this installation lacks, for an inventory that does not load, and for such rules
    when there was no run before; StoreError (StoreInUse).
    """
    if config.missing_packages:
        raise InvalidFiles(list(config.missing_packages))
    seen = seen_now(config)  # before the files are read: an edit from now on is noticed
    inventory = inventory_of(config)
    problem = None
    rules: tuple[Rule, ...] = ()
    try:
        rules = load_rules(config.rules, inventory=inventory, config=config).rules
    except InvalidFiles as error:
        problem = error
    app = App(config, clock or SystemClock(), inventory, rules, seen)
    if problem is not None and not app.rule_reloader.fall_back(problem):
        app.store.close()
        raise problem
    return app


def run(config: Config) -> None:
    """Build and serve until SIGTERM or SIGINT."""
    import signal

    import uvloop

    stop_within_s = from_environment().stop_within_s
    reloads = ReloadSignal()  # first: from now on SIGHUP ends nothing
    app = build(config)

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        reloads.call(partial(loop.call_soon_threadsafe, app.reload))
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)

        async def bound_the_stop() -> None:
            await stop.wait()
            end_within(stop_within_s)

        bounding = asyncio.create_task(bound_the_stop())
        try:
            await app.run(stop)
        finally:
            bounding.cancel()
            end_within(stop_within_s)

    try:
        uvloop.run(serve())
    finally:
        flush_log()
