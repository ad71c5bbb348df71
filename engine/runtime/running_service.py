"""The running service as the HTTP interface sees it. Read `RunningService`.

`App` puts the parts together and runs them; here is what others ask of the parts while they run. A replica may have several cells: what is
about one client is asked of its cell, and lists and numbers are of all cells of this replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

from engine.clock import Clock, SteadyClock, engine_clock
from engine.config.http import HttpConfig
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.access import ANYBODY, Caller, check_may
from engine.core.cell_placement import BEHIND
from engine.core.fleet import Fleet
from engine.core.rules import Rule
from engine.core.times import rfc3339
from engine.delivery.health import Pause
from engine.errors import Forbidden, NotThere
from engine.runtime.access_acts import ACCESS_ACTS
from engine.runtime.access_door import EmbeddedDoor, SharedDoor
from engine.runtime.audit import carry_out
from engine.runtime.cell import Cell
from engine.runtime.cell_backend import CellBackend
from engine.runtime.history_codec import HistoryCodec
from engine.runtime.joined_queries import JoinedQueries
from engine.runtime.operator_acts import act_routes
from engine.runtime.operator_api import Act, ActRoute, Reach
from engine.runtime.posting import Posting
from engine.runtime.replica_cells import ReplicaCells, added
from engine.runtime.rule_reloader import RuleReloader
from engine.runtime.rule_trial import RuleTrial
from engine.runtime.store_factory import is_shared
from engine.runtime.supervision import PartTrouble, Supervisor
from engine.sources.base import SourceHealth
from engine.sources.http import HttpSource
from engine.stores.base import Reader
from engine.stores.sqlite.folder_lock import FolderLock
from engine.telemetry import lines_lost
from engine.templates.sandbox.time_limit import TIME_LIMIT
from engine.web.access.gate import Access
from engine.web.access.tokens import LOCAL_CHALLENGE
from engine.web.service import CellState, PartState, PendingAct, StatusQueries
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


FIRST_USER = "without a login users and tokens can only be changed on the machine of the service: `rollcall user add NAME --role admin`"
"""Why nobody becomes the first user over HTTP."""


class RunningService:
    """What the HTTP interface reads and does. Writes go through the writers; reads have connections of their own."""

    cells: ReplicaCells
    rule_reloader: RuleReloader
    posting: Posting | None = None
    """What any replica takes for the owners of the cells; None with the embedded store."""
    folder: FolderLock | None = None
    """Held while the store is elsewhere: commands find the service by it."""
    is_stopping = False
    """It has been told to stop: requests that would go on for long end."""

    def __init__(self, config: Config, clock: Clock, inventory: Inventory) -> None:
        self.config, self.clock, self.inventory = config, engine_clock(clock), inventory
        self.steady = SteadyClock(self.clock)
        self.codec = HistoryCodec(inventory)
        self.supervisor = Supervisor(self.clock)
        # Threads of their own: long questions of people must not delay the short ones of the dispatchers.
        self._reading = ThreadPoolExecutor(READING_THREADS, "reading")
        self._acting = ThreadPoolExecutor(ACT_THREADS, "acting")
        self.door = SharedDoor(config) if is_shared(config) else EmbeddedDoor(lambda: self.cells.first)
        http = config.http or HttpConfig()
        self.access = Access(
            config.auth, http, config.metrics.token, self.door, self.now_ms, lambda: self.proof(LOCAL_CHALLENGE)
        )

    def proof(self, challenge: str) -> str:
        """See `web.service.Service.proof`."""
        return (self.cells.first.store if self.folder is None else self.folder).proof(challenge)

    # Clients

    @property
    def fleets(self) -> Sequence[Fleet]:
        """Every client's state, by cells."""
        return [cell.fleet for cell in self.cells.all()]

    def fleet_of(self, client: str) -> Fleet:
        """The fleet that a client belongs to, and any where it belongs to none of this replica's."""
        return (self.cells.of(client) or self.cells.first).fleet

    @property
    def queries(self) -> StatusQueries | None:
        """The synchronous status query; None without `status`."""
        if self.cells.first.queries is None or not self.cells.are_several:
            return self.cells.first.queries
        return JoinedQueries(self.cells)

    @property
    def ready_at_ms(self) -> int | None:
        """Since when it decides and sends in any cell (of the steady clock); None: not yet."""
        found = [cell.ready_at_ms for cell in self.cells.all() if cell.ready_at_ms is not None]
        return min(found) if found else None

    @cached_property
    def views(self) -> Views:
        """What can be read, as JSON objects."""
        return Views(self)

    @cached_property
    def rule_trial(self) -> RuleTrial:
        """Tries edited rule files."""
        return RuleTrial(self)

    @property
    def is_loaded(self) -> bool:
        """Have the states of all clients been loaded?"""
        return all(cell.is_loaded for cell in self.cells.all())

    def as_of_ms(self, client: str | None = None) -> int | None:
        """The instant of which a client (None: all) is shown, when other replicas may know more; None with the embedded store."""
        cell = None if client is None else self.cells.of(client)
        found = [one.as_of_ms() for one in ([cell] if cell is not None else self.cells.all())]
        return min((at_ms for at_ms in found if at_ms is not None), default=None)

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

    # What is sent to it

    @property
    def push(self) -> HttpSource | None:
        """The source that events are sent to over HTTP; None when none is configured."""
        return self.cells.first.source_runner.push if self.posting is None else self.posting.push

    @property
    def act_routes(self) -> Sequence[ActRoute]:
        """Every address of every act of operators."""
        return act_routes()

    async def do(self, act: Act[T], by: Caller) -> T | PendingAct:
        """Carry out an act for somebody, in a thread; see `audit.carry_out` for the errors. Owners of cells that this replica is not are asked for it."""
        check_may(by, act.needs)
        if by.kind == ANYBODY and type(act) in ACCESS_ACTS:  # whoever came first could keep all others out
            raise Forbidden(FIRST_USER)
        names = self._cells_of(act)
        cell = self.cells.named(names[0]) if len(names) == 1 else None
        if self.posting is None or type(act) in ACCESS_ACTS or (cell is not None and not cell.is_standby):
            loop = asyncio.get_running_loop()
            backend = self.backend_of(cell or self.cells.first, loop)
            return await loop.run_in_executor(self._acting, carry_out, act, backend, by)
        return await self.posting.acts.ask(act, by, [self.posting.numbers[name] for name in names])

    def _cells_of(self, act: Act[Any]) -> list[str]:
        """The names of the cells that carry out an act."""
        if not self.cells.are_several:
            return [self.cells.first.name]
        if act.reach is Reach.CLIENT:  # a client of no cell is known to none
            return [self.cells.name_of(getattr(act, "client")) or self.cells.first.name]  # noqa: B009  # of these acts alone
        return [cell.name for cell in self.config.cells]

    def backend_of(self, cell: Cell, loop: asyncio.AbstractEventLoop) -> CellBackend:
        """What acts work on in a cell of this replica."""
        others = None
        if self.cells.are_several and self.posting is not None:
            others = self.posting.numbers
        return CellBackend(self, cell, loop, self.views if others is None else None, others)

    async def answer(self, number: int) -> Any:
        """The answer of an act that another replica was to carry out; PendingAct: there is none yet. Raises what it raised; NotThere."""
        if self.posting is None:
            raise NotThere(f"there is no request {number}: every request is answered at once")
        return await self.posting.acts.answer(number)

    async def ask(self, question: Callable[[Reader], T], client: str | None = None) -> T:
        """Ask the store, in a thread, beside the writers; `client`: whose history is asked for. StoreError when it cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._read, question, client)

    def _read(self, question: Callable[[Reader], T], client: str | None) -> T:
        if self.posting is None or not self.cells.are_several:
            return self.cells.first.read(question)
        name = None if client is None else self.cells.name_of(client)
        with self.posting.readers.reading(own=None if name is None else self.posting.numbers[name]) as reader:
            return question(reader)

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return self.clock.now_ms()

    # Health and metrics

    def healths(self) -> list[SourceHealth]:
        """The health of every source, with the text of its open feed alert; where several cells read it, of the one that is worst off."""
        cells = self.cells.owned() or self.cells.all()
        return [min(of_cells, key=_health_order) for of_cells in zip(*[cell.healths() for cell in cells], strict=True)]

    def readiness(self, now_ms: int) -> list[str]:
        """Reasons why the service is not ready; empty when it is. A standby is ready while it follows the owner."""
        reasons = [f"cell {cell.name}: behind: {cell.reason}" for cell in self.cell_states() if cell.standing == BEHIND]
        owned = self.cells.owned()
        if not owned:
            return reasons
        for cell in owned:
            reasons += [f"cell {cell.name}: {text}" if self.cells.are_several else text for text in cell.not_ready()]
        if (rendering_s := TIME_LIMIT.longest_s()) > SLOW_RENDERING_S:
            reasons.append(f"a template has been rendering for {rendering_s:.0f} s, and nothing is decided meanwhile")
        said = any(cell.writer.failure is not None for cell in owned)
        reasons += [
            _sentence(trouble)
            for trouble in self.supervisor.troubles()
            if trouble.is_vital and not (said and trouble.name.startswith("writer"))
        ]
        return reasons

    def degraded(self) -> list[str]:
        """What does not work although the service is ready: parts that others can do without, the status service, paused targets."""
        found = list(dict.fromkeys(text for cell in self.cells.all() for text in cell.source_runner.degraded()))
        found += [_sentence(trouble) for trouble in self.supervisor.troubles() if not trouble.is_vital]
        if self.queries is not None and (problem := self.queries.trouble) is not None:
            found.append(f"status queries get no answers: {problem}")
        pauses = sorted(self.pauses().values(), key=lambda pause: pause.since_ms)
        found += [
            f"deliveries to {pause.target} are paused since {rfc3339(pause.since_ms)}: {pause.reason}; "
            + ("being tried now" if pause.is_probing else f"tried again at {rfc3339(pause.next_try_ms)}")
            for pause in pauses[:PAUSES_SHOWN]
        ]
        if len(pauses) > PAUSES_SHOWN:
            found.append(f"deliveries to {len(pauses) - PAUSES_SHOWN} more targets are paused")
        return found

    def cell_states(self) -> list[CellState]:
        """The cells of a store that several replicas share, as this one sees them; none with the embedded store."""
        return [state for cell in self.cells.all() if (state := cell.state()) is not None]

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
        """Targets whose circuit breaker is open, by name; of several cells, the one that is open for longest."""
        found: dict[str, Pause] = {}
        for cell in self.cells.all():
            for name, pause in cell.dispatcher.health().pauses.items():
                if name not in found or pause.since_ms < found[name].since_ms:
                    found[name] = pause
        return found

    def receiver_attempts(self) -> Mapping[tuple[str, str], int]:
        """Attempts at receivers since the start, by receiver and outcome."""
        return added(cell.dispatcher.receiver_attempts for cell in self.cells.all())

    def gaps_found(self) -> Mapping[str, int]:
        """How many gaps each source has found since the start."""
        return added(cell.source_runner.watch.gaps_found for cell in self.cells.all())

    def counters(self) -> dict[str, int]:
        """What was counted since the start, by name."""
        return added(cell.counters() for cell in self.cells.all()) | {"log_lines_lost": lines_lost()}

    def suppressed(self) -> Mapping[str, int]:
        """How many alerts were suppressed since the start, by reason."""
        return added(cell.writer.suppressed for cell in self.cells.all())

    def outages(self) -> Mapping[str, tuple[int, int]]:
        """Ongoing outages by the id of their alert: how many clients were ever part of it, and how many are back."""
        found: dict[str, tuple[int, int]] = {}
        for fleet in self.fleets:
            found |= fleet.alerts.inhibitors.progress()
        return found

    def silences_active(self) -> int:
        """How many silences are in force now."""
        now_ms = self.now_ms()
        silences = [silence for fleet in self.fleets for silence in list(fleet.alerts.silences.open.values())]
        return len({silence.id for silence in silences if silence.is_on(now_ms)})


def _health_order(health: SourceHealth) -> tuple[bool, bool, int]:
    """The worst comes first: not connected, in trouble, far behind."""
    return health.connected, health.trouble is None, health.caught_up_to_ms or 0


def _sentence(trouble: PartTrouble) -> str:
    return f"{trouble.name}: {trouble.reason} (since {rfc3339(trouble.since_ms)})"
