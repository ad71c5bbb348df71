"""A store opened without a service: what commands use when none runs. Read `Offline`.

Reading takes no lock and goes beside whoever works on the store. Writing takes the lock that a service takes, and writes
through the same writer, so an operator's act means the same with and without a service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, TypeVar

from engine.clock import SystemClock
from engine.config.loader import Config
from engine.config.sources import SourceConfig
from engine.core.alerting.silences import Silence
from engine.core.alerting.stages.base import StageReport
from engine.core.fleet import Fleet
from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.presence.query import QueryRequest
from engine.core.rules import Rule
from engine.delivery.rendering import render_row
from engine.errors import InvalidFiles, RollcallError, StoreError
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import command_routes, fleet_of, inventory_of, mail_route, renderer_of
from engine.runtime.history_codec import RETRIED_ROWS, Answering, decode_stored, quarantined_batch
from engine.runtime.status_queries import QueryService, assemble, scheduler_without_store
from engine.runtime.store_factory import open_store, open_store_to_read
from engine.runtime.writer import Writer
from engine.sources.base import Batch, SourceHealth
from engine.stores.base import DeliveryRow, Reader, SourceRow, Store
from engine.web import serializers
from engine.web.answers import Answers

T = TypeVar("T")

NO_PROVIDER = "no status provider configured: set `status` in the configuration"


@contextmanager
def opened(config: Config, *, write: bool = False) -> Iterator[Offline]:
    """The store beside no running service. StoreError when it cannot be opened, StoreInUse when somebody writes to it."""
    store = open_store(config.data) if write else open_store_to_read(config.data)
    try:
        with store.reading() as reader:
            yield Offline(config, store, reader)
    finally:
        store.close()


class Offline(Answering):
    """A store and what the configuration makes of it. States are loaded when somebody asks for them."""

    def __init__(self, config: Config, store: Store, reader: Reader) -> None:
        self._config = config
        self._store = store
        self._clock = SystemClock()
        self.inventory = inventory_of(config)
        self.rules_problem: str | None = None
        self.reader = reader

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The configured rules; none while they do not load, and `rules_problem` says why."""
        try:
            return load_rules(self._config.rules, inventory=self.inventory, config=self._config).rules
        except InvalidFiles as error:
            self.rules_problem = str(error)
            return ()

    @cached_property
    def _writer(self) -> Writer:
        """A writer whose states are loaded."""
        return self._make_writer(lambda asks: None)

    def _make_writer(self, asked: Callable[[list[QueryRequest]], None]) -> Writer:
        """Nothing rests on silence here: no source is read. `asked` is told whom the fleet wants asked about."""
        renderer = renderer_of(mail_route(self._config), command_routes(self._config))
        writer = Writer(
            self._store,
            fleet_of(self._config, self.rules, self.inventory),
            self._clock,
            render=lambda planned: render_row(renderer, planned),
            watermark_of=lambda now_ms: 0,
            announce=lambda calls, items: _call(calls),
            keep_ms=self._config.history.keep_ms,
            asked=asked,
        )
        writer.recover(decode_stored)
        return writer

    @property
    def fleet(self) -> Fleet:
        """Every client's state."""
        return self._writer.fleet

    @cached_property
    def answers(self) -> Answers:
        """What people may ask."""
        return Answers(self)

    def healths(self) -> list[SourceHealth]:
        """Every configured source, as it was left."""
        known = self.reader.sources()
        return [_left(source, known.get(source.name, SourceRow())) for source in self._config.sources]

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return self._clock.now_ms()

    @contextmanager
    def reconciling(self) -> Iterator[QueryService]:
        """Status queries over this store, which must have been opened for writing. Raises RollcallError without a provider."""
        self._needs_rules()
        made: list[QueryService] = []
        writer = self._make_writer(lambda requests: made[0].enqueue(requests))
        queries = assemble(self._config, self._store.sweeps, writer.fleet, self.inventory, self._clock, writer.submit)
        if queries is None:
            raise RollcallError(NO_PROVIDER)
        made.append(queries)
        writer.start()
        queries.start()
        try:
            yield queries
        finally:
            queries.stop()
            writer.stop()

    def reconciliation(self, number: int) -> dict[str, Any]:
        """One sweep as it was committed last, read beside the writer."""
        with self._store.reading() as reader:
            return self.answers.reconciliation(reader, number)

    def why_not(self, rule: str, client: str) -> list[StageReport]:
        """Every gate between a client and a firing of the rule, as things were left; none: there is no such rule."""
        self._needs_rules()
        return self.fleet.why_not(rule, client, self.now_ms())

    # Acts: the store must have been opened for writing

    def act_on_delivery(self, number: int, what: str) -> tuple[DeliveryRow | None, bool]:
        """Carry out `retry` or `discard`: (the delivery as it is then, was it changed); (None, False): there is none."""
        with self._store.transaction():
            return self._store.deliveries.act(number, what, self.now_ms())

    def act_on_held(self, rule: str, what: str) -> int:
        """`release` or `discard` all held deliveries of a rule; how many."""
        changed, some = 0, 1
        while some:
            with self._store.transaction():
                some = self._store.deliveries.act_on_held(rule, what, self.now_ms())
            changed += some
        return changed

    def silence(self, silence: Silence) -> None:
        """Add a silence."""
        self._needs_rules()
        self._do(lambda: self.fleet.silence(silence, self.now_ms()))

    def expire_silence(self, id_: str) -> bool:
        """End a silence now; was there one that was not over?"""
        self._needs_rules()
        return self._do(lambda: self.fleet.expire_silence(id_, self.now_ms()))

    def acknowledge(self, alert_id: str, by: str) -> int:
        """Somebody knows of an alert, or of all in a group; how many were firing and not acknowledged."""
        self._needs_rules()
        return self._do(lambda: self.fleet.acknowledge(self.now_ms(), alert_id=alert_id, by=by))

    def forget(self, client: str) -> bool:
        """Keep a client no longer, its alerts are closed; False: it was not known."""
        self._needs_rules()
        fleet = self.fleet
        if fleet.published(client) is None:
            return False
        self._do(lambda: fleet.forget(client, self.now_ms()))
        return True

    def retry_quarantine(self) -> tuple[int, int]:
        """Offer all quarantined events again: (accepted, still malformed). What is accepted leaves the quarantine."""
        self._needs_rules()
        accepted = left = 0
        cursor: int | None = None
        while rows := self.reader.quarantine(limit=RETRIED_ROWS, cursor=cursor):
            cursor = rows[-1].id
            batch, ids = quarantined_batch(rows, self.now_ms(), self._config.events.max_future_ms)
            left += len(rows) - len(ids)
            if ids:
                self._apply(batch)
                self._do(lambda ids=ids: self._store.quarantine.delete(ids))  # type: ignore[misc]
                accepted += len(ids)
        return accepted, left

    def _needs_rules(self) -> None:
        """What follows from an act must not be lost because a file is broken for the moment."""
        if not self.rules and self.rules_problem is not None:
            raise StoreError(f"the rules do not load, so what follows from this would be lost:\n{self.rules_problem}")

    def _apply(self, batch: Batch) -> None:
        answers: list[Exception | None] = []
        batch.acknowledge = answers.append
        self._writer.offer(batch)
        while not answers:
            self._writer.run_once()
        if answers[0] is not None:
            raise answers[0]

    def _do(self, work: Callable[[], T]) -> T:
        done = self._writer.submit(work)
        while not done.done():
            self._writer.run_once()
        return done.result()


def ask_directly(config: Config, clients: Sequence[str], tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Query clients without a service: status objects in the order given. The store's believed status where a query fails.

    `tell` gets a sentence for each query that failed. Raises RollcallError without a provider.
    """
    if config.status is None:
        raise RollcallError(NO_PROVIDER)
    clock = SystemClock()
    with scheduler_without_store(config, config.status, clock) as scheduler:
        waiting = [scheduler.query(client) for client in clients]
        for client, done in zip(clients, waiting, strict=True):
            answer, _, problem = done.result().result
            now_ms = clock.now_ms()
            if answer.connections is not None:
                yield serializers.answer_object(answer, now_ms)
            else:
                if problem:
                    tell(f"{client}: {problem}")
                yield _believed(config, client, now_ms)


def _believed(config: Config, client: str, now_ms: int) -> dict[str, Any]:
    state: ClientState | None = None
    with suppress(StoreError), opened(config) as store:
        state = store.fleet.published(client)
    if state is None:
        return serializers.status_object(client, NEW_CLIENT, now_ms) | {"age": None}
    return serializers.status_object(client, state, now_ms)


def _call(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _left(source: SourceConfig, row: SourceRow) -> SourceHealth:
    return SourceHealth(
        name=source.name,
        type=source.type,
        connected=False,
        detail="no service runs",
        caught_up_to_ms=row.caught_up_to_ms,
        last_event_at_ms=row.last_event_at_ms,
    )
