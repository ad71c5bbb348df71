"""Events that are posted to any replica, in a real PostgreSQL: each has its effect once, in a transaction of the owner."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from engine.clock import SystemClock
from engine.core.events import Rejection
from engine.errors import Overloaded, StoreError
from engine.runtime.event_poster import EventPoster
from engine.runtime.inbox_source import InboxSource
from engine.sources.base import Batch
from engine.sources.wire import decode_lines
from engine.stores.posted import PostedEvents
from engine.stores.postgres.bell import PostgresBell
from engine.stores.postgres.database import Database
from engine.stores.postgres.inbox import ANSWER, EVENTS, PostgresInbox
from engine.stores.postgres.store import PostgresStore
from engine.testing import event, raw_event
from tests.acceptance.service import eventually

PATIENCE_S = 120.0


class Boom(Exception):
    """A transaction fails."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def owner(dsn: str, opened: ExitStack) -> PostgresStore:
    store = PostgresStore.open(Database(dsn=dsn, replica="owner", lease_s=60.0)).own()
    opened.callback(store.close)
    return store


def inbox_of(store: PostgresStore, opened: ExitStack, replica: str = "other") -> PostgresInbox:
    inbox = PostgresInbox(Database(dsn=store.database.dsn, replica=replica), store.cell)
    opened.callback(inbox.close)
    return inbox


def source_of(store: PostgresStore, max_future_ms: int = 60_000) -> InboxSource:
    database = Database(dsn=store.database.dsn, replica="owner")
    return InboxSource(
        name="push",
        inbox=lambda: PostgresInbox(database, store.cell),
        delete=store.posted.delete,
        now_ms=SystemClock().now_ms,
        max_future_ms=max_future_ms,
        grace_ms=0,
    )


class Engine:
    """A writer that only counts: each batch is a transaction of its own, some of which fail."""

    def __init__(self, store: PostgresStore, fails: Callable[[int], bool] = lambda turn: False) -> None:
        self.applied: Counter[bytes] = Counter()
        self.rejected: list[Rejection] = []
        self.rejected_more = 0
        self.turns = 0
        self._store, self._fails = store, fails

    async def offer(self, batch: Batch) -> None:
        self.turns += 1
        failure: Exception | None = None
        try:
            with self._store.transaction():
                assert batch.along is not None
                batch.along()
                if self._fails(self.turns):
                    raise Boom
        except (Boom, StoreError) as error:
            failure = error
        else:
            self.applied.update(batch.raw)
            self.rejected += batch.rejected
            self.rejected_more += batch.rejected_more
        assert batch.acknowledge is not None
        batch.acknowledge(failure)


def serve(source: InboxSource, engine: Engine, until: Callable[[], bool]) -> None:
    """Run the source until something holds."""

    async def served() -> None:
        task = asyncio.create_task(source.run(engine.offer, None))
        async with asyncio.timeout(PATIENCE_S):
            while not until():
                assert not task.done() or task.result()
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(served())


def line(client: str, kind: str, at_ms: int, channel: str) -> bytes:
    return raw_event(event(client, kind, channel, at_ms))


def rows_left(store: PostgresStore) -> int:
    with psycopg.connect(store.database.dsn) as connection:
        found = connection.execute("SELECT count(*) FROM rollcall.inbox").fetchone()
    assert found is not None
    return int(found[0])


def lines(first: int, count: int) -> list[bytes]:
    now_ms = SystemClock().now_ms()
    return [line(f"G@@@{number}", "connect", now_ms, f"c{number}") for number in range(first, first + count)]


def test_what_several_replicas_post_while_transactions_fail_is_applied_once(
    owner: PostgresStore, opened: ExitStack
) -> None:
    wanted: Counter[bytes] = Counter()
    posted: list[list[bytes]] = [lines(1_000 * replica + 10 * turn, 10) for replica in range(3) for turn in range(40)]
    for some in posted:
        wanted.update(some)
    inboxes = [inbox_of(owner, opened, f"r{number}") for number in range(3)]

    def post(number: int) -> None:
        for some in posted[40 * number : 40 * (number + 1)]:
            inboxes[number].post([PostedEvents("push", some[:5]), PostedEvents("push", some[5:])])

    engine = Engine(owner, fails=lambda turn: turn % 3 == 0)
    posters = [threading.Thread(target=post, args=(number,)) for number in range(3)]
    for poster in posters:
        poster.start()
    serve(source_of(owner), engine, lambda: sum(engine.applied.values()) >= sum(wanted.values()))
    for poster in posters:
        poster.join()
    assert engine.applied == wanted
    assert rows_left(owner) == 0


def test_a_row_that_was_applied_cannot_be_applied_again(owner: PostgresStore, opened: ExitStack) -> None:
    inbox = inbox_of(owner, opened)
    inbox.post([PostedEvents("push", lines(0, 1))])
    (row,) = inbox.waiting(10, [])
    with owner.transaction():
        owner.posted.delete([row])
    with pytest.raises(StoreError, match="applied already"), owner.transaction():
        owner.posted.delete([row])


def test_what_was_malformed_and_what_lies_ahead_of_the_owner_s_clock_is_rejected_there(
    owner: PostgresStore, opened: ExitStack
) -> None:
    now_ms = SystemClock().now_ms()
    good, ahead = line("G@@@a", "connect", now_ms, "c1"), line("G@@@b", "connect", now_ms + 3_600_000, "c2")
    inbox_of(owner, opened).post([PostedEvents("push", [good, ahead], [("no JSON", b"\xff{")], 3)])
    engine = Engine(owner)
    serve(source_of(owner), engine, lambda: bool(engine.turns))
    assert list(engine.applied) == [good]
    assert {one.raw for one in engine.rejected} == {ahead, b"\xff{"}
    assert engine.rejected_more == 3


def test_it_is_caught_up_only_when_everything_is_committed(owner: PostgresStore, opened: ExitStack) -> None:
    inbox_of(owner, opened).post([PostedEvents("push", lines(0, 3))])
    source = source_of(owner)
    before_ms = SystemClock().now_ms()
    seen: list[int | None] = []
    engine = Engine(owner, fails=lambda turn: turn <= 2)

    async def offer(batch: Batch) -> None:
        seen.append(source.caught_up_to(SystemClock().now_ms()))
        await engine.offer(batch)

    caught_up: Callable[[], bool] = lambda: (source.caught_up_to(SystemClock().now_ms()) or 0) >= before_ms  # noqa: E731

    async def served() -> None:
        task = asyncio.create_task(source.run(offer, None))
        async with asyncio.timeout(PATIENCE_S):
            while not (engine.applied and caught_up()):
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(served())
    assert len(seen) == 3 and seen[0] is None
    assert source.caught_up_to(SystemClock().now_ms()) is None  # it does not run


def test_a_poster_answers_when_it_is_committed_and_refuses_when_it_cannot_be(
    owner: PostgresStore, opened: ExitStack
) -> None:
    answers: list[Exception | None] = []
    answered = threading.Semaphore(0)

    def acknowledge(error: Exception | None) -> None:
        answers.append(error)
        answered.release()

    def batch(first: int) -> Batch:
        raw = lines(first, 2)
        decoded = decode_lines(raw, SystemClock().now_ms(), 60_000)
        return Batch(source="push", received_at_ms=0, events=decoded.events, raw=raw, acknowledge=acknowledge)

    poster = EventPoster(inbox_of(owner, opened))
    poster.start()
    for number in range(20):
        asyncio.run(poster.offer(batch(10 * number)))
    for _ in range(20):
        assert answered.acquire(timeout=PATIENCE_S)
    assert answers == [None] * 20 and rows_left(owner) == 20
    with psycopg.connect(owner.database.dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE rollcall.inbox RENAME TO elsewhere")
        asyncio.run(poster.offer(batch(900)))
        assert answered.acquire(timeout=PATIENCE_S)
        assert isinstance(answers[-1], StoreError) and poster.trouble is not None
        connection.execute("ALTER TABLE rollcall.elsewhere RENAME TO inbox")
    asyncio.run(poster.offer(batch(910)))
    poster.close()
    assert answers[-1] is None and poster.trouble is None
    assert rows_left(owner) == 21


def test_senders_are_asked_to_come_back_while_too_much_waits(owner: PostgresStore, opened: ExitStack) -> None:
    database = Database(dsn=owner.database.dsn, replica="other")
    inbox = PostgresInbox(database, owner.cell, max_rows=3)
    opened.callback(inbox.close)
    inbox.post([PostedEvents("push", [one]) for one in lines(0, 10)])

    def post() -> Exception | None:
        try:
            inbox.post([PostedEvents("push", lines(50, 1))])
        except Overloaded as error:
            return error
        return None

    assert "the inbox of the cell is full" in str(eventually(post))
    engine = Engine(owner)
    serve(source_of(owner), engine, lambda: len(engine.applied) >= 10)
    assert eventually(lambda: post() is None)


def test_the_bell_rings_for_what_is_posted_and_after_a_lost_connection(owner: PostgresStore, opened: ExitStack) -> None:
    rung: list[str] = []
    bell = PostgresBell(Database(dsn=owner.database.dsn, replica="listener"), [owner.cell], rung.append)
    opened.callback(bell.close)
    bell.start()
    eventually(lambda: rung.count(""))
    inbox = inbox_of(owner, opened)
    inbox.post([PostedEvents("push", lines(0, 1))])
    eventually(lambda: EVENTS in rung)
    with psycopg.connect(owner.database.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rollcall listener'"
        )
    eventually(lambda: rung.count("") >= 2)
    number = inbox.ask("Forget", "{}")
    inbox.answer(number, '{"ok": 1}')
    eventually(lambda: ANSWER in rung)


def test_an_act_is_taken_once_and_its_answer_comes_back(owner: PostgresStore, opened: ExitStack) -> None:
    inbox = inbox_of(owner, opened)
    number = inbox.ask("Acknowledge", '{"id_": "a1"}')
    (act,) = inbox.acts(10)
    assert (act.id, act.name, act.arguments) == (number, "Acknowledge", '{"id_": "a1"}') and act.age_s >= 0
    with pytest.raises(Boom), owner.transaction():
        assert owner.posted.take(number)
        raise Boom
    assert [one.id for one in inbox.acts(10)] == [number]
    with owner.transaction():
        assert owner.posted.take(number)
    assert inbox.acts(10) == []
    with owner.transaction():
        assert not owner.posted.take(number)
    (standing,) = inbox.act(number)
    assert standing.answer is None and standing.taken_s is not None
    inbox.answer(number, "{}")
    (standing,) = inbox.act(number)
    assert standing.answer == "{}"
    inbox.purge(0.0)
    assert inbox.act(number) == []
