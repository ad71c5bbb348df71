"""Puts the synchronous status query together: provider, budget, scheduler, result applier and reconciler. Read `assemble`.

The service has one `QueryService`. A command makes one over a store that it opened itself, or only a scheduler
(`scheduler_without_store`). All of them keep to one budget, because they share the file of the last call in the data folder.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from engine.clock import Clock
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.config.status import StatusConfig
from engine.core.fleet import Fleet
from engine.core.matching import Listing
from engine.core.presence.query import QueryRequest, StatusAnswer
from engine.core.presence.reconcile import is_concerned, sweep_order
from engine.errors import Overloaded, StoreError
from engine.queries.current_sweep import CurrentSweep
from engine.queries.dry_run import DryRun
from engine.queries.queue import DRY_RUN, OPERATOR
from engine.queries.reconciler import Reconciler
from engine.queries.result_applier import ResultApplier
from engine.queries.results import AppliedResult, ResultReporter, ResultSink, ResultWriter
from engine.queries.scheduler import Beliefs, CallBudget, QueryScheduler
from engine.queries.sweep import agrees
from engine.queries.sweep_records import Scope, SweepRecords
from engine.queries.sweep_requests import OPERATOR_SWEEP, SweepSchedule
from engine.queries.sweep_runner import SweepRunner
from engine.runtime.cell_filter import listing_of
from engine.runtime.store_factory import is_shared, query_shares
from engine.sources.base import Gap
from engine.status.base import Provider
from engine.status.budget import Budget
from engine.status.last_call import LastCallFile
from engine.status.shared_budget import SharedBudget
from engine.stores.base import Sweeps
from engine.web.service import QueryNumbers

LAST_CALL_FILE = "status.ledger"
"""The file in the data folder that says when the last call was made, for the budget after a restart."""

BUSY_S = 10.0
"""Another process that sends status queries, most likely a command, is waited for so long."""

OPERATOR_S = 5.0
"""An operator waits so long for an answer; then the believed status is returned."""

SWEEP_START_S = 10.0
"""An operator waits so long for a sweep to start."""

ALIVE_EVERY_S = 30.0
"""The service stores so often that it is at work."""


def provider_of(config: StatusConfig, clock: Clock) -> Provider:
    """The provider that the configuration names. Raises RollcallError when its package is missing."""
    timeout_s = config.timeout_ms / 1000
    keys = config.access_key.reveal, config.secret.reveal
    if config.provider == "openapi":
        from engine.status.openapi import OpenApiProvider  # its package is not always installed

        return OpenApiProvider(config.endpoint, config.instance, *keys, timeout_s)
    from engine.status.route import RouteProvider  # its libraries take long to import, and most services need none

    return RouteProvider(config.endpoint, config.instance, *keys, clock.now_ms, timeout_s)


@contextmanager
def scheduler_without_store(config: Config, status: StatusConfig, clock: Clock) -> Iterator[QueryScheduler]:
    """A running scheduler whose results are reported and not applied.

    Raises StatusBusy while another process sends status queries.
    """
    scheduler, start_budget = _scheduler(config, status, clock, _NoBeliefs(), ResultReporter())
    start_budget()
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()


def _scheduler(
    config: Config, status: StatusConfig, clock: Clock, beliefs: Beliefs, results: ResultSink, place: str = ""
) -> tuple[QueryScheduler, Callable[[], None]]:
    """A scheduler within the budget of the data folder or of all replicas, and what starts that budget.

    `place`: tells schedulers of one replica apart. Raises StatusBusy while another process holds the budget of the data folder.
    """
    shares = query_shares(config, place)
    start: Callable[[], None] = lambda: None  # noqa: E731
    budget: CallBudget
    if shares is None:
        config.data.mkdir(parents=True, exist_ok=True)
        last_call = LastCallFile(config.data / LAST_CALL_FILE, within_s=BUSY_S)
        budget, close = Budget(status.rate, last_call=last_call), last_call.close
    else:
        shared = SharedBudget(status.rate, shares)
        budget, close, start = shared, shared.close, shared.start
    try:
        provider = provider_of(status, clock)
    except BaseException:
        close()
        raise
    scheduler = QueryScheduler(
        provider, budget, clock, beliefs, results, rate=status.rate, retries=status.unknown_retries, close=close
    )
    return scheduler, start


class StandbyQueries:
    """Queries that operators ask a standby for: answered, and not applied, because the owner decides. It starts when it is first asked."""

    def __init__(self, make: Callable[[], tuple[QueryScheduler, Callable[[], None]]]) -> None:
        """`make`: a scheduler, and what starts its budget."""
        self._make, self._lock = make, threading.Lock()
        self._scheduler: QueryScheduler | None = None

    @property
    def trouble(self) -> str | None:
        """Why queries get no answers at present; None while they do, or while none was asked for."""
        scheduler = self._scheduler
        return None if scheduler is None else scheduler.trouble

    def query(self, client: str) -> Future[AppliedResult]:
        """See `QueryScheduler.query`."""
        with self._lock:
            if self._scheduler is None:
                self._scheduler, start_budget = self._make()
                start_budget()
                self._scheduler.start()
            return self._scheduler.query(client, OPERATOR)

    def stop(self) -> None:
        """Send no more, and give the share back."""
        with self._lock:
            scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.stop()


class QueryService:
    """The synchronous status query as one part of a service."""

    def __init__(
        self,
        scheduler: QueryScheduler,
        results: ResultWriter,
        applier: ResultApplier,
        reconciler: Reconciler,
        fleet: Fleet,
        start_budget: Callable[[], None],
        aside: StandbyQueries | None,
    ) -> None:
        """`aside`: queries the broker while another replica owns the cell; None: there is no other."""
        self.reconciler = reconciler
        self._start_budget, self._is_started, self._aside = start_budget, False, aside
        self._scheduler, self._results, self._applier, self._fleet = scheduler, results, applier, fleet

    def start(self) -> None:
        """Begin to send queries; sweeps that `recover` found go on first."""
        self._is_started = True
        if self._aside is not None:
            # Its share is better used by the owner's queries; a thread, because giving it back takes a while.
            threading.Thread(target=self._aside.stop, name="query-aside", daemon=True).start()
        self._start_budget()
        self._scheduler.start()
        self.reconciler.start()

    def stop(self) -> None:
        """Send no more queries. A sweep stays as it is, for the next start."""
        self.reconciler.stop()
        self._scheduler.stop()
        if self._aside is not None:
            self._aside.stop()

    def thread_trouble(self) -> str | None:
        """Which threads of it have ended while it is at work; None: none has."""
        ended = [*self._scheduler.ended_threads(), *self.reconciler.ended_threads()]
        return f"these threads have ended: {', '.join(ended)}" if ended else None

    def enqueue(self, requests: Iterable[QueryRequest]) -> None:
        """Queue the queries that the fleet requests; called when the step that requests them has committed."""
        self._scheduler.enqueue(requests)

    def note_gap(self, gap: Gap) -> None:
        """Messages of a source were lost: the clients that they may concern are queried."""
        self.reconciler.note_gap(gap)

    async def verify(self, client: str) -> StatusAnswer | None:
        """Query a client now, before all others; None when there is no number of connections in time."""
        if self._is_started or self._aside is None:
            query = self._scheduler.query(client, OPERATOR)
        else:
            query = self._aside.query(client)
        waiting: asyncio.Future[AppliedResult] = asyncio.wrap_future(query)
        try:
            answer = (await asyncio.wait_for(waiting, OPERATOR_S)).result.answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not waiting.cancelled():
                raise
            return None
        return None if answer.connections is None else answer

    @property
    def trouble(self) -> str | None:
        """Why queries get no answers at present; None while they do."""
        if self._is_started or self._aside is None:
            return self._scheduler.trouble
        return self._aside.trouble

    def begin_sweep(self, *, dry_run: bool) -> int:
        """Start a sweep; returns its number. Blocks. Raises Overloaded while another one runs, StoreError when it does not start."""
        if self.reconciler.is_sweeping:
            progress = self.reconciler.progress()
            raise Overloaded("a sweep is already running" + (f": number {progress.number}" if progress else ""), 5)
        starting = self.reconciler.request(DRY_RUN if dry_run else OPERATOR_SWEEP)
        try:
            return starting.result(SWEEP_START_S)
        except (TimeoutError, CancelledError):
            raise StoreError(f"the sweep did not start within {SWEEP_START_S:g} s; try again later") from None

    def numbers(self) -> QueryNumbers:
        """The values of the metrics."""
        stats, progress = self._scheduler.stats, self.reconciler.progress()
        return QueryNumbers(
            calls=stats.calls,
            throttled=stats.throttled,
            failures=stats.failures,
            outcomes=dict(stats.outcomes),
            verdicts=dict(self._results.verdicts),
            waiting=len(self._scheduler),
            trouble=self.trouble,
            corrections=self._applier.corrections,
            sweeps=self.reconciler.finished,
            sweep_total=progress.total if progress else 0,
            sweep_asked=progress.tally.asked if progress else 0,
            stale=self._fleet.counts.stale_answers,
            avoided=self._fleet.alerts.pipeline.verification.false_alarms_avoided,
        )


def assemble(
    config: Config,
    store: Sweeps,
    fleet: Fleet,
    inventory: Inventory,
    clock: Clock,
    submit: Callable[[Callable[[], Any]], Future[Any]],
    has_caught_up: Callable[[], bool] = lambda: True,
) -> QueryService | None:
    """The status query under this configuration; None without `status`.

    `submit`: runs work inside a transaction of the writer; `has_caught_up`: have all sources been read up to the start?
    """
    status = config.status
    if status is None:
        return None
    view = _FleetView(fleet, listing_of(config, inventory))
    current = CurrentSweep()
    applier = ResultApplier(fleet, store, current)
    results = ResultWriter(submit, applier)
    scheduler, start_budget = _scheduler(config, status, clock, view, results)
    fleet.can_query = scheduler.can_answer
    records = SweepRecords(store, submit)
    dry_run = DryRun(current, records, fleet.published)
    runner = SweepRunner(scheduler, applier, dry_run, records, current, clock, confirm_after_ms=status.confirm_after_ms)
    schedule = SweepSchedule()
    if config.reconcile is not None:
        schedule = SweepSchedule(ticks=config.reconcile.ticks, catches_up=config.reconcile.catches_up)
    reconciler = Reconciler(
        runner,
        records,
        current,
        clock,
        schedule,
        clients=view.clients_to_query,
        has_caught_up=has_caught_up,
        max_hold_ms=config.feed.max_hold_ms,
    )
    aside = None
    if is_shared(config):
        aside = StandbyQueries(
            partial(_scheduler, config, status, clock, _NoBeliefs(), ResultReporter(), place="standby")
        )
    return QueryService(scheduler, results, applier, reconciler, fleet, start_budget, aside)


class _FleetView:
    """What the fleet and the inventory say about clients; read beside the writer, from several threads."""

    def __init__(self, fleet: Fleet, inventory: Listing) -> None:
        self._fleet, self._inventory = fleet, inventory

    def agrees(self, client: str, connections: int) -> bool:
        """Does a number of connections agree with the believed status?"""
        state = self._fleet.published(client)
        return state is not None and agrees(state.observed, connections)

    def is_listed(self, client: str) -> bool:
        """Does a row of the inventory name the client by its whole id?"""
        return self._inventory.lists(client)

    def clients_to_query(self, scope: Scope | None, since_ms: int | None) -> list[str]:
        """The clients of a sweep, most urgent first.

        `scope`: the gaps that it is limited to; None: every client. `since_ms`: clients verified since this instant (epoch ms) are
        left out. Clients of the inventory that never sent an event are always included.
        """
        known = states = dict(self._fleet.states)
        if scope is not None:
            gaps = [(_latest_ms(gap), int(gap["noted_at"])) for gap in scope["gaps"]]
            states = {
                client: state
                for client, state in states.items()
                if any(is_concerned(state, to_ms, noted_ms) for to_ms, noted_ms in gaps)
            }
        never_seen = [client for client in self._inventory.clients() if client not in known]
        ordered = sweep_order(states, never_seen, self._alerting(), self._fleet.policy.clock_skew_ms, self._fleet.gaps)
        if since_ms is None:
            return ordered
        # A client whose answer was unknown, or waited to be confirmed, was not counted: it is queried again.
        return [client for client in ordered if client not in states or states[client].verified_ms < since_ms]

    def _alerting(self) -> set[str]:
        """Clients with an alert that is pending or firing."""
        alerts = (alert for some in list(self._fleet.alerts.open_alerts.by_subject.values()) for alert in list(some))
        return {alert.client for alert in alerts if alert.client is not None and alert.state in {"pending", "firing"}}


class _NoBeliefs:
    """Without a store no status is believed."""

    def agrees(self, client: str, connections: int) -> bool:
        """No: every answer is queried exactly."""
        return False

    def is_listed(self, client: str) -> bool:
        """Not known here."""
        return False


def _latest_ms(gap: Any) -> int:
    """When the newest message of a gap occurred at the latest (epoch ms)."""
    return int(gap["to"] if gap["to"] is not None else gap["noted_at"])
