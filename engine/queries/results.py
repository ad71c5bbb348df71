"""Query results on their way to the writer, and back to everyone who waits for them. Read `ResultWriter`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, Protocol

from engine.core.presence.query import StatusAnswer
from engine.errors import StoreError
from engine.queries.queue import DRY_RUN, QueueEntry
from engine.telemetry import Event, logger

log = logger(__name__)

MAX_FAILED_COMMITS: Final = 30
"""Commits in a row that may fail, a second apart, before the results are given up."""

OUTCOMES: Final = ("online", "offline", "duplicate", "unknown", "failed")


class QueryResult(NamedTuple):
    """A client's answer, why it was queried, and the provider's sentence when there is no number of connections."""

    answer: StatusAnswer
    why: str
    problem: str | None = None


class AppliedResult(NamedTuple):
    """A result and what it meant. `verdict`: see `core.presence.query`; None: the result was not applied."""

    result: QueryResult
    verdict: str | None


class ResultSink(Protocol):
    """Takes results from the scheduler; called from several threads."""

    def take(self, results: Sequence[tuple[QueueEntry, QueryResult]]) -> None:
        """Accept results. Everyone who waits for an entry gets its applied result, now or later."""
        ...


class Applier(Protocol):
    """Applies results in the writer's thread."""

    def apply(self, results: Sequence[QueryResult]) -> Sequence[str]:
        """Inside the writer's transaction: apply results, and return a verdict for each.

        Memory other than the fleet's must not change here, because the transaction may fail.
        """
        ...

    def committed(self) -> None:
        """The transaction of the last `apply` has committed."""
        ...


def outcome_of(result: QueryResult) -> str:
    """One of `OUTCOMES`, for the metrics."""
    connections = result.answer.connections
    if connections is None:
        return "unknown" if result.problem is None else "failed"
    return "offline" if connections == 0 else "online" if connections == 1 else "duplicate"


class ResultReporter:
    """Reports results without applying them: for queries without a store."""

    def take(self, results: Sequence[tuple[QueueEntry, QueryResult]]) -> None:
        """Report each result to everyone who waits for it."""
        for entry, result in results:
            _report(entry, AppliedResult(result, None))


class ResultWriter:
    """Hands results to the writer: one transaction for all that came in since the last. Results of dry runs are only reported."""

    def __init__(self, submit: Callable[[Callable[[], Any]], Future[Any]], applier: Applier) -> None:
        """`submit`: runs work inside a transaction of the writer, in its thread."""
        self.verdicts: dict[str, int] = {}  # how many of each, since the start
        self._submit_work, self._applier = submit, applier
        self._lock = threading.Lock()
        self._waiting: list[tuple[QueueEntry, QueryResult]] = []
        self._is_submitted = False
        self._failed_commits = 0  # in a row

    def take(self, results: Sequence[tuple[QueueEntry, QueryResult]]) -> None:
        """Accept results, and hand them over unless a transaction is under way: its end hands over all that came meanwhile."""
        to_apply = []
        for entry, result in results:
            if entry.why == DRY_RUN:
                _report(entry, AppliedResult(result, None))
            else:
                to_apply.append((entry, result))
        with self._lock:
            self._waiting += to_apply
            if self._is_submitted or not self._waiting:
                return
            self._is_submitted = True
        self._submit()

    def _submit(self) -> None:
        taken: list[tuple[QueueEntry, QueryResult]] = []

        def work() -> Sequence[str]:
            with self._lock:
                taken.extend(self._waiting)
                self._waiting.clear()
            return self._applier.apply([result for _, result in taken])

        self._submit_work(work).add_done_callback(lambda done: self._finished(taken, done))

    def _finished(self, taken: list[tuple[QueueEntry, QueryResult]], done: Future[Sequence[str]]) -> None:
        """The transaction has ended. After a failed commit the same results are handed over again, a limited number of times."""
        error = done.exception()
        self._failed_commits = self._failed_commits + 1 if isinstance(error, StoreError) else 0
        if error is None:
            applied = [
                AppliedResult(result, verdict) for (_, result), verdict in zip(taken, done.result(), strict=True)
            ]
            for one in applied:
                name = str(one.verdict)
                self.verdicts[name] = self.verdicts.get(name, 0) + 1
            self._applier.committed()
        elif self._failed_commits and self._failed_commits <= MAX_FAILED_COMMITS:
            with self._lock:
                self._waiting = taken + self._waiting
            applied, taken = [], []
        else:
            log.error(Event.QUERY_RESULTS_LOST, answers=len(taken), error=str(error))
            applied = [AppliedResult(result, None) for _, result in taken]
        for (entry, _), one in zip(taken, applied, strict=True):
            _report(entry, one)
        with self._lock:
            self._is_submitted = bool(self._waiting)
            again = self._is_submitted
        if again:
            self._submit()


def _report(entry: QueueEntry, applied: AppliedResult) -> None:
    for waiter in entry.waiters:
        if waiter.set_running_or_notify_cancel():  # it may have been cancelled
            waiter.set_result(applied)
