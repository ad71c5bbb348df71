"""For tests of this product and of what is built on it: a clock that tests set, builders of values, and a writer without a thread.

Nothing of the product imports this module. Read `WriterBench` first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from engine.clock import EngineClock
from engine.config.patterns import compile_patterns
from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.delivery import OutboxItem
from engine.core.events import LifecycleEvent, Rejection
from engine.core.fleet import Fleet
from engine.core.matching import Matcher
from engine.core.presence.client_state import STATUS_NAMES
from engine.core.presence.debounce import Policy
from engine.core.rules import Action, Match, Rule
from engine.delivery.rendering import RenderRow
from engine.runtime.checkpoint import Checkpoint
from engine.runtime.client_limit import ClientLimit
from engine.runtime.history_codec import decode_stored
from engine.runtime.writer import Writer
from engine.sources.base import Batch, Gap
from engine.stores.base import NewDelivery, Store
from engine.stores.sqlite.store import SqliteStore

T = TypeVar("T")

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: when the clocks of tests begin."""

MEMORY = Path("/dev/shm")
"""A file system in memory, where the machine has one: a commit costs no disk there."""

POLICY = Policy(
    clock_skew_ms=1_000, offline_ms=30_000, online_ms=0, flapping_start=4, flapping_stop=1, flapping_window_ms=60_000
)
"""Debounce of tests that do not say otherwise: a hold of 30 s, flapping from 4 changes in a minute until 1 is left."""

LOG = Action(kind="log", spec={"message": "{{ client.id }}"})


class FakeClock(EngineClock):
    """A clock that stands still until a test moves it. Epoch milliseconds."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.at_ms = now_ms  # what the wall clock shows; a test that changes it lets time pass
        self.set_by_ms = 0  # of that, what did not pass: somebody set the wall clock
        self.asleep_ms = 0  # of what passed, how long the machine was asleep
        super().__init__(
            lambda: self.at_ms,
            lambda: self.at_ms - self.set_by_ms,
            lambda: self.at_ms - self.set_by_ms - self.asleep_ms,
        )

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self.at_ms += ms

    def set_wall(self, ms: int) -> None:
        """Set the wall clock by so much, ahead or back; no time passes."""
        self.at_ms += ms
        self.set_by_ms += ms


# Builders


def event(client: str, kind: str = "connect", channel: str = "A", at_ms: int = START_MS) -> LifecycleEvent:
    """One lifecycle event."""
    return LifecycleEvent(client, kind, at_ms, channel, "10.0.0.1:1")


def raw_event(one: LifecycleEvent) -> bytes:
    """An event as a source reads it and the journal keeps it."""
    fields = {
        "clientId": one.client,
        "eventType": one.type,
        "time": one.occurred_at_ms,
        "channelId": one.channel,
        "clientIp": one.ip,
    }
    return json.dumps(fields).encode()


def batch(
    *events: LifecycleEvent,
    source: str = "log",
    received_at_ms: int = START_MS,
    position: str | None = None,
    rejected: Sequence[Rejection] = (),
    gaps: Sequence[Gap] = (),
    acknowledge: Callable[[Exception | None], None] | None = None,
) -> Batch:
    """A batch of accepted events."""
    return Batch(
        source=source,
        received_at_ms=received_at_ms,
        events=list(events),
        raw=[raw_event(one) for one in events],
        rejected=rejected,
        position=position,
        caught_up_to_ms=received_at_ms,
        gaps=gaps,
        acknowledge=acknowledge,
    )


def rule(name: str, *triggers: str, recovery: bool = False, **fields: Any) -> Rule:
    """A rule that logs; with `recovery` it logs the end too. `fields` are those of `Rule`."""
    fields.setdefault("actions", (LOG,))
    fields.setdefault("on_recovery", (LOG,) if recovery else ())
    fields.setdefault("match", Match())
    return Rule(name=name, triggers=triggers, **fields)


def delivery(key: str, **changes: Any) -> NewDelivery:
    """A due firing of a webhook, about a client and in a lane of its own."""
    target = changes.get("target", "http://pager.test:80")
    row = NewDelivery(
        key=key,
        rule="dark",
        client=f"G@@@{key}",
        group_key=None,
        clients=None,
        alert=f"alert-{key}",
        action="webhook",
        target=target,
        lane=f"lane-{key}",
        phase="firing",
        state="due",
        decided_at_ms=0,
        request={"url": target, "json": {}},
    )
    return row._replace(**changes)


def row_of(planned: PlannedDelivery) -> NewDelivery:
    """A planned delivery, rendered without templates."""
    return delivery(
        planned.key,
        rule=planned.rule.name,
        client=planned.client,
        alert=planned.alert,
        action=planned.action.kind,
        target=planned.action.kind,
        lane=planned.lane,
        phase=planned.phase,
        state="held" if planned.held else "due",
        decided_at_ms=planned.at_ms,
        request={"message": planned.client},
    )


def fleet(*rules: Rule, policy: Policy = POLICY, attributes: Mapping[str, Mapping[str, str]] | None = None) -> Fleet:
    """An empty fleet that works by these rules; `attributes` stand in for the inventory."""
    known = attributes or {}

    def attributes_of(client: str) -> Mapping[str, str]:
        return known.get(client, {})

    return Fleet(policy, Matcher(rules, attributes_of, compile_patterns), attributes_of, no_names)


def no_names(rule: Rule) -> frozenset[str]:
    """The costly names that a rule's templates read: none."""
    return frozenset()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the data of one test, in memory where the machine has a file system there."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


# A writer without a thread


class WriterBench:
    """A writer over a store in a folder, whose turns a test takes one by one.

    `told` collects what sources and waiting threads were told in the order in which it happened, `offered` the deliveries
    that the dispatcher got. `close` and a new bench over the same folder are a restart.
    """

    def __init__(
        self,
        folder: Path,
        *rules: Rule,
        clock: FakeClock | None = None,
        render: RenderRow = row_of,
        open_store: Callable[[Path], Store] = SqliteStore.open,
        checkpoint_events: int = 1_000_000,
        checkpoint_rows: int = 1_000,
        tombstone_ms: int = 0,
        client_limit: ClientLimit | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.store = open_store(folder)
        self.fleet = fleet(*rules)
        self.fleet.tombstone_ms = tombstone_ms
        self.told: list[str] = []
        self.offered: list[OutboxItem] = []
        self.given_up: list[Exception] = []
        self.writer = Writer(
            self.store,
            self.fleet,
            self.clock,
            render=render,
            watermark_of=lambda now_ms: now_ms,
            announce=self._announced,
            keep_ms=7 * 86_400_000,
            checkpoint=Checkpoint(
                self.store, self.clock.now_ms(), events=checkpoint_events, rows=checkpoint_rows, reached=self._reached
            ),
            give_up=self.given_up.append,
            client_limit=client_limit,
        )
        self.places: list[str] = []
        self.applied_again = self.writer.recover(decode_stored)

    def _announced(self, calls: list[Callable[[], None]], items: list[OutboxItem]) -> None:
        for call in calls:
            call()
        self.offered += items

    def _reached(self, place: str) -> None:
        self.places.append(place)

    def offer(self, *events: LifecycleEvent, name: str = "batch", **fields: Any) -> None:
        """Hand over a batch that is received now; what becomes of it is told under its name."""

        def acknowledge(error: Exception | None) -> None:
            self.told.append(f"{name} accepted" if error is None else f"{name} refused: {error}")

        fields.setdefault("received_at_ms", self.clock.now_ms())
        self.writer.offer(batch(*events, acknowledge=acknowledge, **fields))

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Hand over a piece of work for the next transaction."""
        return self.writer.submit(work)

    def turn(self, times: int = 1) -> None:
        """Let the writer take a turn."""
        for _ in range(times):
            self.writer.run_once()

    def statuses(self) -> dict[str, str]:
        """What is published: client -> status."""
        published = {client: self.fleet.published(client) for client in list(self.fleet.states)}
        return {client: STATUS_NAMES[state.settled] for client, state in published.items() if state is not None}

    def close(self) -> None:
        """Give the store back, as a process does that ends."""
        self.store.close()
