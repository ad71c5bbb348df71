"""The writer on PostgreSQL while everything around it fails: what is decided is what one undisturbed process decides.

Each seed is a history: batches of events from a source that can be read again, each offered until its position is committed. Before each try
something may happen: a COMMIT or its answer is lost, connections end, another replica steals the cell, the process dies or is
restarted. Time passes only between batches, so the oracle, a writer on the embedded store to which nothing happens, sees the same instants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from engine.core.events import CONNECT, TCPCLEAN, LifecycleEvent
from engine.errors import StoreError
from engine.runtime import writer as writer_module
from engine.stores.base import Store
from engine.stores.postgres.database import Database
from engine.stores.postgres.store import PostgresStore
from engine.testing import FakeClock, WriterBench, event, rule, temporary_folder
from tests.acceptance.service import eventually
from tests.postgres.proxy import AtCommit, Network
from tests.postgres.server import shared_server

BATCHES = 40
CLIENTS = [f"GID_A@@@{number}" for number in range(8)]
RULES = (rule("dark", "offline", recovery=True), rule("seen", "first_seen"), rule("shaky", "flapping", recovery=True))

Moment = tuple[int, list[LifecycleEvent]]


def history(random: Random) -> list[Moment]:
    """How long nothing happens, and what comes then; at the end a quiet time in which everything settles."""
    online: dict[str, str] = {}
    at_ms = FakeClock().now_ms()
    moments: list[Moment] = []
    for number in range(BATCHES):
        pause_ms = random.choice([10, 1_000, 20_000, 45_000])
        at_ms += pause_ms
        events = []
        for client in random.sample(CLIENTS, random.randint(1, 4)):
            if channel := online.pop(client, ""):
                events.append(event(client, TCPCLEAN, channel, at_ms - 1))
            else:
                online[client] = f"channel-{number}"
                events.append(event(client, CONNECT, online[client], at_ms - 1))
        moments.append((pause_ms, events))
    return [*moments, (200_000, [event("GID_A@@@last", CONNECT, "last", at_ms + 199_999)])]


def outcome(store: Store, bench: WriterBench) -> dict[str, Any]:
    """Everything that was decided."""
    rows = list(store.journal.after(0))
    with store.reading() as reader:
        deliveries = [
            (one.key, one.rule, one.client, one.alert, one.phase, one.state, one.decided_at_ms, one.request)
            for one in reader.deliveries(limit=10_000)
        ]
    return {
        "events": [raw for row in rows for raw in row.events],
        # Those of one instant happen in any order, also after a restart of one process.
        "facts": sorted((fact.at_ms, fact.client, fact.kind) for row in rows for fact in row.facts),
        "deliveries": sorted(deliveries, key=lambda one: one[0]),
        "statuses": bench.statuses(),
        "open": [(alert.id, alert.state, alert.started_at_ms) for alert in store.alerts.open()],
    }


def undisturbed(moments: Sequence[Moment]) -> dict[str, Any]:
    """What the oracle decides."""
    with temporary_folder() as folder, closing(WriterBench(folder, *RULES)) as bench:
        for position, (pause_ms, events) in enumerate(moments):
            bench.clock.advance(pause_ms)
            bench.offer(*events, position=str(position))
            bench.turn(2)
        return outcome(bench.store, bench)


def stolen(store: PostgresStore) -> PostgresStore:
    """The owner of the cell, whoever has it; a session that died inside a transaction keeps it for up to a lease."""
    eventually(lambda: store.ownership.take(force=True))
    return store


class Disturbed:
    """Replicas of one cell, of which one works, on a network that breaks."""

    def __init__(self, random: Random, dsn: str, network: Network) -> None:
        self.random, self.network, self.clock = random, network, FakeClock()
        self._far = psycopg.conninfo.make_conninfo(dsn, port=network.port)
        self._watch = PostgresStore.open(Database(dsn=dsn))
        self._thief = PostgresStore.open(Database(dsn=dsn, replica="thief"))
        self.happened: list[str] = []
        self.bench = self._new()

    def _new(self) -> WriterBench:
        """A replica that takes the cell, whoever has it, and knows nothing but what the store has."""
        self.network.at_commit, self.network.is_refusing = None, False
        return WriterBench(Path(), *RULES, clock=self.clock, open_store=self._open)

    def _open(self, _: Path) -> PostgresStore:
        store = PostgresStore.open(Database(dsn=self._far, replica="worker", lease_s=1.0))
        return stolen(store)

    def position(self) -> str | None:
        """How far the source is committed."""
        with self._watch.reading() as reader:
            found = reader.sources().get("log")
        return None if found is None else found.position

    def live_through(self, moments: Sequence[Moment]) -> dict[str, Any]:
        """Offer each batch until it is committed, whatever happens."""
        for position, (pause_ms, events) in enumerate(moments):
            self.clock.advance(pause_ms)
            holds: WriterBench | None = None
            while self.position() != str(position):
                if self.bench.given_up:
                    self._leave()
                if (
                    holds is not self.bench
                ):  # a replica that refuses a batch and stays the owner tries it again by itself
                    holds = self.bench
                    self.bench.offer(*events, position=str(position))
                self._disturb()
                self.bench.turn()
            self.network.at_commit = None
        self._leave()
        return outcome(self.bench.store, self.bench)

    def _disturb(self) -> None:
        what = self.random.choice(["", "", "", "", "lose", "lose answer", "go dark", "cut", "steal", "kill", "restart"])
        self.happened.append(what)
        self.network.is_refusing, self.network.then = False, lambda: None
        if what == "lose":
            self.network.at_commit = AtCommit.LOSE
        elif what == "lose answer":
            self.network.at_commit = AtCommit.LOSE_ANSWER
        elif what == "go dark":  # nobody can be asked what became of it, until the next try
            self.network.at_commit = self.random.choice([AtCommit.LOSE_ANSWER, AtCommit.LOSE])
            self.network.then = lambda: setattr(self.network, "is_refusing", True)
        elif what == "cut":
            self.network.cut()
        elif what == "steal":
            stolen(self._thief)
            with self._thief.transaction():
                self._thief.write_meta("stolen", str(len(self.happened)))
        elif what == "kill":
            self.network.cut()  # nothing is given back
            self._leave()
        elif what == "restart":
            self.bench.store.close()
            self._leave()

    def _leave(self) -> None:
        """The replica ends, and a new one begins."""
        with suppress(StoreError):
            self.bench.store.close()
        self.bench = self._new()

    def close(self) -> None:
        for store in (self.bench.store, self._thief, self._watch):
            with suppress(StoreError):
                store.close()


@contextmanager
def disturbed(random: Random, dsn: str) -> Iterator[Disturbed]:
    with closing(Network(shared_server().port)) as network, closing(Disturbed(random, dsn, network)) as made:
        yield made


def lives_like_the_oracle(seed: int, dsn: str) -> None:
    random = Random(seed)
    moments = history(random)
    expected = undisturbed(moments)
    assert expected["deliveries"] and expected["facts"]
    with disturbed(random, dsn) as world:
        found = world.live_through(moments)
        for part, value in expected.items():
            assert found[part] == value, (seed, part, world.happened)
        assert len(set(world.happened)) > 3


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed commit is tried again at once."""
    monkeypatch.setattr(writer_module, "RETRY_AFTER_S", 0.0)


@pytest.mark.parametrize("seed", [1])
def test_a_disturbed_history_is_decided_as_an_undisturbed_one(seed: int, dsn: str) -> None:
    lives_like_the_oracle(seed, dsn)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 108))
def test_many_disturbed_histories_are_decided_as_undisturbed_ones(seed: int, dsn: str) -> None:
    lives_like_the_oracle(seed, dsn)
