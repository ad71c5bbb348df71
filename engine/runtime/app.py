"""Puts the parts together: the one place that names concrete classes. Read `build`, then `App.run`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from engine import __version__
from engine.actions.base import ActionSender, BatchSender, OutboxItem
from engine.actions.email.sender import MailSender
from engine.actions.log import LogSender
from engine.actions.webhook.sender import SenderProcess
from engine.clock import Clock, SystemClock
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.delivery import Policy as DeliveryPolicy
from engine.core.presence.query import QueryRequest
from engine.core.rules import Rule
from engine.delivery.dispatcher import Dispatcher, Limits
from engine.delivery.outbox import Outbox
from engine.delivery.rendering import render_or_bury, render_row
from engine.errors import InvalidFiles, RollcallError, StoreError
from engine.rulefiles.loader import fingerprint, load_rules
from engine.runtime.command_sender import command_sender
from engine.runtime.failpoints import from_environment
from engine.runtime.fleet_factory import command_routes, fleet_of, inventory_of, mailing_of, renderer_of
from engine.runtime.heartbeat import Heartbeat
from engine.runtime.history_codec import decode_stored
from engine.runtime.http_server import serving_http
from engine.runtime.rule_reloader import RuleKeeper
from engine.runtime.running_service import RunningService
from engine.runtime.source_runner import Feeding
from engine.runtime.status_queries import ALIVE_EVERY_S, assemble
from engine.runtime.store_factory import open_store
from engine.runtime.writer import CHECKPOINT_EVENTS, CHECKPOINT_SLICE, Writer
from engine.sources.base import Gap, Source
from engine.stores.base import SourceRow
from engine.telemetry import Event, log_all, logger

TASK_RETRY_S = 1.0
"""Before a background task that failed goes on."""

FORGET_EVERY_S = 3600.0
DRAIN_S = 10.0

log = logger(__name__)


class App(RunningService):
    """The running service."""

    def __init__(self, config: Config, clock: Clock, inventory: Inventory, rules: tuple[Rule, ...]) -> None:
        super().__init__(config, clock, inventory)
        failpoints = from_environment()
        self.store = open_store(config.data, failpoints.reached)
        self.fleet = fleet_of(config, rules, inventory)
        self.keeper = RuleKeeper(config, inventory, self.fleet, self.store.rules, clock, self.write, rules)
        self.feeding = Feeding(config, clock, self.fleet)
        renderer = renderer_of(mailing_of(config), command_routes(config))
        failpoints.break_fleet(self.fleet)
        render = failpoints.break_rendering(partial(render_row, renderer))
        self.writer = Writer(
            self.store,
            self.fleet,
            clock,
            render=partial(render_or_bury, render),
            watermark_of=self.feeding.watermark_of,
            announce=self._announce,
            keep_ms=config.history.keep_ms,
            give_up=self._writer_gave_up,
            asked=self._asked,
            checkpoint_events=failpoints.checkpoint_events or CHECKPOINT_EVENTS,
            checkpoint_slice=failpoints.checkpoint_slice or CHECKPOINT_SLICE,
            reached=failpoints.reached,
        )
        self._fault: BaseException | None = None
        self._faulted = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        secrets = {name: secret.reveal() for name, secret in config.secrets.items() if secret.problem() is None}
        self.sender = SenderProcess(
            secrets, [str(network) for network in config.network.deny], per_target=config.deliveries.per_target
        )
        self.commands = command_sender(config, clock.now_ms)
        policy = DeliveryPolicy(max_age_ms=config.deliveries.max_age_ms)
        self.mail = _mail_sender(config)
        senders: dict[str, ActionSender | BatchSender] = {
            "webhook": self.sender,
            "command": self.commands,
            "log": LogSender(_log_actions),
        }
        if self.mail is not None:
            senders["email"] = self.mail
        self.dispatcher = Dispatcher(
            Outbox(self.store, self.write, clock, policy),
            senders,
            clock,
            Limits(per_target=config.deliveries.per_target, policy=policy),
        )
        self.asking = assemble(
            config, self.store.sweeps, self.fleet, inventory, clock, self.writer.submit, lambda: self._has_read_all()
        )

    def _has_read_all(self) -> bool:
        """Has everything been read that the sources held when we began?"""
        return self.ready_at_ms is not None and self.feeding.watermark_of(self.clock.now_ms()) >= self.ready_at_ms

    # From the writer's thread to the loop

    def _asked(self, asks: list[QueryRequest]) -> None:
        """In the writer's thread: the fleet wants these clients asked."""
        if self.asking is not None:
            self.asking.want(asks)

    def _announce(self, calls: list[Callable[[], None]], items: list[OutboxItem]) -> None:
        loop = self._loop
        if loop is None or not (calls or items):
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(self._announced, calls, items)

    def _announced(self, calls: list[Callable[[], None]], items: list[OutboxItem]) -> None:
        if items:
            calls = [*calls, partial(self.dispatcher.offer, items)]
        for call in calls:
            try:
                call()
            except Exception as error:  # noqa: BLE001  # one broken listener must not stop the others
                log.error(Event.INTERNAL, error=repr(error))

    def _writer_gave_up(self, fault: Exception) -> None:
        """In the writer's thread: nothing will be committed any more, so the service ends, and says so by its exit code."""
        self._fault = fault
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the service with it
                loop.call_soon_threadsafe(self._faulted.set)

    # Running

    @contextlib.asynccontextmanager
    async def _serving_http(self) -> AsyncIterator[None]:
        if self.config.http is None:
            yield
            return
        from engine.web.routes import create

        async with serving_http(create(self), self.config.http):
            yield

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish what is in hand."""
        self._loop = asyncio.get_running_loop()
        async with self._serving_http():
            await asyncio.to_thread(self._recover)
            with self.store.reading() as reader:
                gaps, left = reader.gaps(), reader.sources()
            self.feeding.watch.recall(self.feeding.in_trouble(), gaps)
            if self.asking is not None:
                self.asking.reconciler.recover(gaps, self.config.feed.max_lag_ms)
            self.writer.start()
            await self.write(lambda: self.keeper.take(self.rules))
            await self.sender.start()
            tasks = [asyncio.create_task(work, name=name) for name, work in self._background()]
            sources = self.feeding.sources
            tasks += [
                asyncio.create_task(self._feed(source, left.get(name)), name=name) for name, source in sources.items()
            ]
            self.ready_at_ms = self.clock.now_ms()
            if self.asking is not None:
                self.asking.start()
            for source in sources.values():
                if source.type == "simulator":
                    log.warning(Event.SYNTHETIC, source=source.name)
            log.info(Event.READY, clients=len(self.fleet.states), rules=len(self.rules), version=__version__)
            ends = [asyncio.create_task(stop.wait()), asyncio.create_task(self._faulted.wait())]
            await asyncio.wait([*ends, tasks[0]], return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done() and not tasks[0].cancelled():
                self._fault = self._fault or tasks[0].exception()
            for end in ends:
                end.cancel()
            log.info(Event.STOPPING)
            await self._stop(tasks)
        if self._fault is not None:
            raise RollcallError(f"stopped by a fault of ours, nothing that was accepted is lost: {self._fault!r}")
        log.info(Event.STOPPED)

    def _recover(self) -> None:
        gc.disable()
        applied = self.writer.recover(decode_stored)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        gc.enable()
        log.info(Event.RECOVERED, clients=len(self.fleet.states), events=applied)

    def _background(self) -> Iterator[tuple[str, Any]]:
        yield "dispatcher", self.dispatcher.run()
        yield "rules", self._again_and_again("rules", self.keeper.watch)
        yield "feeds", self._again_and_again("feeds", partial(self.feeding.keep_watch, self.write))
        yield "forgetting", self._again_and_again("forgetting", self._forget_clients)
        if self.asking is not None:
            yield "alive", self._again_and_again("alive", self._remember_alive)
        beat = self.config.heartbeat
        if beat is not None:
            ping = partial(_ping, [str(network) for network in self.config.network.deny])
            yield (
                "heartbeat",
                self._again_and_again("heartbeat", Heartbeat(beat.url, beat.every_ms, ping, self._is_flowing).run),
            )

    async def _again_and_again(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Let a task that only looks from time to time survive a failed commit, and faults of ours."""
        while True:
            try:
                await work()
            except StoreError:
                pass  # the writer has said so
            except Exception as error:  # noqa: BLE001  # the next look may go well
                log.error(Event.TASK_FAILED, task=name, error=repr(error))
            await asyncio.sleep(TASK_RETRY_S)

    def _is_flowing(self) -> bool:
        now_ms = self.clock.now_ms()
        return not self.readiness(now_ms) and now_ms - self.feeding.watermark_of(now_ms) <= self.config.feed.max_lag_ms

    async def _stop(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Sources first, then the batch in hand, then deliveries under way; each within a bound."""
        dispatcher, *others = tasks
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self.asking is not None:
            with contextlib.suppress(StoreError):
                await self.write(lambda asking=self.asking: asking.reconciler.remember_alive())  # type: ignore[misc]
            await asyncio.to_thread(self.asking.stop)
        self.commands.stop_waiting()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.dispatcher.stop(), DRAIN_S)
        dispatcher.cancel()
        await asyncio.gather(dispatcher, return_exceptions=True)
        await self.sender.close()
        await self.commands.close()
        if self.mail is not None:
            await self.mail.close()
        await asyncio.to_thread(self.writer.stop)
        self.store.close()

    async def _feed(self, source: Source, left: SourceRow | None) -> None:
        position = left.position if left is not None else None
        await self.feeding.feed(source, position, self.writer.offer, self._note_gap)

    def _note_gap(self, gap: Gap) -> None:
        self.fleet.note_gap(gap.to_ms, gap.noted_at_ms)
        if self.asking is not None:
            self.asking.note_gap(gap)

    # Forgetting

    async def _forget_clients(self) -> None:
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            before_ms = self.clock.now_ms() - self.config.clients.forget_ms
            names = await asyncio.to_thread(self._forgettable, before_ms)
            for start in range(0, len(names), 500):
                await self.forget(names[start : start + 500])

    def _forgettable(self, before_ms: int) -> list[str]:
        found = []
        for client in list(self.fleet.states):
            state = self.fleet.published(client)
            if state is not None and state.is_quiet_since(before_ms) and not self.inventory.names(client):
                found.append(client)
        return found

    async def _remember_alive(self) -> None:
        """So that the next start knows how long nobody listened."""
        assert self.asking is not None
        reconciler = self.asking.reconciler
        while True:
            await self.write(lambda: reconciler.remember_alive())
            await asyncio.sleep(ALIVE_EVERY_S)


async def _ping(deny: Sequence[str], url: str) -> None:
    """Ask a URL for the heartbeat; 2xx has arrived. As with webhooks, no redirect is followed and `network.deny` holds."""
    import aiohttp

    from engine.actions.webhook.request import CheckedResolver, DenyList

    denied = DenyList(deny)
    denied.check_literal(urlsplit(url).hostname or "")
    connector = aiohttp.TCPConnector(resolver=CheckedResolver(denied))
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        if not 200 <= answer.status < 300:
            raise RollcallError(f"the heartbeat was answered with {answer.status}")


def _mail_sender(config: Config) -> MailSender | None:
    """What sends e-mails by the configured server; None where there is none."""
    smtp = config.smtp
    if smtp is None:
        return None
    return MailSender(
        host=smtp.host,
        port=smtp.port,
        security=smtp.security,
        username=smtp.username,
        password=smtp.password.reveal if smtp.password is not None else None,
        ca=str(smtp.ca) if smtp.ca is not None else None,
        timeout_s=smtp.timeout_ms / 1000,
    )


def _log_actions(items: Sequence[OutboxItem]) -> None:
    """Carry out the actions of kind `log`."""
    entries = [{"rule": item.rule, "phase": item.phase, "message": item.request["message"]} for item in items]
    log_all(Event.ACTION_LOG, entries)


def build(config: Config, clock: Clock | None = None) -> App:
    """The service for a configuration.

    Rules that do not load leave those of the last run in force: a restart at night must not stand still for an edit in the
    evening. Raises InvalidFiles for what this installation lacks, for an inventory that does not load, and for such rules
    when there was no run before; StoreError (StoreInUse).
    """
    if config.lacking:
        raise InvalidFiles(list(config.lacking))
    inventory = inventory_of(config)
    seen = fingerprint(config.rules)  # before they are read: an edit from now on is noticed
    problem = None
    rules: tuple[Rule, ...] = ()
    try:
        rules = load_rules(config.rules, inventory=inventory, config=config).rules
    except InvalidFiles as error:
        problem = error
    app = App(config, clock or SystemClock(), inventory, rules)
    app.keeper.seen = seen
    if problem is not None and not app.keeper.fall_back(problem):
        app.store.close()
        raise problem
    return app


def run(config: Config) -> None:
    """Build and serve until SIGTERM or SIGINT."""
    import signal

    import uvloop

    app = build(config)

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        await app.run(stop)

    uvloop.run(serve())
