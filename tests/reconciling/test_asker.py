"""The one who asks, with real threads and the real budget, over providers that do as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.core.presence.query import AGREED, CONFIRM, VERIFY, QueryRequest
from engine.errors import RollcallError, StoreError
from engine.queries.queue import DRY_RUN, OPERATOR, SWEEP
from engine.queries.results import Asked, Seams, Verdict
from engine.queries.scheduler import PAUSE_FIRST_S, Asker
from engine.status.base import QueryFailed
from engine.status.budget import Budget
from tests.acceptance.service import PATIENCE_S, eventually

Answer = int | None | QueryFailed | threading.Event


class Told:
    """A provider that answers from a table, and keeps the calls: a client or several."""

    def __init__(self, batch_size: int = 1, **answers: Answer) -> None:
        self.batch_size = batch_size
        self.answers: dict[str, list[Answer]] = {name: [answer] for name, answer in answers.items()}
        self.cache: dict[str, int | None] = {}
        self.calls: list[tuple[str, ...]] = []
        self.closed = False

    def query(self, client: str) -> int | None:
        self.calls.append((client,))
        script = self.answers.get(client, [1])
        said = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(said, threading.Event):
            said.wait(PATIENCE_S)
            return 1
        if isinstance(said, QueryFailed):
            raise said
        return said

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        self.calls.append(tuple(clients))
        return {client: self.cache.get(client, 1) for client in clients if self.cache.get(client, 1) != -2}

    def close(self) -> None:
        self.closed = True


class Store:
    """A writer that does what it is given, at once or when it is let; each piece of work is one transaction."""

    def __init__(self) -> None:
        self.transactions: list[list[Asked]] = []
        self.refuses = 0
        self.gate = threading.Event()
        self.gate.set()

    def submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        done: Future[Any] = Future()

        def do() -> None:
            self.gate.wait(PATIENCE_S)
            if self.refuses:
                self.refuses -= 1
                work(None)
                done.set_exception(StoreError("the disk is full"))
                return
            done.set_result(work(None))

        threading.Thread(target=do, daemon=True).start()
        return done

    def judge(self, connection: object, answers: Sequence[Asked]) -> list[str]:
        self.transactions.append(list(answers))
        return [AGREED for _ in answers]


@contextmanager
def asker(
    provider: Told, store: Store | None = None, *, retries: int = 2, rate: int = 300, **seams: Any
) -> Iterator[Asker]:
    """One who asks, stopped when the block is left."""
    store = store if store is not None else Store()
    told = Seams(submit=store.submit, judge=store.judge, **seams)
    made = Asker(provider, Budget(rate), SystemClock(), told, rate=rate, retries=retries, retry_first_ms=5)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def said(done: Future[Verdict]) -> tuple[str | None, int | None, str | None]:
    """Verdict, connections and problem."""
    found = done.result(PATIENCE_S)
    return found.verdict, found.asked.answer.connections, found.asked.problem


def test_who_asked_gets_the_verdict_after_the_answer_was_stored() -> None:
    store = Store()
    store.gate.clear()
    with asker(Told(a=2), store, is_listed=lambda client: client == "a") as asking:
        done = asking.ask("a")
        eventually(lambda: asking.stats.answers["duplicate"])
        assert not done.done()
        store.gate.set()
        assert said(done) == (AGREED, 2, None)
        ((asked,),) = store.transactions
        assert (asked.why, asked.answer.is_listed) == (OPERATOR, True)
        assert asked.answer.asked_at_ms <= asked.answer.answered_at_ms


def test_what_came_in_while_a_transaction_was_under_way_shares_the_next_one() -> None:
    store = Store()
    store.gate.clear()
    with asker(Told(), store) as asking:
        first = asking.ask("first")
        eventually(lambda: asking.stats.answers["online"])
        more = [asking.ask(f"d{number}") for number in range(20)]
        eventually(lambda: asking.stats.answers["online"], lambda answered: answered == 21)
        store.gate.set()
        assert {said(done)[0] for done in (first, *more)} == {AGREED}
        assert len(store.transactions) <= 2


def test_unknown_and_failures_are_asked_again_and_then_that_is_the_answer() -> None:
    broken = QueryFailed("the line is broken")
    provider = Told(unknown=None, late=0, broken=broken)
    provider.answers["late"] = [None, broken, 0]
    with asker(provider, retries=2) as asking:
        assert said(asking.ask("unknown")) == (AGREED, None, None)
        assert said(asking.ask("late")) == (AGREED, 0, None)
        assert said(asking.ask("broken")) == (AGREED, None, "the line is broken")
        assert [provider.calls.count((name,)) for name in ("unknown", "late", "broken")] == [3, 3, 3]
        assert asking.stats.answers == {"online": 0, "offline": 1, "duplicate": 0, "unknown": 1, "failed": 1}


WRONG = QueryFailed("the secret is wrong", lasting=True)


def test_a_lasting_failure_is_not_asked_again_and_one_alone_concerns_its_client_only() -> None:
    provider = Told(a=WRONG)
    with asker(provider) as asking:
        assert said(asking.ask("a")) == (AGREED, None, "the secret is wrong")
        assert (asking.trouble, asking.can_answer("b")) == (None, True)
        assert said(asking.ask("b")) == (AGREED, 1, None)
        assert provider.calls == [("a",), ("b",)]


def test_several_of_them_open_the_breaker_and_operators_are_told_at_once() -> None:
    provider = Told(a=WRONG, b=WRONG, c=WRONG)
    with asker(provider) as asking:
        for name in "abc":
            assert said(asking.ask(name)) == (AGREED, None, "the secret is wrong")
        assert (asking.trouble, asking.can_answer("d")) == ("the secret is wrong", False)
        assert said(asking.ask("d")) == (None, None, "the secret is wrong")
        assert len(provider.calls) == 3
        assert said(asking.ask("d", VERIFY)) == (AGREED, 1, None)  # the probe finds out that it is well again
        assert (asking.trouble, asking.can_answer("d")) == (None, True)


def test_throttled_calls_pause_everybody_and_are_no_failures() -> None:
    provider = Told()
    provider.answers["a"] = [QueryFailed("slow down", throttled=True, retry_after_s=0.5), 1]
    with asker(provider, retries=0) as asking:
        assert said(asking.ask("a")) == (AGREED, 1, None)
        assert (asking.stats.throttled, asking.stats.failures, asking.trouble) == (1, 0, None)


def test_many_calls_throttled_at_once_are_one_pause() -> None:
    together = threading.Barrier(8)

    class Throttles(Told):
        def query(self, client: str) -> int | None:
            self.calls.append((client,))
            if self.calls.count((client,)) == 1:
                together.wait(PATIENCE_S)
                raise QueryFailed("slow down", throttled=True)
            return 1

    paused: list[float] = []

    class Noted(Budget):
        def pause(self, seconds: float) -> None:
            paused.append(seconds)
            super().pause(seconds)

    store = Store()
    asking = Asker(
        Throttles(), Noted(300), SystemClock(), Seams(submit=store.submit, judge=store.judge),
        rate=300, retries=0, retry_first_ms=5,
    )  # fmt: skip
    asking.start()
    try:
        assert {said(done) for done in [asking.ask(f"d{number}") for number in range(8)]} == {(AGREED, 1, None)}
        assert (paused, asking.stats.throttled) == ([PAUSE_FIRST_S], 8)
    finally:
        asking.stop()


def test_a_key_that_is_not_there_is_told_in_its_own_words_and_not_asked_with_again() -> None:
    class Keyless(Told):
        def query(self, client: str) -> int | None:
            self.calls.append((client,))
            raise RollcallError("the environment variable STATUS_KEY is not set")

    provider = Keyless()
    with asker(provider) as asking:
        assert said(asking.ask("a")) == (AGREED, None, "the environment variable STATUS_KEY is not set")
        assert provider.calls == [("a",)]


def test_a_fault_of_a_provider_is_a_failure_like_others() -> None:
    class Faulty(Told):
        def query(self, client: str) -> int | None:
            raise ZeroDivisionError

    with asker(Faulty(), retries=1) as asking:
        assert said(asking.ask("a")) == (AGREED, None, "internal error: ZeroDivisionError")
        assert asking.stats.calls == 2


def test_batches_go_first_and_only_who_disagrees_or_is_missing_is_asked_exactly() -> None:
    provider = Told(batch_size=10)
    names = [f"d{number:02}" for number in range(30)]
    provider.cache = {"d03": 0, "d17": -2, "d20": None}
    store = Store()
    with asker(provider, store, rate=20, agrees=lambda client, connections: connections == 1) as asking:
        waits = [asking.ask(name, SWEEP) for name in names]
        assert {said(done) for done in waits} == {(AGREED, 1, None)}
    exact = [call for call in provider.calls if len(call) == 1]
    assert {("d03",), ("d17",), ("d20",)} <= set(exact)
    assert sum(len(call) for call in provider.calls) == len(names) + 3
    assert len(provider.calls) <= 8


def test_people_and_rules_get_exact_answers_where_there_are_batches() -> None:
    provider = Told(batch_size=10, a=0)
    with asker(provider, agrees=lambda client, connections: True) as asking:
        assert said(asking.ask("a"))[1] == 0
        assert said(asking.ask("a", VERIFY))[1] == 0
        assert provider.calls == [("a",), ("a",)]


def test_a_dry_run_is_told_the_answer_and_applies_nothing() -> None:
    store = Store()
    with asker(Told(a=0), store) as asking:
        assert said(asking.ask("a", DRY_RUN)) == (None, 0, None)
        assert store.transactions == []


def test_what_the_fleet_wants_is_asked() -> None:
    store = Store()
    with asker(Told(), store) as asking:
        asking.want([QueryRequest("a", CONFIRM, 0), QueryRequest("b", VERIFY, 0)])
        eventually(lambda: sum(map(len, store.transactions)), lambda count: count == 2)
        assert {(one.answer.client, one.why) for some in store.transactions for one in some} == {
            ("a", CONFIRM),
            ("b", VERIFY),
        }


def test_answers_that_could_not_be_stored_are_handed_over_again() -> None:
    store = Store()
    store.refuses = 3
    with asker(Told(), store) as asking:
        assert said(asking.ask("a")) == (AGREED, 1, None)
        assert len(store.transactions) == 4


def test_a_stop_ends_soon_although_a_call_hangs_and_nobody_waits_for_ever() -> None:
    hanging = threading.Event()
    provider = Told(hangs=hanging)
    with asker(provider, rate=1) as asking:
        under_way = asking.ask("hangs")
        eventually(lambda: provider.calls)
        waiting = asking.ask("waits", SWEEP)
        asking.stop(0.1)
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE_S)
        assert asking.ask("too late").cancelled()
        assert provider.closed
        hanging.set()
        under_way.cancel()


def test_the_budget_is_never_exceeded_by_many_workers_at_once() -> None:
    instants: list[int] = []
    clock = SystemClock()

    class Slow(Told):
        def query(self, client: str) -> int | None:
            instants.append(clock.now_ms())
            return 1

    with asker(Slow(), rate=50) as asking:
        for done in [asking.ask(f"d{number}", SWEEP) for number in range(80)]:
            assert said(done)[0] == AGREED
    instants.sort()
    assert all(later - first >= 1_000 for first, later in zip(instants, instants[50:], strict=False))
