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
from engine.core.alerting.explain import Gate
from engine.core.alerting.stages.silence import Silence
from engine.core.fleet import Fleet
from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.presence.query import QueryRequest
from engine.core.rules import Rule
from engine.delivery.outbox import render_row
from engine.errors import InvalidFiles, RollcallError, StoreError
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import command_routes, fleet_of, inventory_of, mail_route, renderer_of
from engine.runtime.history_codec import RETRIED_ROWS, Answering, act_on_delivery, decode_stored, quarantined_batch
from engine.runtime.status_queries import Asking, asker_alone, assemble
from engine.runtime.writer import Writer
from engine.sources.base import Batch, SourceHealth
from engine.stores.base import DeliveryRow, Reader
from engine.stores.sqlite import delivery_rows
from engine.stores.sqlite.reader import SqliteReader, reading
from engine.stores.sqlite.store import SqliteStore
from engine.web import serializers
from engine.web.answers import Answers

T = TypeVar("T")

NOBODY_TO_ASK = "there is nobody to ask: write `status` into the configuration"


@contextmanager
def opened(config: Config, *, write: bool = False) -> Iterator[Offline]:
    """The store beside no running service. StoreError when it cannot be opened, StoreInUse when somebody writes to it."""
    store = SqliteStore.open(config.data) if write else SqliteStore.open_read_only(config.data)
    try:
        yield Offline(config, store)
    finally:
        store.close()


class Offline(Answering):
    """A store and what the configuration makes of it. States are loaded when somebody asks for them."""

    def __init__(self, config: Config, store: SqliteStore) -> None:
        self._config = config
        self._store = store
        self._clock = SystemClock()
        self.inventory = inventory_of(config)
        self.rules_problem: str | None = None
        self.reader: Reader = SqliteReader(store)

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
            lambda planned: render_row(renderer, planned),
            lambda now_ms: 0,
            lambda calls, items: _call(calls),
            self._config.history.keep_ms,
            asked=asked,
        )
        writer.recover(decode_stored)
        for gap in reversed(self._store.gaps()):
            writer.fleet.note_gap(gap.to_ms, gap.noted_at_ms)
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
        known = self._store.sources()
        return [_left(source, *known.get(source.name, (None, None, None))[1:]) for source in self._config.sources]

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return self._clock.now_ms()

    @contextmanager
    def reconciling(self) -> Iterator[Asking]:
        """Those who ask, at work on this store, which must have been opened for writing. RollcallError without a provider."""
        self._needs_rules()
        made: list[Asking] = []
        writer = self._make_writer(lambda asks: made[0].want(asks))
        asking = assemble(self._config, self._store, writer.fleet, self.inventory, self._clock, writer.submit)
        if asking is None:
            raise RollcallError(NOBODY_TO_ASK)
        made.append(asking)
        writer.start()
        asking.start()
        try:
            yield asking
        finally:
            asking.stop()
            writer.stop()

    def reconciliation(self, number: int) -> dict[str, Any]:
        """One sweep as it was committed last, read beside the writer."""
        with reading(self._config.data) as reader:
            return self.answers.reconciliation(reader, number)

    def why_not(self, rule: str, client: str) -> list[Gate]:
        """Every gate between a client and a firing of the rule, as things were left; none: there is no such rule."""
        self._needs_rules()
        return self.fleet.why_not(rule, client, self.now_ms())

    # Acts: the store must have been opened for writing

    def act_on_delivery(self, number: int, what: str) -> tuple[DeliveryRow | None, bool]:
        """Carry out `retry` or `discard`: (the delivery as it is then, was it changed); (None, False): there is none."""
        with self._store.transaction() as connection:
            return act_on_delivery(connection, number, what, self.now_ms())

    def act_on_held(self, rule: str, what: str) -> int:
        """`release` or `discard` all held deliveries of a rule; how many."""
        changed, some = 0, 1
        while some:
            with self._store.transaction() as connection:
                some = delivery_rows.act_on_held(connection, what, rule, self.now_ms())
            changed += some
        return changed

    def silence(self, silence: Silence) -> None:
        """Add a silence."""
        self._needs_rules()
        self._do(lambda connection: self.fleet.silence(silence, self.now_ms()))

    def expire_silence(self, id_: str) -> bool:
        """End a silence now; was there one that was not over?"""
        self._needs_rules()
        return self._do(lambda connection: self.fleet.expire_silence(id_, self.now_ms()))

    def acknowledge(self, alert_id: str, by: str) -> int:
        """Somebody knows of an alert, or of all in a group; how many were firing and not acknowledged."""
        self._needs_rules()
        return self._do(lambda connection: self.fleet.acknowledge(self.now_ms(), alert_id=alert_id, by=by))

    def forget(self, client: str) -> bool:
        """Keep a client no longer, its alerts are closed; False: it was not known."""
        self._needs_rules()
        fleet = self.fleet
        if fleet.published(client) is None:
            return False
        self._do(lambda connection: fleet.forget(client, self.now_ms()))
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
                self._do(lambda connection, ids=ids: self._store.delete_quarantined(ids))  # type: ignore[misc]
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

    def _do(self, work: Callable[[Any], T]) -> T:
        done = self._writer.submit(work)
        while not done.done():
            self._writer.run_once()
        found: T = done.result()
        return found


def ask_directly(config: Config, clients: Sequence[str], tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Whether clients are connected now, without a service: in the order given; what a store believes where nobody answers.

    `tell` is told why nobody does.
    """
    if config.status is None:
        raise RollcallError(NOBODY_TO_ASK)
    clock = SystemClock()
    with asker_alone(config, config.status, clock) as asker:
        told = [asker.ask(client) for client in clients]
        for client, found in zip(clients, told, strict=True):
            asked = found.result().asked
            now_ms = clock.now_ms()
            if asked.answer.connections is not None:
                yield serializers.answer_object(asked.answer, now_ms)
            else:
                if asked.problem:
                    tell(f"{client}: {asked.problem}")
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


def _left(source: SourceConfig, upto_ms: int | None, last_ms: int | None) -> SourceHealth:
    return SourceHealth(
        name=source.name,
        type=source.type,
        connected=False,
        detail="no service runs",
        caught_up_to_ms=upto_ms,
        last_event_at_ms=last_ms,
    )
