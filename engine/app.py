"""Puts the parts together: the one place that names concrete classes. Read `build`, then `App.run`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvicorn

from engine import __version__, summarizing
from engine.actions.base import ActionSender, BatchSender, OutboxItem, Outcome
from engine.actions.email import MailSender
from engine.actions.log import LogSender
from engine.actions.sender import SenderProcess
from engine.asking import ALIVE_EVERY_S, assemble
from engine.clock import Clock, SystemClock
from engine.commanding import command_sender
from engine.config import Config, Secret, SourceConfig
from engine.core.asking import Ask
from engine.core.delivery import Policy as DeliveryPolicy
from engine.core.events import LifecycleEvent
from engine.core.matching import Matcher
from engine.core.planning import PlannedDelivery
from engine.core.rules import Match, Rule
from engine.core.silences import Silence
from engine.core.step import Fleet
from engine.core.whynot import Gate
from engine.errors import CannotListen, InvalidFiles, RollcallError, StoreError
from engine.fleets import command_routes, fleet_of, inventory_of, mailing_of, renderer_of
from engine.inventory import Inventory
from engine.matchwords import Matches, match_of_words, matches_of_words
from engine.patterns import compile_patterns
from engine.rendering import Renderer, conceal, target_of, to_json
from engine.rulefile import fingerprint, load_rules, rule_from_definition
from engine.services.dispatcher import Dispatcher, Limits
from engine.services.feedwatch import FeedWatch
from engine.services.heartbeat import Heartbeat
from engine.services.writer import CHECKPOINT_EVENTS, CHECKPOINT_SLICE, Writer
from engine.services.writer import Renderer as Render
from engine.sources.base import Batch, Source, SourceHealth
from engine.sources.file import FileSource
from engine.sources.http import HttpSource
from engine.sources.rocketmq import rocketmq_source
from engine.sources.simulator import SimulatorSource
from engine.sources.wire import decode_lines
from engine.stores import sqlite_outbox
from engine.stores.base import DeliveryRow, NewDelivery, QuarantineRow, Reader, Share, Waiting
from engine.stores.sqlite import SqliteStore
from engine.stores.sqlite_reader import reading
from engine.telemetry import Event, log_all, logger

T = TypeVar("T")

OFFERED_BATCHES = 8
"""Batches of one source that may wait for the writer; beyond, the source waits (back-pressure)."""

RULES_POLL_S = 1.0
RETIRE_AFTER_MS = int(os.environ.get("ROLLCALL_RETIRE_AFTER_MS", "60000"))
"""A rule that disappeared is retired after this: a checkout may pass through. Tests do not wait that long."""

TASK_RETRY_S = 1.0
"""Before a background task that failed goes on."""

ASKING_THREADS = 4
"""Questions to the store that are answered at once."""

RETRIED_ROWS = 500
"""Quarantined events offered again at once."""

FORGET_EVERY_S = 3600.0
FEED_POLL_S = 0.5
DRAIN_S = 10.0

log = logger(__name__)


def checkpoints() -> tuple[int, int]:
    """After how many events client rows are written, and how many at once. Tests ask for more of them: `EVENTS:ROWS`."""
    events, _, rows = os.environ.get("ROLLCALL_CHECKPOINT", "").partition(":")
    return int(events or CHECKPOINT_EVENTS), int(rows or CHECKPOINT_SLICE)


def _with_fault(fleet: Fleet, render: Render) -> Render:
    """For tests, a fault of ours: `ROLLCALL_FAULT` is `apply:CLIENT`, `settle:CLIENT` or `render:CLIENT`, and that raises."""
    where, _, victim = os.environ.get("ROLLCALL_FAULT", "").partition(":")

    def raising(work: Callable[[Any], T], concerns: Callable[[Any], bool]) -> Callable[[Any], T]:
        def work_or_raise(subject: Any) -> T:
            if concerns(subject):
                raise RuntimeError("a fault that a test asked for")
            return work(subject)

        return work_or_raise

    if where == "apply":  # an event begins a hold, and how long it is to be is asked
        holds = fleet.policy.offline_ms, fleet.policy.online_ms
        fleet.policy = replace(
            fleet.policy, holds_of=raising(lambda client: holds, lambda client: bool(client == victim))
        )
    elif where == "settle":  # a firing is planned, and what is known about its client is asked
        fleet.book.attributes = raising(fleet.book.attributes, lambda client: bool(client == victim))
    elif where == "render":
        faulty = raising(render, lambda planned: bool(planned.client == victim))
        return lambda planned: faulty(planned)
    return render


def render_or_bury(render: Render, planned: PlannedDelivery) -> NewDelivery:
    """A planned delivery rendered, or dead by a fault of ours: one that cannot be rendered must not stop the others."""
    try:
        return render(planned)
    except Exception as fault:  # noqa: BLE001  # whatever it is, it is shown with the delivery and in the log
        log.error(Event.INTERNAL, rule=planned.rule.name, client=planned.client, error=repr(fault))
        url = planned.action.spec.get("url")
        target = target_of(url) if url is not None else planned.action.kind
        return NewDelivery(
            key=planned.key,
            rule=planned.rule.name,
            client=planned.client,
            group_key=None,
            clients=planned.clients,
            alert=planned.alert,
            action=planned.action.kind,
            target=target,
            lane=f"{planned.lane}\n{target}",
            phase=planned.phase,
            state="dead",
            decided_at_ms=planned.at_ms,
            request="{}",
            error=f"a fault of ours: {fault!r}",
        )


def render_row(renderer: Renderer, planned: PlannedDelivery) -> NewDelivery:
    """A planned delivery as the outbox keeps it."""
    planned = summarizing.plain(planned)
    rendered = renderer.planned(planned)
    state = "shadow" if planned.rule.shadow else "dead" if rendered.dead else "held" if planned.held else "due"
    return NewDelivery(
        key=planned.key,
        rule=planned.rule.name,
        client=planned.client,
        group_key=json.dumps(planned.group_key) if planned.group_key is not None else None,
        clients=planned.clients,
        alert=planned.alert,
        action=planned.action.kind,
        target=rendered.target,
        lane=f"{planned.lane}\n{rendered.target}",
        phase=planned.phase,
        state=state,
        decided_at_ms=planned.at_ms,
        request=to_json(rendered.request),
        error=rendered.dead or rendered.problem,
    )


def mail_sender(config: Config) -> MailSender | None:
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


def decode_stored(raw: list[bytes], received_at_ms: int) -> list[LifecycleEvent]:
    """Events of the journal: accepted once, so accepted again whatever the limits are now."""
    return decode_lines(raw, received_at_ms, 1 << 60).events


def quarantined_batch(rows: Sequence[QuarantineRow], now_ms: int, max_future_ms: int) -> tuple[Batch, list[int]]:
    """What of the quarantine is acceptable now: as a batch received now, and the ids of its rows."""
    decoded = decode_lines([row.raw for row in rows], now_ms, max_future_ms)
    refused = {rejection.line for rejection in decoded.rejected}
    ids = [row.id for number, row in enumerate(rows, 1) if number not in refused]
    return Batch(source="quarantine", received_at_ms=now_ms, events=decoded.events, raw=decoded.raw), ids


class _Outbox:
    """The dispatcher's outbox over the writer (writes) and a reading connection."""

    def __init__(self, app: App, policy: DeliveryPolicy) -> None:
        self._app = app
        self._policy = policy

    async def waiting(self, now_ms: int) -> Waiting:
        return await self._app.read(lambda connection: sqlite_outbox.waiting(connection, now_ms))

    async def due(self, now_ms: int, shares: Sequence[Share]) -> Sequence[OutboxItem]:
        return await self._app.read(lambda connection: sqlite_outbox.due(connection, now_ms, shares))

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        import random

        now_ms = self._app.clock.now_ms()
        await self._app.write(
            lambda connection: sqlite_outbox.record(connection, outcomes, now_ms, random.random, self._policy)
        )


class App:
    """The running service."""

    def __init__(self, config: Config, clock: Clock, inventory: Inventory, rules: tuple[Rule, ...]) -> None:
        self.config = config
        self.clock = clock
        self.inventory = inventory
        self.rules = rules
        self.rules_problem: str | None = None
        # Threads of their own: people's long questions must not hold up the dispatcher's short ones.
        self._asking = ThreadPoolExecutor(ASKING_THREADS, "asking")
        self.rules_seen: object = None  # what the files were like when they were read last
        self.started_at_ms = clock.now_ms()
        self.ready_at_ms: int | None = None
        self.store = SqliteStore.open(config.data)
        self.fleet = fleet_of(config, rules, inventory)
        self._renderer = renderer_of(mailing_of(config), command_routes(config))
        render = _with_fault(self.fleet, partial(render_row, self._renderer))
        self.writer = Writer(
            self.store,
            self.fleet,
            clock,
            partial(render_or_bury, render),
            self._silence,
            self._announce,
            config.history.keep_ms,
            self._writer_gave_up,
            *checkpoints(),
            asked=self._asked,
        )
        self._fault: BaseException | None = None
        self._faulted = asyncio.Event()
        self.sources: dict[str, Source] = {entry.name: self._source(entry) for entry in config.sources}
        self.push = next((found for found in self.sources.values() if isinstance(found, HttpSource)), None)
        self._caught_up = [source.caught_up_to for source in self.sources.values()]
        self._loop: asyncio.AbstractEventLoop | None = None
        secrets = {name: secret.reveal() for name, secret in config.secrets.items() if secret.problem() is None}
        self.sender = SenderProcess(
            secrets, [str(network) for network in config.network.deny], per_target=config.deliveries.per_target
        )
        self.commands = command_sender(config, clock.now_ms)
        policy = DeliveryPolicy(max_age_ms=config.deliveries.max_age_ms)
        self.mail = mail_sender(config)
        senders: dict[str, ActionSender | BatchSender] = {
            "webhook": self.sender,
            "command": self.commands,
            "log": LogSender(_log_actions),
        }
        if self.mail is not None:
            senders["email"] = self.mail
        self.dispatcher = Dispatcher(
            _Outbox(self, policy),
            senders,
            clock,
            Limits(per_target=config.deliveries.per_target, policy=policy),
        )
        self.feeds = FeedWatch(config.feed.max_lag_ms, config.feed.max_silence_ms, self.started_at_ms)
        self.asking = assemble(
            config, self.store, self.fleet, inventory, clock, self.writer.submit, lambda: self._has_read_all()
        )

    def fall_back(self, problem: InvalidFiles) -> None:
        """The rule files do not load: work with the rules that were in force before. Raises `problem` when there are none."""
        rules = tuple(self._remembered())
        if not rules:
            self.store.close()
            raise problem
        self.rules, self.rules_problem = rules, str(problem)
        self.fleet.use(Matcher(rules, self.inventory.attributes, compile_patterns))
        log.error(Event.RULES_BROKEN, problems=len(problem.problems), first=str(problem.problems[0]), rules=len(rules))

    def _remembered(self) -> Iterator[Rule]:
        """The rules of the last run, as far as this version still understands them."""
        for definition, missing_since in self.store.rules().values():
            if missing_since is None:
                with contextlib.suppress(ValueError):
                    yield rule_from_definition(definition)

    # Parts

    def _source(self, entry: SourceConfig) -> Source:
        config, options = self.config, dict(entry.options)
        if entry.type == "file":
            return FileSource(
                name=entry.name,
                path=Path(options["path"]),
                follow=bool(options.get("follow", False)),
                now_ms=self.clock.now_ms,
                max_future_ms=config.events.max_future_ms,
                window=4,
            )
        if entry.type == "rocketmq":
            return rocketmq_source(
                entry.name,
                {key: value.reveal() if isinstance(value, Secret) else value for key, value in options.items()},
                config.data / "rocketmq",
                self.clock.now_ms,
                config.events.max_future_ms,
            )
        if entry.type == "simulator":
            shares = {"flap_percent": "flaps", "late_percent": "late", "duplicate_percent": "duplicates"}
            shares["loss_percent"] = "losses"
            plan = {shares.get(key, key): value / 100 if key in shares else value for key, value in options.items()}
            return SimulatorSource(
                name=entry.name, now_ms=self.clock.now_ms, grace_ms=config.debounce.offline_ms, **plan
            )
        pushed: dict[str, Any] = {
            "name": entry.name,
            "now_ms": self.clock.now_ms,
            "max_future_ms": config.events.max_future_ms,
            "max_lag_ms": config.feed.max_lag_ms,
            "grace_ms": config.debounce.offline_ms,
        }
        if entry.type == "amqp":
            from engine.sources.amqp import AmqpSource  # its library is not always installed

            login = {name: options.pop(name).reveal for name in ("access_key", "secret")}
            return AmqpSource(**pushed, **login, **options)
        return HttpSource(**pushed)

    def _silence(self, now_ms: int) -> int:
        """Up to which instant nothing is missing: the least that any source is caught up to."""
        best = now_ms
        for caught_up_to in self._caught_up:
            upto = caught_up_to(now_ms)
            if upto is None:
                return 0
            best = min(best, upto)
        return best

    def _has_read_all(self) -> bool:
        """Has everything been read that the sources held when we began?"""
        return self.ready_at_ms is not None and self._silence(self.clock.now_ms()) >= self.ready_at_ms

    # From the writer's thread to the loop

    def _asked(self, asks: list[Ask]) -> None:
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

    # What the web and services ask

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something inside the next transaction; returns when it has committed. StoreError when it could not."""

        def guarded(connection: sqlite3.Connection) -> T:
            try:
                return work(connection)
            except sqlite3.Error as error:
                # SQLite may have rolled back by itself: what follows in the transaction would stand alone.
                raise StoreError(f"the store could not write: {error}") from error

        found: T = await asyncio.wrap_future(self.writer.submit(guarded))
        return found

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the store, in a thread, beside the writer."""

        def asked() -> T:
            with reading(self.config.data) as reader:
                return question(reader)

        return await asyncio.get_running_loop().run_in_executor(self._asking, asked)

    def match(self, pairs: Sequence[str]) -> Matches:
        """Whether `key=pattern` pairs hold for a client; ValueError for pairs that cannot be."""
        return matches_of_words(pairs, self.inventory)

    def match_value(self, pairs: Sequence[str]) -> Match:
        """The value that `key=pattern` pairs mean; ValueError for pairs that cannot be."""
        return match_of_words(pairs, self.inventory)

    def decode(self, raw: list[bytes], received_at_ms: int) -> list[LifecycleEvent]:
        """Events of the history."""
        return decode_stored(raw, received_at_ms)

    def conceal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A stored request as it may be shown."""
        return conceal(request)

    def healths(self) -> list[SourceHealth]:
        """How every source is doing, and what its alert says."""
        now_ms, trouble = self.clock.now_ms(), self.feeds.trouble
        found = [source.health(now_ms) for source in self.sources.values()]
        return [replace(health, trouble=trouble.get(health.name)) for health in found]

    def gaps_found(self) -> Mapping[str, int]:
        """How many gaps each source has found since the start."""
        return self.feeds.gaps_found

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return self.clock.now_ms()

    def counters(self) -> dict[str, int]:
        """What was counted since the start."""
        stats, sent = self.writer.stats, self.dispatcher.stats
        found = {name: int(getattr(stats, name)) for name in stats.__slots__}
        found["flaps_suppressed"] = self.fleet.counts.flaps_suppressed
        for name in ("sent", "delivered", "retried", "rejected"):
            found[f"delivery_{name}"] = int(getattr(sent, name))
        return found

    async def act_on_delivery(self, number: int, what: str) -> tuple[DeliveryRow | None, bool]:
        """Carry out `retry` or `discard`: (the delivery as it is then, was it changed); (None, False): there is none."""
        now_ms = self.clock.now_ms()

        def work(connection: sqlite3.Connection) -> tuple[DeliveryRow | None, bool]:
            changed = sqlite_outbox.act(connection, what, [number], now_ms)
            return sqlite_outbox.get(connection, number), bool(changed)

        found = await self.write(work)
        self.dispatcher.wake()
        return found

    async def act_on_held(self, rule: str, what: str) -> int:
        """`release` or `discard` all held deliveries of a rule, some in each transaction; how many."""
        changed = 0
        while some := await self.write(
            lambda connection: sqlite_outbox.act_on_held(connection, what, rule, self.clock.now_ms())
        ):
            changed += some
            self.dispatcher.wake()
        return changed

    def suppressed(self) -> Mapping[str, int]:
        """How many alerts were suppressed since the start, by the reason."""
        return dict(self.writer.suppressed)

    def silences_open(self) -> int:
        """How many silences are not over."""
        return len(self.fleet.book.gates.silences.open)

    async def silence(self, silence: Silence) -> None:
        """Add a silence."""
        await self.write(lambda connection: self.fleet.silence(silence, self.clock.now_ms()))

    async def expire_silence(self, id_: str) -> bool:
        """End a silence now; was there one that was not over?"""
        return await self.write(lambda connection: self.fleet.expire_silence(id_, self.clock.now_ms()))

    async def why_not(self, rule: str, client: str) -> list[Gate]:
        """Every gate between a client and a firing of the rule; asked between two turns, when nothing changes."""
        return await self.write(lambda connection: self.fleet.why_not(rule, client, self.clock.now_ms()))

    async def acknowledge(self, alert_id: str, by: str) -> int:
        """Somebody knows of an alert, or of all in a group; how many were firing and not acknowledged."""
        return await self.write(
            lambda connection: self.fleet.acknowledge(self.clock.now_ms(), alert_id=alert_id, by=by)
        )

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with a read-only connection, in a thread, so that it never waits for the writer."""
        return await asyncio.to_thread(self._read, work)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self.store.reader()
        try:
            return work(connection)
        except sqlite3.Error as error:
            raise StoreError(f"the store could not be read: {error}") from error
        finally:
            connection.close()

    def readiness(self, now_ms: int) -> list[str]:
        """Reasons why the service is not ready; empty when it is."""
        reasons = []
        if self.ready_at_ms is None:
            reasons.append("starting: the states are being loaded")
        if self.writer.failure is not None:
            reasons.append(self.writer.failure)
        for name, source in self.sources.items():
            reason = self.feeds.not_flowing(source.health(now_ms), now_ms)
            if reason is not None:
                reasons.append(f"source {name}: {reason}")
        return reasons

    async def retry_quarantine(self) -> tuple[int, int]:
        """Offer all quarantined events again: (accepted, still malformed). What is accepted leaves the quarantine."""
        accepted = left = 0
        cursor: int | None = None
        while rows := await self.ask(_quarantined_from(cursor)):
            cursor = rows[-1].id
            batch, ids = quarantined_batch(rows, self.clock.now_ms(), self.config.events.max_future_ms)
            left += len(rows) - len(ids)
            if not ids:
                continue
            done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            batch.acknowledge = done.set_result
            self.writer.offer(batch)
            if (error := await done) is not None:
                raise error
            await self.write(lambda connection, ids=ids: self.store.delete_quarantined(ids))  # type: ignore[misc]
            accepted += len(ids)
        return accepted, left

    # Running

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish what is in hand."""
        self._loop = asyncio.get_running_loop()
        async with self._serving_http():
            await asyncio.to_thread(self._recover)
            self.feeds.recall(self._feeds_in_trouble(), self.store.gaps())
            if self.asking is not None:
                self.asking.reconciler.recover(self.store.gaps(), self.config.feed.max_lag_ms)
            self.writer.start()
            await self.write(lambda connection: self._take_rules(self.rules))
            await self.sender.start()
            tasks = [asyncio.create_task(work, name=name) for name, work in self._background()]
            tasks += [asyncio.create_task(self._feed(source), name=name) for name, source in self.sources.items()]
            self.ready_at_ms = self.clock.now_ms()
            if self.asking is not None:
                self.asking.start()
            for source in self.sources.values():
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
        yield "rules", self._again_and_again("rules", self._watch_rules)
        yield "feeds", self._again_and_again("feeds", self._watch_feeds)
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
        return not self.readiness(now_ms) and now_ms - self._silence(now_ms) <= self.config.feed.max_lag_ms

    async def _stop(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Sources first, then the batch in hand, then deliveries under way; each within a bound."""
        dispatcher, *others = tasks
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self.asking is not None:
            with contextlib.suppress(StoreError):
                await self.write(lambda connection, asking=self.asking: asking.reconciler.remember_alive())  # type: ignore[misc]
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

    async def _feed(self, source: Source) -> None:
        position = self.store.sources().get(source.name, (None, None, None))[0]
        room = asyncio.Semaphore(OFFERED_BATCHES)

        async def offer(batch: Batch) -> None:
            await room.acquire()
            told = batch.acknowledge

            def acknowledge(error: Exception | None) -> None:
                room.release()
                if told is not None:
                    told(error)

            batch.acknowledge = acknowledge
            for gap in batch.gaps:
                self.feeds.note_gap(gap)
                if self.asking is not None:
                    self.asking.note_gap(gap)
            self.writer.offer(batch)

        try:
            await source.run(offer, position)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error(Event.SOURCE_FAILED, source=source.name, error=repr(error))
            logging.getLogger(__name__).debug("source failed", exc_info=True)

    # Rules

    async def _watch_rules(self) -> None:
        while True:
            await asyncio.sleep(RULES_POLL_S)
            now = await asyncio.to_thread(fingerprint, self.config.rules)
            retire = self.fleet.book.rules.keys() - {rule.name for rule in self.rules}
            if now != self.rules_seen:
                await self._reload()
                self.rules_seen = now  # not before: an edit that could not be stored is taken again
            elif retire:
                await self.write(lambda connection: self._retire_rules())

    async def _reload(self) -> None:
        """Take edited files, all or nothing: a broken edit changes nothing and is shown."""
        try:
            loaded = await asyncio.to_thread(
                load_rules, self.config.rules, inventory=self.inventory, config=self.config
            )
        except InvalidFiles as error:
            self.rules_problem = str(error)
            log.error(Event.RULES_BROKEN, problems=len(error.problems), first=str(error.problems[0]))
            return
        self.rules_problem = None
        await self.write(lambda connection: self._take_rules(loaded.rules))
        log.info(Event.RULES_LOADED, rules=len(loaded.rules))

    def _take_rules(self, rules: tuple[Rule, ...]) -> None:
        """In the writer's thread: work with these rules; remember them, and when those that went went."""
        now_ms, store, book = self.clock.now_ms(), self.store, self.fleet.book
        known = store.rules()
        names = {rule.name for rule in rules}
        gone = []
        for name, (definition, missing) in known.items():
            if name not in names:
                if missing is None:
                    store.write_rule(name, definition, now_ms, now_ms)
                with contextlib.suppress(ValueError):  # written by a version that knew more: nothing can be said of it
                    gone.append(book.rules.get(name) or rule_from_definition(definition))
        self.rules = rules
        self.fleet.use(Matcher(rules, self.inventory.attributes, compile_patterns), gone)
        for rule in rules:
            if rule.name not in known:
                self._adopt(rule, now_ms)
            store.write_rule(rule.name, rule.definition, now_ms, None)

    def _adopt(self, rule: Rule, now_ms: int) -> None:
        if not self.fleet.states or not {"offline", "online"} & set(rule.triggers):
            return
        found = self.fleet.book.adopt(rule, list(self.fleet.states.items()), now_ms)
        if found:
            log.info(Event.RULE_NEW, rule=rule.name, clients=found, fired=rule.existing)

    def _retire_rules(self) -> None:
        now_ms = self.clock.now_ms()
        for name, (_, missing) in self.store.rules().items():
            if missing is not None and now_ms - missing >= RETIRE_AFTER_MS:
                self.fleet.book.retire(name, now_ms)
                self.store.delete_rule(name)
                log.info(Event.RULE_RETIRED, rule=name)

    # Feeds and forgetting

    async def _watch_feeds(self) -> None:
        while True:
            await asyncio.sleep(FEED_POLL_S)
            now_ms = self.clock.now_ms()
            healths = [source.health(now_ms) for source in self.sources.values()]
            changed = self.feeds.changes(healths, now_ms)
            if changed:
                await self.write(lambda connection, changed=changed, now_ms=now_ms: self._tell_feeds(changed, now_ms))  # type: ignore[misc]
                self.feeds.note(changed)  # not before: what could not be stored is told again
            for name, trouble in changed:
                log.warning(Event.FEED_TROUBLE if trouble else Event.FEED_WELL, source=name, trouble=trouble or "")

    def _feeds_in_trouble(self) -> dict[str, str]:
        """What was wrong with which source, by the alerts that are open."""
        alerts = (alert for some in self.fleet.book.active.values() for alert in some)
        return {alert.source: alert.detail for alert in alerts if alert.source is not None}

    def _tell_feeds(self, changed: Sequence[tuple[str, str | None]], now_ms: int) -> None:
        for name, trouble in changed:
            self.fleet.book.feed(name, trouble, now_ms)

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

    async def forget(self, clients: Sequence[str]) -> int:
        """Keep these clients no longer; their alerts are closed. Returns how many were known."""

        def work(connection: sqlite3.Connection) -> int:
            known = [client for client in clients if client in self.fleet.states]
            for client in known:
                self.fleet.forget(client, self.clock.now_ms())
            return len(known)

        return await self.write(work)

    async def _remember_alive(self) -> None:
        """So that the next start knows how long nobody listened."""
        assert self.asking is not None
        reconciler = self.asking.reconciler
        while True:
            await self.write(lambda connection: reconciler.remember_alive())
            await asyncio.sleep(ALIVE_EVERY_S)

    # HTTP

    @contextlib.asynccontextmanager
    async def _serving_http(self) -> AsyncIterator[None]:
        http = self.config.http
        if http is None:
            yield
            return
        from engine.web.routes import create

        settings = uvicorn.Config(
            create(self),
            host=http.host,
            port=http.port,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
        )
        server = _Server(settings)
        listening = _listen(http.host, http.port)
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        host, port = listening.getsockname()[:2]
        log.info(Event.LISTENING, address=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        try:
            yield
        finally:
            server.should_exit = True
            await serving


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; CannotListen with a sentence when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}"
        ) from error


def _log_actions(items: Sequence[OutboxItem]) -> None:
    entries = [{"rule": item.rule, "phase": item.phase, "message": item.request["message"]} for item in items]
    log_all(Event.ACTION_LOG, entries)


async def _ping(deny: Sequence[str], url: str) -> None:
    """Ask a URL for the heartbeat; 2xx has arrived. As with webhooks, no redirect is followed and `network.deny` holds."""
    import aiohttp

    from engine.actions.webhook import CheckedResolver, DenyList

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


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the service stops as a whole."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _quarantined_from(cursor: int | None) -> Callable[[Reader], list[QuarantineRow]]:
    """The question for one page of the quarantine."""
    return lambda reader: reader.quarantine(limit=RETRIED_ROWS, cursor=cursor)


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
    app.rules_seen = seen
    if problem is not None:
        app.fall_back(problem)
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
