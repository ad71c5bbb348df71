"""The query scheduler, with real threads and the real budget, over providers that do what a test wants."""

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
from engine.queries.results import AppliedResult, QueryResult, ResultWriter
from engine.queries.scheduler import PAUSE_FIRST_S, QueryScheduler
from engine.status.base import QueryFailed
from engine.status.budget import Budget
from tests.acceptance.service import PATIENCE_S, eventually

Answer = int | None | QueryFailed | threading.Event


class ScriptedProvider:
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
        self.transactions: list[list[QueryResult]] = []
        self.refuses = 0
        self.gate = threading.Event()
        self.gate.set()

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()

        def do() -> None:
            self.gate.wait(PATIENCE_S)
            if self.refuses:
                self.refuses -= 1
                work()
                done.set_exception(StoreError("the disk is full"))
                return
            done.set_result(work())

        threading.Thread(target=do, daemon=True).start()
        return done

    def apply(self, results: Sequence[QueryResult]) -> list[str]:
        self.transactions.append(list(results))
        return [AGREED for _ in results]

    def committed(self) -> None:
        pass


class Beliefs:
    """What is believed about every client: online or nothing, listed or not."""

    def __init__(self, *, online: bool = False, listed: bool = False) -> None:
        self._online, self._listed = online, listed

    def agrees(self, client: str, connections: int) -> bool:
        return self._online and connections == 1

    def is_listed(self, client: str) -> bool:
        return self._listed


def made_scheduler(
    provider: ScriptedProvider,
    store: Store,
    beliefs: Beliefs,
    *,
    retries: int,
    rate: int,
    budget: Budget | None = None,
) -> QueryScheduler:
    """A scheduler that is not started."""
    results = ResultWriter(store.submit, store)
    budget = budget if budget is not None else Budget(rate)
    return QueryScheduler(
        provider, budget, SystemClock(), beliefs, results, rate=rate, retries=retries, retry_first_ms=5
    )


@contextmanager
def scheduler(
    provider: ScriptedProvider,
    store: Store | None = None,
    beliefs: Beliefs | None = None,
    *,
    retries: int = 2,
    rate: int = 300,
) -> Iterator[QueryScheduler]:
    """A running scheduler, stopped when the block is left."""
    made = made_scheduler(
        provider,
        store if store is not None else Store(),
        beliefs if beliefs is not None else Beliefs(),
        retries=retries,
        rate=rate,
    )
    made.start()
    try:
        yield made
    finally:
        made.stop()


def said(done: Future[AppliedResult]) -> tuple[str | None, int | None, str | None]:
    """Verdict, connections and problem."""
    found = done.result(PATIENCE_S)
    return found.verdict, found.result.answer.connections, found.result.problem


def test_a_waiter_gets_the_verdict_after_the_result_was_stored() -> None:
    store = Store()
    store.gate.clear()
    with scheduler(ScriptedProvider(a=2), store, Beliefs(listed=True)) as queries:
        done = queries.query("a")
        eventually(lambda: queries.stats.outcomes["duplicate"])
        assert not done.done()
        store.gate.set()
        assert said(done) == (AGREED, 2, None)
        ((result,),) = store.transactions
        assert (result.why, result.answer.is_listed) == (OPERATOR, True)
        assert result.answer.asked_at_ms <= result.answer.answered_at_ms


def test_results_that_come_while_a_transaction_runs_share_the_next_one() -> None:
    store = Store()
    store.gate.clear()
    with scheduler(ScriptedProvider(), store) as queries:
        first = queries.query("first")
        eventually(lambda: queries.stats.outcomes["online"])
        more = [queries.query(f"d{number}") for number in range(20)]
        eventually(lambda: queries.stats.outcomes["online"], lambda answered: answered == 21)
        store.gate.set()
        assert {said(done)[0] for done in (first, *more)} == {AGREED}
        assert len(store.transactions) <= 2


def test_unknown_and_failures_are_retried_and_then_that_is_the_answer() -> None:
    broken = QueryFailed("the line is broken")
    provider = ScriptedProvider(unknown=None, late=0, broken=broken)
    provider.answers["late"] = [None, broken, 0]
    with scheduler(provider, retries=2) as queries:
        assert said(queries.query("unknown")) == (AGREED, None, None)
        assert said(queries.query("late")) == (AGREED, 0, None)
        assert said(queries.query("broken")) == (AGREED, None, "the line is broken")
        assert [provider.calls.count((name,)) for name in ("unknown", "late", "broken")] == [3, 3, 3]
        assert queries.stats.outcomes == {"online": 0, "offline": 1, "duplicate": 0, "unknown": 1, "failed": 1}


WRONG = QueryFailed("the secret is wrong", lasting=True)


def test_a_lasting_failure_is_not_retried_and_one_alone_concerns_its_client_only() -> None:
    provider = ScriptedProvider(a=WRONG)
    with scheduler(provider) as queries:
        assert said(queries.query("a")) == (AGREED, None, "the secret is wrong")
        assert (queries.problem, queries.can_answer("b")) == (None, True)
        assert said(queries.query("b")) == (AGREED, 1, None)
        assert provider.calls == [("a",), ("b",)]


def test_several_of_them_open_the_breaker_and_operators_get_the_problem_at_once() -> None:
    provider = ScriptedProvider(a=WRONG, b=WRONG, c=WRONG)
    with scheduler(provider) as queries:
        for name in "abc":
            assert said(queries.query(name)) == (AGREED, None, "the secret is wrong")
        assert (queries.problem, queries.can_answer("d")) == ("the secret is wrong", False)
        assert said(queries.query("d")) == (None, None, "the secret is wrong")
        assert len(provider.calls) == 3
        assert said(queries.query("d", VERIFY)) == (AGREED, 1, None)  # the probe finds out that it is well again
        assert (queries.problem, queries.can_answer("d")) == (None, True)


def test_throttled_calls_pause_all_queries_and_are_not_failures() -> None:
    provider = ScriptedProvider()
    provider.answers["a"] = [QueryFailed("slow down", throttled=True, retry_after_s=0.5), 1]
    with scheduler(provider, retries=0) as queries:
        assert said(queries.query("a")) == (AGREED, 1, None)
        assert (queries.stats.throttled, queries.stats.failures, queries.problem) == (1, 0, None)


def test_many_calls_throttled_at_once_are_one_pause() -> None:
    together = threading.Barrier(8)

    class Throttles(ScriptedProvider):
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

    queries = made_scheduler(Throttles(), Store(), Beliefs(), retries=0, rate=300, budget=Noted(300))
    queries.start()
    try:
        assert {said(done) for done in [queries.query(f"d{number}") for number in range(8)]} == {(AGREED, 1, None)}
        assert (paused, queries.stats.throttled) == ([PAUSE_FIRST_S], 8)
    finally:
        queries.stop()


def test_a_missing_key_is_reported_in_its_own_words_and_not_retried() -> None:
    class Keyless(ScriptedProvider):
        def query(self, client: str) -> int | None:
            self.calls.append((client,))
            raise RollcallError("the environment variable STATUS_KEY is not set")

    provider = Keyless()
    with scheduler(provider) as queries:
        assert said(queries.query("a")) == (AGREED, None, "the environment variable STATUS_KEY is not set")
        assert provider.calls == [("a",)]


def test_an_unexpected_error_of_a_provider_is_a_failure_like_others() -> None:
    class Faulty(ScriptedProvider):
        def query(self, client: str) -> int | None:
            raise ZeroDivisionError

    with scheduler(Faulty(), retries=1) as queries:
        assert said(queries.query("a")) == (AGREED, None, "internal error: ZeroDivisionError")
        assert queries.stats.calls == 2


def test_batches_go_first_and_only_clients_that_disagree_or_are_missing_are_queried_exactly() -> None:
    provider = ScriptedProvider(batch_size=10)
    names = [f"d{number:02}" for number in range(30)]
    provider.cache = {"d03": 0, "d17": -2, "d20": None}
    store = Store()
    with scheduler(provider, store, Beliefs(online=True), rate=20) as queries:
        waits = [queries.query(name, SWEEP) for name in names]
        assert {said(done) for done in waits} == {(AGREED, 1, None)}
    exact = [call for call in provider.calls if len(call) == 1]
    assert {("d03",), ("d17",), ("d20",)} <= set(exact)
    assert sum(len(call) for call in provider.calls) == len(names) + 3
    assert len(provider.calls) <= 8


def test_operators_and_rules_get_exact_answers_where_there_are_batches() -> None:
    provider = ScriptedProvider(batch_size=10, a=0)
    with scheduler(provider, beliefs=Beliefs(online=True)) as queries:
        assert said(queries.query("a"))[1] == 0
        assert said(queries.query("a", VERIFY))[1] == 0
        assert provider.calls == [("a",), ("a",)]


def test_a_dry_run_gets_the_answer_and_nothing_is_applied() -> None:
    store = Store()
    with scheduler(ScriptedProvider(a=0), store) as queries:
        assert said(queries.query("a", DRY_RUN)) == (None, 0, None)
        assert store.transactions == []


def test_the_requests_of_the_fleet_are_queried() -> None:
    store = Store()
    with scheduler(ScriptedProvider(), store) as queries:
        queries.enqueue([QueryRequest("a", CONFIRM, 0), QueryRequest("b", VERIFY, 0)])
        eventually(lambda: sum(map(len, store.transactions)), lambda count: count == 2)
        assert {(one.answer.client, one.why) for some in store.transactions for one in some} == {
            ("a", CONFIRM),
            ("b", VERIFY),
        }


def test_results_that_could_not_be_stored_are_handed_over_again() -> None:
    store = Store()
    store.refuses = 3
    with scheduler(ScriptedProvider(), store) as queries:
        assert said(queries.query("a")) == (AGREED, 1, None)
        assert len(store.transactions) == 4


def test_a_stop_ends_soon_although_a_call_hangs_and_no_waiter_waits_for_ever() -> None:
    hanging = threading.Event()
    provider = ScriptedProvider(hangs=hanging)
    with scheduler(provider, rate=1) as queries:
        under_way = queries.query("hangs")
        eventually(lambda: provider.calls)
        waiting = queries.query("waits", SWEEP)
        queries.stop(0.1)
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE_S)
        assert queries.query("too late").cancelled()
        assert provider.closed
        hanging.set()
        under_way.cancel()


def test_the_budget_is_never_exceeded_by_many_workers_at_once() -> None:
    instants: list[int] = []
    clock = SystemClock()

    class Slow(ScriptedProvider):
        def query(self, client: str) -> int | None:
            instants.append(clock.now_ms())
            return 1

    with scheduler(Slow(), rate=50) as queries:
        for done in [queries.query(f"d{number}", SWEEP) for number in range(80)]:
            assert said(done)[0] == AGREED
    instants.sort()
    assert all(later - first >= 1_000 for first, later in zip(instants, instants[50:], strict=False))
