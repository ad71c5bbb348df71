"""Puts the parts together: the one place that names concrete classes. Read `build`, then `App.run`.

What lives as long as the process is here: HTTP, configuration, rule files, log. What lives as long as an ownership of a cell is
in `runtime.cell`; `runtime.cell_life` has one cell follow the other, and `runtime.replica_cells` has several beside one another. With the
embedded store there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from engine.clock import Clock, EngineClock, SystemClock
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.rules import Rule
from engine.errors import InvalidFiles, RollcallError
from engine.rulefiles.loader import load_rules
from engine.runtime.cell import CLOSE_S, Cell
from engine.runtime.cell_life import CellLife
from engine.runtime.cell_parts import HEARTBEAT, CellParts
from engine.runtime.failpoints import from_environment
from engine.runtime.fleet_factory import inventory_of
from engine.runtime.http_server import serving_http
from engine.runtime.posting import Posting
from engine.runtime.reload_signal import ReloadSignal
from engine.runtime.replica_cells import ReplicaCells
from engine.runtime.rule_reloader import RuleReloader, Seen, seen_now
from engine.runtime.running_service import RunningService
from engine.runtime.shared_cell import Shared
from engine.runtime.shutdown import end_within
from engine.runtime.store_clock import StoreClock
from engine.runtime.store_factory import is_shared, open_cell, open_store
from engine.stores.sqlite.folder_lock import FolderLock
from engine.telemetry import Event, flush_log, lines_lost, log_trouble, logger, setup_logging

LOG_PROBE_S = 10.0
"""Between two lines that find out whether a log that failed can be written again."""

LOG: Final = "log"
"""A part whose trouble does not stop the heartbeat: without the log, everything else works."""

log = logger(__name__)


class App(RunningService):
    """The running service."""

    def __init__(self, config: Config, clock: Clock, inventory: Inventory, rules: tuple[Rule, ...], seen: Seen) -> None:
        """`seen`: what the files that `rules` and `inventory` came from looked like."""
        self._failpoints = from_environment()
        self._store_clock = StoreClock()
        self._clocks: dict[str, EngineClock] = {}  # of cells that several replicas share, by their names
        if is_shared(config):
            self.folder = FolderLock.take(config.data)
            cells = [self._shared_cell(config.of_cell(one.name), inventory, rules) for one in config.own_cells]
            super().__init__(config, cells[0].clock, inventory)
            self.posting = Posting(config, self.clock, self._ring)
        else:
            super().__init__(config, clock, inventory)
            store = open_store(config, self._failpoints.reached)
            cells = [Cell(config, self.clock, inventory, rules, store, self._failpoints)]
        self.cells = ReplicaCells(config, {cell.name: self._life_of(cell) for cell in cells})
        self.rule_reloader = RuleReloader(config, inventory, self.cells.all, rules, seen, self._configured)

    def _life_of(self, cell: Cell) -> CellLife:
        """The life of a cell that begins with this one."""
        name = cell.name
        parts = CellParts(
            self.supervisor,
            self.codec,
            self._is_flowing,
            lambda cell: self.backend_of(cell, asyncio.get_running_loop()),
            of=name if len(cell.config.cells) > 1 else None,
        )
        return CellLife(
            cell,
            lambda: self._shared_cell(self.config.of_cell(name), self.inventory, self.rules),
            begin=parts.begin,
            end=parts.end,
            take_rules=lambda cell: self.rule_reloader.take(cell),
        )

    def _shared_cell(self, config: Config, inventory: Inventory, rules: tuple[Rule, ...]) -> Cell:
        """A cell that several replicas share, not owned yet: the first one, or the one that follows one that was lost or given away."""
        name = config.cell.name
        store = open_cell(config, config.cell, self._failpoints.reached)
        try:
            self._store_clock.ask(store.database_ms)
            # Each cell has a time of its own: its last owner may have got further than the database's clock shows.
            clock = self._clocks.setdefault(name, EngineClock(self._store_clock.now_ms))
            shared = Shared(store=store, clock=self._store_clock, others_owned=partial(self._owned_beside, name))
            # Rows of the inventory change together with the rules, in a transaction of each cell.
            own = inventory if len(config.cells) == 1 else inventory.copied()
            return Cell(config, clock, own, rules, store, self._failpoints, shared)
        except BaseException:
            store.close()
            raise

    def _owned_beside(self, name: str) -> int:
        """How many other cells this replica owns."""
        return sum(cell.name != name for cell in self.cells.owned())

    def _ring(self) -> None:
        """On the loop: something was posted to a cell, perhaps."""
        for cell in self.cells.all():
            cell.ring()

    def _configured(self, config: Config) -> None:
        """SIGHUP has changed the configuration, as far as that needs no restart."""
        if config.log != self.config.log:
            setup_logging(config.log.level, config.log.format)
        self.config = config
        for cell in self.cells.all():
            cell.configured(config.of_cell(cell.name))

    def reload(self) -> None:
        """Load the configuration, the rules and the inventory again; on the event loop. Harmless at any time."""
        self.rule_reloader.ask()

    # Running

    @contextlib.asynccontextmanager
    async def _serving_http(self) -> AsyncIterator[None]:
        if self.config.http is None:
            yield
            return
        from engine.web.refusals import Refusals
        from engine.web.routes import create

        refusals = Refusals()
        keeping = self.supervisor.keep("access", self.access.run, is_vital=False)
        try:
            async with serving_http(create(self, refusals), self.config.http, refusals, self.supervisor):
                try:
                    yield
                finally:
                    self.is_stopping = True
        finally:
            keeping.cancel()

    @contextlib.asynccontextmanager
    async def _taking_posts(self) -> AsyncIterator[None]:
        if self.posting is None:
            yield
            return
        async with self.posting.taking(self.supervisor):
            yield

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish what is in hand."""
        tasks: list[asyncio.Task[None]] = []
        is_ending = False

        async def end_parts() -> None:
            nonlocal is_ending
            if is_ending:  # another cell has begun with it
                return
            is_ending = True
            log.info(Event.STOPPING)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CLOSE_S)

        async with self._taking_posts(), self._serving_http():
            tasks += self._keep_parts()
            error = await self.cells.run(stop, end_parts)
        if self.folder is not None:
            self.folder.release()
        if error is not None:
            raise RollcallError(f"stopped by an internal error; no accepted event is lost; please report it: {error!r}")
        log.info(Event.STOPPED)

    def _keep_parts(self) -> list[asyncio.Task[None]]:
        """Start what lives as long as the process."""
        keep, watch = self.supervisor.keep, self.supervisor.watch
        watch(
            LOG, lambda: found.reason if (found := log_trouble()) is not None else None, is_vital=False, is_logged=False
        )
        return [
            keep("supervisor", self.supervisor.look_around),
            keep("log watch", self._watch_log, is_vital=False),
            keep("rules", self.rule_reloader.watch, is_vital=False),
        ]

    async def _watch_log(self) -> None:
        """Say how many log lines were lost, as soon as the log can be written again."""
        noted, probe_s = lines_lost(), 0.0
        while True:
            await asyncio.sleep(1.0)
            lost, now_s = lines_lost(), asyncio.get_running_loop().time()
            if lost > noted and (log_trouble() is None or now_s >= probe_s):
                log.warning(Event.LOG_LINES_LOST, lines=lost)
                noted, probe_s = lost, now_s + LOG_PROBE_S

    def _is_flowing(self, cell: Cell) -> bool:
        """Do verdicts flow, are deliveries sent, and does every part work that a cell's heartbeat vouches for, and has every cell an owner?"""
        now_ms = cell.clock.now_ms()
        return (
            not self.readiness(now_ms)
            and not [
                trouble
                for trouble in self.supervisor.troubles()
                if trouble.name != LOG and not trouble.name.startswith(HEARTBEAT)
            ]
            and now_ms - cell.source_runner.watermark_of(now_ms) <= self.config.feed.max_lag_ms
            and (cell.cell_watch is None or cell.cell_watch.are_all_owned)
        )


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
    try:
        if problem is not None and not app.rule_reloader.fall_back(problem):
            raise problem
        _let_in(app)
    except BaseException:
        for cell in app.cells.all():
            cell.store.close()
        raise
    return app


def _let_in(app: App) -> None:
    """Read who may sign in. RollcallError when the service can be reached from outside and nobody could."""
    app.access.load()
    http = app.config.http
    if http is None or http.is_local or app.access.directory.can_anybody_enter:
        return
    raise RollcallError(
        f"http.listen: {http.host} is reachable from outside, and no user or token exists: make a user with"
        f" `rollcall user add NAME --role admin -c {app.config.path}`, or set `http.token`, then start again"
    )


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
