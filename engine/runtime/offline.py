"""A store that is opened without a service: what commands use when no service runs. Read `opened`, then `Offline`.

Reading takes no lock and works beside a process that writes to the store. Writing takes the lock that a service takes, and writes
through the same writer, so an act of an operator means the same with and without a service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from typing import Any, TypeVar

from engine.clock import EngineClock, SystemClock
from engine.config.cell_groups import CellGroups
from engine.config.loader import Config
from engine.config.sources import SourceConfig
from engine.core.fleet import Fleet
from engine.core.presence.client_state import ClientState
from engine.core.presence.query import QueryRequest
from engine.core.rules import Rule
from engine.delivery.rendering import render_row
from engine.errors import InvalidFiles, NotConfigured, StoreError
from engine.queries.results import AppliedResult
from engine.queries.scheduler import QueryScheduler
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import command_routes, fleet_of, inventory_of, mail_route, renderer_of
from engine.runtime.history_codec import HistoryCodec, decode_stored
from engine.runtime.status_queries import OPERATOR_S, QueryService, assemble, scheduler_without_store
from engine.runtime.store_factory import open_store, open_store_to_read
from engine.runtime.writer import Writer
from engine.sources.base import Batch, SourceHealth
from engine.stores.base import AccessTables, Reader, SourceRow, Store
from engine.web import serializers
from engine.web.service import NO_PROVIDER, TargetPause
from engine.web.views import Views

T = TypeVar("T")

POLL_S = 0.2
"""How often a query that waits is looked after."""


@contextmanager
def opened(config: Config, *, write: bool = False) -> Iterator[Offline]:
    """The store of a configuration. StoreError when it cannot be opened, StoreInUse when another process writes to it.

    NotConfigured for several cells: each has a store of its own, and a replica that runs shows them together.
    """
    if len(config.own_cells) > 1:
        names = [cell.name for cell in config.own_cells]
        raise NotConfigured(
            f"no replica runs here, and the store has several cells: start one with `rollcall run`, run the command where one runs,"
            f" or use a configuration of one cell, such as `cluster: {{cells: [{names[0]}]}}` (there are {', '.join(names)})"
        )
    store = open_store(config) if write else open_store_to_read(config)
    with ExitStack() as stack:
        stack.callback(store.close)
        reader = stack.enter_context(store.reading())
        offline = Offline(config, store, reader)
        stack.callback(offline.stop)
        yield offline


class Offline:
    """A store and what the configuration says about it; see `Backend`. The states are loaded when they are first needed.

    Acts need a store that was opened for writing.
    """

    def __init__(self, config: Config, store: Store, reader: Reader) -> None:
        self.config = config
        self.store = store
        self.inventory = inventory_of(config)
        self.codec = HistoryCodec(self.inventory)
        self.views = Views(self)
        self.rules_problem: str | None = None
        self.is_loaded = True  # when they are needed
        self._clock = EngineClock()
        self._reader = reader
        self._queries: QueryService | None = None  # at work since a sweep began

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The configured rules; none while they do not load, and `rules_problem` says why."""
        try:
            return load_rules(self.config.rules, inventory=self.inventory, config=self.config).rules
        except InvalidFiles as error:
            self.rules_problem = str(error)
            return ()

    @cached_property
    def _writer(self) -> Writer:
        """A writer whose states are loaded. It has no watermark, because no source is read: event-time timers stand still."""
        renderer = renderer_of(mail_route(self.config), command_routes(self.config), self.config.receivers)
        writer = Writer(
            self.store,
            fleet_of(self.config, self.rules, self.inventory),
            self._clock,
            render=lambda planned: render_row(renderer, planned),
            watermark_of=lambda now_ms: 0,
            announce=lambda calls, items: _call(calls),
            keep_ms=self.config.history.keep_ms,
            request_queries=self._query,
            counts_fleet=False,  # nobody knows how the fleet is while no service runs
        )
        writer.recover(decode_stored)
        writer.run_once()  # the last run may have got further than the clock shows now: acts come after that step
        return writer

    @property
    def fleet(self) -> Fleet:
        """Every client's state."""
        return self._writer.fleet

    @property
    def fleets(self) -> Sequence[Fleet]:
        """See `Subject`."""
        return [self.fleet]

    def fleet_of(self, client: str) -> Fleet:
        """See `Subject`."""
        return self.fleet

    def healths(self) -> list[SourceHealth]:
        """Every configured source, as the last service left it."""
        known = self._reader.sources()
        return [_left(source, known.get(source.name, SourceRow())) for source in self.config.sources]

    def now_ms(self) -> int:
        """See `Backend`."""
        return self._clock.now_ms()

    def asked_ms(self) -> int:
        """See `Backend`: nothing waits."""
        return self._clock.now_ms()

    def pauses(self) -> Mapping[str, TargetPause]:
        """None: without a service nothing is sent."""
        return {}

    def read(self, question: Callable[[Reader], T]) -> T:
        """See `Backend`."""
        return question(self._reader)

    def inspect(self, work: Callable[[], T]) -> T:
        """See `Backend`."""
        self._check_rules()
        return work()

    def write(self, work: Callable[[], T]) -> T:
        """See `Backend`. The states are not loaded for it."""
        if self._queries is not None:
            return self._submit(work)
        with self.store.transaction():
            return work()

    def change(self, work: Callable[[], T]) -> T:
        """See `Backend`. StoreError also when the rules do not load."""
        self._check_rules()
        return self._submit(work)

    def offer(self, batch: Batch) -> None:
        """See `Backend`. StoreError also when the rules do not load."""
        self._check_rules()
        answers: list[Exception | None] = []
        batch.acknowledge = answers.append
        self._writer.offer(batch)
        while not answers:
            self._writer.run_once()
        if answers[0] is not None:
            raise answers[0]

    by = "a command"

    def access(self, work: Callable[[AccessTables], T]) -> T:
        """See `Backend`. Not here: `offline_access` does without the fleet."""
        raise NotImplementedError

    def wake_dispatcher(self) -> None:
        """See `Backend`: without a service there is no dispatcher; the next service sends what is due."""

    def begin_sweep(self, *, dry_run: bool) -> int:
        """See `Backend`. The writer and the queries are at work until `stop`."""
        self._check_rules()
        if self._queries is None:
            submit = self._writer.submit
            queries = assemble(self.config, self.store.sweeps, self.fleet, self.inventory, self._clock, submit)
            if queries is None:
                raise NotConfigured(NO_PROVIDER)
            self._queries = queries
            self._writer.start()
            queries.start()
        return self._queries.begin_sweep(dry_run=dry_run)

    def stop(self) -> None:
        """End what `begin_sweep` started."""
        if self._queries is not None:
            self._queries.stop()
            self._writer.stop()

    def _query(self, requests: list[QueryRequest]) -> None:
        """In the writer's turn: the fleet wants these clients queried. Only a sweep does that here."""
        if self._queries is not None:
            self._queries.enqueue(requests)

    def _check_rules(self) -> None:
        """StoreError when the rules do not load: the alerts and deliveries that follow from an act would be lost."""
        if not self.rules and self.rules_problem is not None:
            raise StoreError(
                f"the rules do not load, so the resulting alerts and deliveries would be lost; fix the rules first:\n{self.rules_problem}"
            )

    def _submit(self, work: Callable[[], T]) -> T:
        done = self._writer.submit(work)
        while self._queries is None and not done.done():  # no thread is at work yet
            self._writer.run_once()
        return done.result()


def query_directly(config: Config, clients: Sequence[str], note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Query the status provider without a service, in the order of `clients`; the status in the store where it gives no answer.

    `note` gets the reason for each client without an answer. NotConfigured without a provider.
    """
    if config.status is None:
        raise NotConfigured(NO_PROVIDER)
    clock = SystemClock()
    with scheduler_without_store(config, config.status, clock) as scheduler:
        waiting = [scheduler.query(client) for client in clients]
        for client, done in zip(clients, waiting, strict=True):
            found = _awaited(done, scheduler)
            answer, _, problem = found.result if found is not None else (None, "", scheduler.trouble)
            now_ms = clock.now_ms()
            if answer is not None and answer.connections is not None:
                yield serializers.answer_object(answer, now_ms)
            else:
                if problem:
                    note(f"{client}: {problem}")
                yield serializers.belief_object(client, _stored_state(config, client), now_ms)


def _awaited(done: Future[AppliedResult], scheduler: QueryScheduler) -> AppliedResult | None:
    """The result of a query; None when the service has throttled every call for `OPERATOR_S`, which may go on for long."""
    while True:
        with suppress(TimeoutError):
            return done.result(POLL_S)
        if scheduler.throttled_ms() >= OPERATOR_S * 1000:
            return None


def _stored_state(config: Config, client: str) -> ClientState | None:
    """What the store has about a client; None when it has nothing, or there is no store."""
    state: ClientState | None = None
    name = CellGroups(config.cells).of(client) if len(config.cells) > 1 else config.cell.name
    if name is not None:
        with suppress(StoreError), opened(config.of_cell(name)) as store:
            state = store.fleet.published(client)
    return state


def _call(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _left(source: SourceConfig, row: SourceRow) -> SourceHealth:
    return SourceHealth(
        name=source.name,
        type=source.type,
        connected=False,
        detail="no service is running",
        caught_up_to_ms=row.caught_up_to_ms,
        last_event_at_ms=row.last_event_at_ms,
    )
