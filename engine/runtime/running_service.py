"""The running service as the HTTP interface and the acts of operators see it. Read `RunningService`, then `ServiceBackend`.

`App` puts the parts together and runs them; here is what others ask of the parts while they run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from engine.clock import Clock, SteadyClock, engine_clock
from engine.config.http import HttpConfig
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.access import Caller, check_may
from engine.core.fleet import Fleet
from engine.core.rules import Rule
from engine.core.times import rfc3339
from engine.delivery.dispatcher import Dispatcher
from engine.delivery.health import Pause
from engine.errors import NotConfigured, NotThere, Unavailable
from engine.runtime.access_acts import ACCESS_ACTS
from engine.runtime.access_door import EmbeddedDoor, SharedDoor
from engine.runtime.audit import carry_out
from engine.runtime.cell import Cell
from engine.runtime.cell_life import CellLife
from engine.runtime.history_codec import HistoryCodec
from engine.runtime.operator_acts import act_routes
from engine.runtime.operator_api import Act, ActRoute
from engine.runtime.posting import Posting
from engine.runtime.rule_reloader import RuleReloader
from engine.runtime.source_runner import SourceRunner
from engine.runtime.standby import BEHIND
from engine.runtime.status_queries import QueryService
from engine.runtime.store_factory import is_shared
from engine.runtime.supervision import PartTrouble, Supervisor
from engine.runtime.writer import Writer
from engine.sources.base import Batch, SourceHealth
from engine.sources.http import HttpSource
from engine.stores.base import AccessTables, Reader, Store
from engine.telemetry import lines_lost
from engine.templates.sandbox.time_limit import TIME_LIMIT
from engine.web.access.gate import Access
from engine.web.access.tokens import LOCAL_CHALLENGE
from engine.web.service import NO_PROVIDER, CellState, PartState, PendingAct
from engine.web.views import Views

T = TypeVar("T")

SLOW_RENDERING_S = 2.0
"""Seconds of one rendering after which the service is not ready: everything waits for it."""

READING_THREADS = 4
"""Questions to the store that are answered at the same time."""

ACT_THREADS = 8
"""Acts of operators that are carried out at the same time. A thread waits for the writer, so they are not those that read."""

PAUSES_SHOWN = 20
"""Paused targets that `/readyz` names, those first that are paused for longest."""

ACT_TIMEOUT_S = 50.0
"""Seconds that an act waits for the writer; less than what the client of the command line waits for the answer."""


class RunningService:
    """What the HTTP interface reads and does. Writes go through the writer; reads have connections of their own."""

    life: CellLife
    rule_reloader: RuleReloader
    posting: Posting | None = None
    """What any replica takes for the owner of the cell; None with the embedded store."""

    def __init__(self, config: Config, clock: Clock, inventory: Inventory) -> None:
        self.config, self.clock, self.inventory = config, engine_clock(clock), inventory
        self.steady = SteadyClock(self.clock)
        self.codec = HistoryCodec(inventory)
        self.supervisor = Supervisor(self.clock)
        # Threads of their own: long questions of people must not delay the short ones of the dispatcher.
        self._reading = ThreadPoolExecutor(READING_THREADS, "reading")
        self._acting = ThreadPoolExecutor(ACT_THREADS, "acting")
        self.door = SharedDoor(config) if is_shared(config) else EmbeddedDoor(lambda: self.store, lambda: self.writer)
        http = config.http or HttpConfig()
        self.access = Access(
            config.auth, http, config.metrics.token, self.door, self.now_ms, lambda: self.proof(LOCAL_CHALLENGE)
        )

    def proof(self, challenge: str) -> str:
        """See `web.service.Service.proof`."""
        raise NotImplementedError

    @property
    def cell(self) -> Cell:
        """The present one."""
        return self.life.cell

    @property
    def store(self) -> Store:
        """Where the cell is kept."""
        return self.cell.store

    @property
    def fleet(self) -> Fleet:
        """Every client's state."""
        return self.cell.fleet

    @property
    def writer(self) -> Writer:
        """What changes the fleet and the store."""
        return self.cell.writer

    @property
    def source_runner(self) -> SourceRunner:
        """The sources."""
        return self.cell.source_runner

    @property
    def dispatcher(self) -> Dispatcher:
        """What sends deliveries."""
        return self.cell.dispatcher

    @property
    def queries(self) -> QueryService | None:
        """The synchronous status query; None without `status`."""
        return self.cell.queries

    @property
    def ready_at_ms(self) -> int | None:
        """Since when it decides and sends (of the steady clock); None: not yet."""
        return self.cell.ready_at_ms

    @cached_property
    def views(self) -> Views:
        """What can be read, as JSON objects."""
        return Views(self)

    @property
    def is_loaded(self) -> bool:
        """Have the states of all clients been loaded?"""
        standby = self.cell.standby
        return self.ready_at_ms is not None or (standby is not None and standby.is_warm)

    def as_of_ms(self) -> int | None:
        """The instant of which clients are shown, when other replicas may know more; None with the embedded store."""
        standby = self.cell.standby
        if standby is None:
            return None
        now_ms = self.clock.now_ms()
        return now_ms if not self.cell.is_standby else now_ms - int(standby.lag_s() * 1000)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        return self.rule_reloader.rules

    @property
    def rules_problem(self) -> str | None:
        """Why the rule files do not load; None while they do."""
        return self.rule_reloader.problem

    @property
    def refused_edits(self) -> Mapping[str, str]:
        """Why edited files are not in force, by `configuration`, `rules` and `inventory`; empty while all are."""
        return self.rule_reloader.refused

    @property
    def push(self) -> HttpSource | None:
        """The source that events are sent to over HTTP; None when none is configured."""
        return self.source_runner.push if self.posting is None else self.posting.push

    @property
    def act_routes(self) -> Sequence[ActRoute]:
        """Every address of every act of operators."""
        return act_routes()

    async def do(self, act: Act[T], by: Caller) -> T | PendingAct:
        """Carry out an act for somebody, in a thread; see `audit.carry_out` for the errors. A standby has the owner of the cell carry it out."""
        check_may(by, act.needs)
        if self.posting is not None and self.cell.is_standby and type(act) not in ACCESS_ACTS:
            return await self.posting.acts.ask(act, by)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._acting, carry_out, act, ServiceBackend(self, loop), by)

    async def answer(self, number: int) -> Any:
        """The answer of an act that another replica was to carry out; PendingAct: there is none yet. Raises what it raised; NotThere."""
        if self.posting is None:
            raise NotThere(f"there is no request {number}: every request is answered at once")
        return await self.posting.acts.answer(number)

    async def write(self, work: Callable[[], T]) -> T:
        """Do something inside the next transaction; returns when it has committed. StoreError when it could not."""
        return await self.cell.write(work)

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the store, in a thread, beside the writer. StoreError when it cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self.cell.read, question)

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return self.clock.now_ms()

    # Health and metrics

    def healths(self) -> list[SourceHealth]:
        """The health of every source, with the text of its open feed alert."""
        trouble = self.source_runner.watch.trouble
        return [replace(health, trouble=trouble.get(health.name)) for health in self.source_runner.healths()]

    def readiness(self, now_ms: int) -> list[str]:
        """Reasons why the service is not ready; empty when it is. A standby is ready while it follows the owner."""
        reasons = [f"cell {cell.name}: behind: {cell.reason}" for cell in self.cells() if cell.standing == BEHIND]
        if self.cell.is_standby:
            return reasons
        if self.ready_at_ms is None:
            reasons.append("starting: client states are being loaded")
        if self.writer.failure is not None:
            reasons.append(self.writer.failure)
        if (rendering_s := TIME_LIMIT.longest_s()) > SLOW_RENDERING_S:
            reasons.append(f"a template has been rendering for {rendering_s:.0f} s, and nothing is decided meanwhile")
        reasons += [f"source {name}: {reason}" for name, reason in self.source_runner.not_flowing()]
        said = self.writer.failure is not None
        reasons += [
            _sentence(trouble)
            for trouble in self.supervisor.troubles()
            if trouble.is_vital and not (said and trouble.name == "writer")
        ]
        return reasons

    def degraded(self) -> list[str]:
        """What does not work although the service is ready: parts that others can do without, the status service, paused targets."""
        found = self.source_runner.degraded()
        found += [_sentence(trouble) for trouble in self.supervisor.troubles() if not trouble.is_vital]
        if self.queries is not None and (problem := self.queries.trouble) is not None:
            found.append(f"status queries get no answers: {problem}")
        pauses = sorted(self.dispatcher.health().pauses.values(), key=lambda pause: pause.since_ms)
        found += [
            f"deliveries to {pause.target} are paused since {rfc3339(pause.since_ms)}: {pause.reason}; "
            + ("being tried now" if pause.is_probing else f"tried again at {rfc3339(pause.next_try_ms)}")
            for pause in pauses[:PAUSES_SHOWN]
        ]
        if len(pauses) > PAUSES_SHOWN:
            found.append(f"deliveries to {len(pauses) - PAUSES_SHOWN} more targets are paused")
        return found

    def cells(self) -> list[CellState]:
        """The cells of a store that several replicas share; none with the embedded store."""
        found = self.cell.state()
        return [] if found is None else [found]

    def parts(self) -> list[PartState]:
        """Every part of the service, and what is wrong with it."""
        troubles = {trouble.name: trouble for trouble in self.supervisor.troubles()}
        restarts = self.supervisor.restarts()
        return [
            PartState(
                name=name,
                reason=troubles[name].reason if name in troubles else None,
                since_ms=troubles[name].since_ms if name in troubles else None,
                restarts=restarts.get(name, 0),
            )
            for name in self.supervisor.names()
        ]

    def pauses(self) -> Mapping[str, Pause]:
        """Targets whose circuit breaker is open, by name."""
        return self.dispatcher.health().pauses

    def receiver_attempts(self) -> Mapping[tuple[str, str], int]:
        """Attempts at receivers since the start, by receiver and outcome."""
        return dict(self.dispatcher.receiver_attempts)

    def gaps_found(self) -> Mapping[str, int]:
        """How many gaps each source has found since the start."""
        return self.source_runner.watch.gaps_found

    def counters(self) -> dict[str, int]:
        """What was counted since the start, by name."""
        stats, sent = self.writer.stats, self.dispatcher.stats
        found = {name: int(getattr(stats, name)) for name in stats.__slots__}
        found["flaps_suppressed"] = self.fleet.counts.flaps_suppressed
        for name in ("sent", "delivered", "retried", "rejected"):
            found[f"delivery_{name}"] = int(getattr(sent, name))
        found["log_lines_lost"] = lines_lost()
        return found

    def suppressed(self) -> Mapping[str, int]:
        """How many alerts were suppressed since the start, by reason."""
        return dict(self.writer.suppressed)

    def outages(self) -> Mapping[str, tuple[int, int]]:
        """Ongoing outages by the id of their alert: how many clients were ever part of it, and how many are back."""
        return self.fleet.alerts.inhibitors.progress()

    def silences_active(self) -> int:
        """How many silences are in force now."""
        now_ms = self.now_ms()
        return sum(silence.is_on(now_ms) for silence in list(self.fleet.alerts.silences.open.values()))


class ServiceBackend:
    """The running service as acts see it; see `Backend`. Its methods block, so they are called in threads, never in the loop."""

    def __init__(self, service: RunningService, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._loop = service, loop
        self.config, self.store, self.codec = service.config, service.store, service.codec
        self.fleet, self.views = service.fleet, service.views

    def now_ms(self) -> int:
        """See `Backend`."""
        return self._service.now_ms()

    def read(self, question: Callable[[Reader], T]) -> T:
        """See `Backend`."""
        with self.store.reading() as reader:
            return question(reader)

    def inspect(self, work: Callable[[], T]) -> T:
        """See `Backend`: between two transactions nothing changes the fleet."""
        return self.write(work)

    def change(self, work: Callable[[], T]) -> T:
        """See `Backend`."""
        return self.write(work)

    def write(self, work: Callable[[], T]) -> T:
        """See `Backend`."""
        return _result(self._service.writer.submit(work))

    by = "the engine"

    def access(self, work: Callable[[AccessTables], T]) -> T:
        """See `Backend`."""
        found = self._service.door.write(work)
        self._service.access.refresh()
        return found

    def offer(self, batch: Batch) -> None:
        """See `Backend`."""
        done: Future[Exception | None] = Future()
        batch.acknowledge = done.set_result
        self._service.writer.offer(batch)
        error = _result(done)
        if error is not None:
            raise error

    def wake_dispatcher(self) -> None:
        """See `Backend`."""
        self._loop.call_soon_threadsafe(self._service.dispatcher.wake)

    def begin_sweep(self, *, dry_run: bool) -> int:
        """See `Backend`."""
        if self._service.queries is None:
            raise NotConfigured(NO_PROVIDER)
        return self._service.queries.begin_sweep(dry_run=dry_run)


def _result(done: Future[T]) -> T:
    """What the writer's thread returns or raises. Unavailable when that takes too long."""
    try:
        return done.result(ACT_TIMEOUT_S)
    except TimeoutError:
        raise Unavailable(
            f"the request was not committed within {ACT_TIMEOUT_S:.0f} s; it may still take effect: check before you repeat it"
        ) from None


def _sentence(trouble: PartTrouble) -> str:
    return f"{trouble.name}: {trouble.reason} (since {rfc3339(trouble.since_ms)})"
