"""Puts the parts together: the one place that names concrete classes. Read `build`, then `App.run`.

What lives as long as the process is here: HTTP, configuration, rule files, log. What lives as long as an ownership of the cell is
in `runtime.cell`; `runtime.cell_life` has one cell follow the other. With the embedded store there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Final

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
from engine.runtime.rule_reloader import RuleReloader, Seen, seen_now
from engine.runtime.running_service import RunningService, ServiceBackend
from engine.runtime.shared_cell import Shared
from engine.runtime.shutdown import end_within
from engine.runtime.store_clock import StoreClock
from engine.runtime.store_factory import is_shared, open_cell, open_store
from engine.stores.base import Store
from engine.stores.sqlite.folder_lock import FolderLock
from engine.telemetry import Event, flush_log, lines_lost, log_trouble, logger, setup_logging

if TYPE_CHECKING:  # it needs a package that is not always installed
    from engine.stores.postgres.store import PostgresStore

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
        self._folder: FolderLock | None = None  # of a store that is elsewhere: commands find the service by it
        if is_shared(config):
            self._folder = FolderLock.take(config.data)
            first = self._opened(config)
            super().__init__(config, EngineClock(self._store_clock.now_ms), inventory)
            cell = self._cell_of(first, rules, first)
            self.posting = Posting(config, self.clock, first, lambda: self.cell.ring())
        else:
            super().__init__(config, clock, inventory)
            cell = self._cell_of(open_store(config, self._failpoints.reached), rules)
        parts = CellParts(
            self.supervisor,
            self.codec,
            self._is_flowing,
            lambda: ServiceBackend(self, asyncio.get_running_loop()),
        )
        self.life = CellLife(
            cell,
            self._next_cell,
            begin=parts.begin,
            end=parts.end,
            take_rules=lambda: self.rule_reloader.take(self.rules),
        )
        self.rule_reloader = RuleReloader(config, inventory, self.life, self.clock, rules, seen, self._configured)

    def _opened(self, config: Config) -> PostgresStore:
        """The store of the cell, not owned yet, and what time it is there."""
        store = open_cell(config, config.cell, self._failpoints.reached)
        self._store_clock.ask(store.database_ms)
        return store

    def _cell_of(self, store: Store, rules: tuple[Rule, ...], shared: PostgresStore | None = None) -> Cell:
        found = None if shared is None else Shared(store=shared, clock=self._store_clock)
        return Cell(self.config, self.clock, self.inventory, rules, store, self._failpoints, found)

    def _next_cell(self) -> Cell:
        """In a thread: the cell that follows one that was lost or given away."""
        store = self._opened(self.config)
        try:
            return self._cell_of(store, self.rules, store)
        except BaseException:
            store.close()
            raise

    def proof(self, challenge: str) -> str:
        """See `web.service.Service.proof`."""
        return self.store.proof(challenge) if self._folder is None else self._folder.proof(challenge)

    def _configured(self, config: Config) -> None:
        """SIGHUP has changed the configuration, as far as that needs no restart."""
        if config.log != self.config.log:
            setup_logging(config.log.level, config.log.format)
        self.config = config
        self.cell.configured(config)

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
                yield
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

        async def end_parts() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CLOSE_S)

        async with self._taking_posts(), self._serving_http():
            tasks += self._keep_parts()
            error = await self.life.run(stop, end_parts)
        if self._folder is not None:
            self._folder.release()
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

    def _is_flowing(self) -> bool:
        """Do verdicts flow, are deliveries sent, and does every part work that the heartbeat vouches for?"""
        now_ms = self.clock.now_ms()
        return (
            not self.readiness(now_ms)
            and not [trouble for trouble in self.supervisor.troubles() if trouble.name not in (LOG, HEARTBEAT)]
            and now_ms - self.source_runner.watermark_of(now_ms) <= self.config.feed.max_lag_ms
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
    if problem is not None and not app.rule_reloader.fall_back(problem):
        app.store.close()
        raise problem
    try:
        _let_in(app)
    except BaseException:
        app.store.close()
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
