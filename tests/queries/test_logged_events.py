"""The events that status queries and sweeps log, seen in the log."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from engine.core.presence.query import StatusAnswer
from engine.errors import StoreError
from engine.queries.queue import QueueEntry
from engine.queries.results import MAX_FAILED_COMMITS, AppliedResult, QueryResult, ResultWriter
from engine.status.base import QueryFailed
from tests.acceptance.service import PATIENCE_S, eventually
from tests.queries.conftest import Lines
from tests.queries.test_scheduler import ScriptedProvider, Store, scheduler


def test_failing_and_recovered_queries_are_logged_once_each(log: Lines) -> None:
    wrong = QueryFailed("the secret is wrong", lasting=True)
    with scheduler(ScriptedProvider(a=wrong, b=wrong, c=wrong)) as queries:
        for name in "abc":
            queries.query(name).result(PATIENCE_S)
        (line,) = log("asking.fails")
        assert (line["level"], line["problem"]) == ("error", "the secret is wrong")
        queries.query("d", "verify").result(PATIENCE_S)  # the probe
        (line,) = eventually(lambda: log("asking.well"))
        assert line["level"] == "info"
        assert len(log("asking.fails")) == 1


def test_a_throttled_query_is_logged_with_the_length_of_the_pause(log: Lines) -> None:
    provider = ScriptedProvider()
    provider.answers["a"] = [QueryFailed("too fast", throttled=True, retry_after_s=0.1), 1]
    with scheduler(provider) as queries:
        queries.query("a").result(PATIENCE_S)
    (line,) = log("asking.throttled")
    assert (line["level"], line["seconds"], line["problem"]) == ("warning", 0.1, "too fast")


def test_an_unexpected_error_of_a_provider_is_logged_with_its_place(log: Lines) -> None:
    class Faulty(ScriptedProvider):
        def query(self, client: str) -> int | None:
            raise ZeroDivisionError("oh")

    with scheduler(Faulty(), retries=0) as queries:
        queries.query("a").result(PATIENCE_S)
    (line,) = log("internal.fault")
    assert line["error"] == "ZeroDivisionError('oh')" and line["where"].startswith("test_logged_events.py:")


def test_results_that_cannot_be_stored_are_given_up_and_logged(log: Lines) -> None:
    refused: list[Callable[[], Any]] = []

    def refuse(work: Callable[[], Any]) -> Future[Any]:
        refused.append(work)
        work()
        done: Future[Any] = Future()
        done.set_exception(StoreError("the disk is full"))
        return done

    waiter: Future[AppliedResult] = Future()
    entry = QueueEntry("a", "operator", 0)
    entry.waiters.append(waiter)
    result = QueryResult(StatusAnswer("a", 1, 2, 1), "operator")
    ResultWriter(refuse, Store()).take([(entry, result)])
    assert waiter.result(PATIENCE_S) == AppliedResult(result, None)
    assert len(refused) == MAX_FAILED_COMMITS + 1
    (line,) = log("asking.lost")
    assert (line["level"], line["answers"], line["error"]) == ("error", 1, "the disk is full")
