"""Sends every synchronous status query of the engine, by urgency and within one budget. Read `QueryScheduler` first.

A pacing thread waits until a client may be queried, a worker is free and the budget has a call to spare, and only then takes the
most urgent client. Workers call the provider, which is synchronous. What follows from a call:

* an answer, for one client or several: it goes to the result sink, which applies it; everyone who waits gets it afterwards;
* unknown, a timeout, a failure: the client is queried again with backoff, up to `retries` times; then that is the answer
  (`connections` None);
* throttled: all queries pause, for as long as the service said or with backoff, and the client is queried again;
* failures in a row: the breaker opens, and only a probe is sent from time to time.

While the breaker is open an operator's query is not queued: it is answered at once with the problem.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from engine.clock import Clock, SteadyClock
from engine.core.breaker import Breaker, BreakerLimits
from engine.core.presence.query import QueryRequest, StatusAnswer
from engine.errors import RollcallError
from engine.queries.queue import EXACT_URGENCY, OPERATOR, QueryQueue, QueueEntry
from engine.queries.results import OUTCOMES, AppliedResult, QueryResult, ResultSink, outcome_of
from engine.status.base import Provider, QueryFailed
from engine.telemetry import Event, logger

log = logger(__name__)

RETRY_FIRST_MS: Final = 500
"""Before a client without a usable answer is queried again; doubled each time."""

MAX_DOUBLINGS: Final = 6
"""The wait before a retry is not doubled more often."""

MAX_THROTTLED: Final = 20
"""A client whose calls were throttled so often is given up: after minutes, with the pauses."""

PAUSE_FIRST_S: Final = 1.0
PAUSE_LONGEST_S: Final = 60.0
"""Pauses after a throttled call when the service does not say how long to wait; doubled while it goes on."""

CALL_S: Final = 0.2
"""A call may take so long while the budget is still used up: there are as many workers as that needs."""

BREAKER_LIMITS: Final = BreakerLimits(failures=5, lasting_failures=3, first_pause_ms=2_000, longest_pause_ms=120_000)
"""One failure may be the network's; five in a row, or three that will last, are a problem of the service or the configuration."""

MIN_WORKERS: Final = 4
MAX_WORKERS: Final = 64
STOP_S: Final = 2.0
"""`stop` waits so long for calls under way; it does not wait for a call that hangs longer."""


class CallBudget(Protocol):
    """How many calls may be made, shared by everything that queries from this address."""

    def reserve(self) -> float:
        """Seconds to wait before trying again; 0: one call may start now, and is counted. Raises RollcallError."""
        ...

    def done(self, *, answered: bool = True) -> None:
        """A counted call has ended; `answered`: the service has certainly seen it. Raises RollcallError."""
        ...

    def pause(self, seconds: float) -> None:
        """No call starts for so long."""
        ...


class Beliefs(Protocol):
    """What is known about a client without a query; called from several threads."""

    def agrees(self, client: str, connections: int) -> bool:
        """Does a number of connections agree with the believed status?"""
        ...

    def is_listed(self, client: str) -> bool:
        """Does a row of the inventory name the client by its whole id?"""
        ...


@dataclass(slots=True)
class QueryStats:
    """Counters since the start, for the metrics."""

    calls: int = 0
    throttled: int = 0
    failures: int = 0
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))


FAULT_PAUSE_S = 1.0
"""After an internal error of the pacing thread."""


class _Call(NamedTuple):
    """One call of the provider, for one client or several."""

    entries: list[QueueEntry]
    is_probe: bool  # it finds out whether the service is back


class QueryScheduler:
    """Queues and sends queries: `start`, then `query` and `enqueue` from any thread, then `stop`."""

    def __init__(
        self,
        provider: Provider,
        budget: CallBudget,
        clock: Clock,
        beliefs: Beliefs,
        results: ResultSink,
        *,
        rate: int,
        retries: int,
        retry_first_ms: int = RETRY_FIRST_MS,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """`rate`: calls a second that the budget grants; `retries`: further calls for a client without a usable answer.

        `close` is called at the very end, when no call is left to be counted.
        """
        self.stats = QueryStats()
        # Everything here is measured by a clock that nobody sets; only what comes in and goes out is the engine's time.
        self._provider, self._budget, self._clock = provider, budget, SteadyClock(clock)
        self._beliefs, self._results = beliefs, results
        self._retries, self._retry_first_ms, self._close = retries, retry_first_ms, close
        self._woken = threading.Condition()
        self._queue = QueryQueue()
        self._breaker = Breaker(BREAKER_LIMITS)
        self._calls_running = 0
        self._pause_s = 0.0  # the newest pause whose length the service did not say
        self._paused_until_ms = 0  # when the newest pause ends, or ended
        self._throttled_since_ms: int | None = None  # since when every call was throttled
        self._throttled_text = ""  # what the service says to that
        self._stopping = False
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        workers = min(MAX_WORKERS, max(MIN_WORKERS, round(rate * CALL_S)))
        self._pacer = threading.Thread(target=self._pace, name="query-scheduler", daemon=True)
        self._workers = [
            threading.Thread(target=self._work, name=f"query-worker-{number}", daemon=True) for number in range(workers)
        ]

    # From other threads

    def start(self) -> None:
        """Begin to send queries."""
        for thread in (self._pacer, *self._workers):
            thread.start()

    def ended_threads(self) -> list[str]:
        """The names of threads that have ended although it was not stopped."""
        threads = [] if self._stopping else [self._pacer, *self._workers]
        return [thread.name for thread in threads if thread.ident is not None and not thread.is_alive()]

    def query(self, client: str, why: str = OPERATOR, at_ms: int = 0) -> Future[AppliedResult]:
        """Query a client, not before `at_ms` (of the steady clock). The future is cancelled when the scheduler stops before there is an answer."""
        waiter: Future[AppliedResult] = Future()
        with self._woken:
            now_ms = self._clock.now_ms()
            next_ms = self._breaker.next_call_ms(now_ms)
            if self._stopping:
                waiter.cancel()
            elif why == OPERATOR and (next_ms is None or next_ms > now_ms):
                waiter.set_result(self._not_sent(client, now_ms))
            else:
                self._queue.add(client, why, at_ms, waiter)
                self._woken.notify_all()
        return waiter

    def enqueue(self, requests: Iterable[QueryRequest]) -> None:
        """Queue the queries that the fleet requests; their results are applied, and nothing waits for them."""
        with self._woken:
            if self._stopping:
                return
            for client, why, at_ms in requests:
                self._queue.add(client, why, self._clock.steady_ms(at_ms))
            self._woken.notify_all()

    def __len__(self) -> int:
        """How many clients wait for their query."""
        return len(self._queue)

    @property
    def problem(self) -> str | None:
        """Why queries fail at present, in the provider's words; None while they do not."""
        return self._breaker.problem

    @property
    def trouble(self) -> str | None:
        """Why there are no answers at present: queries fail, or the service throttles every one; None while there are."""
        return self.problem or (f"queries are throttled: {self._throttled_text}" if self.throttled_ms() else None)

    def throttled_ms(self) -> int:
        """For how long the service has throttled every call; 0: it does not."""
        since_ms = self._throttled_since_ms
        return max(1, self._clock.now_ms() - since_ms) if since_ms is not None else 0

    def can_answer(self, client: str) -> bool:
        """Is it worth waiting for an answer about this client?"""
        return not self._breaker.is_open and not self._stopping

    def is_hopeless_since(self, instant_ms: int) -> bool:
        """Will queries fail until somebody mends something, as a call after an instant (of the steady clock) has shown?"""
        return self._breaker.is_hopeless and self._breaker.failed_at_ms >= instant_ms

    def failing_for_ms(self, instant_ms: int) -> int:
        """How long queries have failed without interruption, counted from `instant_ms` at the earliest."""
        breaker = self._breaker
        return self._clock.now_ms() - max(instant_ms, breaker.opened_at_ms) if breaker.is_open else 0

    def drop(self, why: str) -> None:
        """Remove the queued queries with this reason; whoever waits for one finds it cancelled."""
        with self._woken:
            dropped = list(self._queue.drop(why))
        for entry in dropped:
            _cancel(entry)

    def stop(self, within_s: float = STOP_S) -> None:
        """Send no more queries; calls under way get a moment to end. Unanswered queries are cancelled."""
        with self._woken:
            self._stopping = True
            dropped = list(self._queue.clear())
            self._woken.notify_all()
        for entry in dropped:
            _cancel(entry)
        for _ in self._workers:
            self._calls.put(None)
        deadline = threading.Event()
        timer = threading.Timer(within_s, deadline.set)
        timer.daemon = True
        timer.start()
        for thread in (self._pacer, *self._workers):
            while thread.is_alive() and not deadline.is_set():
                thread.join(0.05)
        timer.cancel()
        with contextlib.suppress(Exception):  # an error of a library at the very end changes nothing
            self._provider.close()
        self._close()

    # The pacing thread

    def _pace(self) -> None:
        while not self._stopping:
            try:
                self._pace_once()
            except Exception as error:  # the thread must not be lost
                log.error(Event.INTERNAL_ERROR, part="status queries", exc_info=error)
                with self._woken:
                    self._woken.wait(FAULT_PAUSE_S)

    def _pace_once(self) -> None:
        """Start the next call, or wait for it to be due."""
        while True:
            with self._woken:
                if self._stopping:
                    return
                wait_s = self._idle_s()
                if wait_s != 0:
                    self._woken.wait(wait_s)
                    continue
            try:
                wait_s = self._budget.reserve()
            except Exception as error:  # without a budget no query is sent, and that must be seen
                log.error(Event.INTERNAL_ERROR, exc_info=error)
                wait_s = 1.0
            if wait_s > 0:
                with self._woken:
                    self._woken.wait(wait_s)
            else:
                self._start_call()

    def _idle_s(self) -> float | None:
        """Seconds until a query may be sent; None: not before the thread is woken."""
        now_ms = self._clock.now_ms()
        queued_ms, call_ms = self._queue.next_ms(now_ms), self._breaker.next_call_ms(now_ms)
        if queued_ms is None or call_ms is None or self._calls_running >= len(self._workers):
            return None
        return max(0, queued_ms - now_ms, call_ms - now_ms) / 1000

    def _start_call(self) -> None:
        """Give the most urgent clients to a worker. The budget has counted the call already."""
        with self._woken:
            taken = [] if self._stopping else self._queue.take(self._clock.now_ms(), self._provider.batch_size)
            if taken:
                self._calls_running += 1
                self.stats.calls += 1
                self._calls.put(_Call(taken, self._breaker.call_started()))
        if not taken:
            self._budget.done()

    # Workers

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._carry_out(call)
            except Exception as error:  # a worker must not be lost
                log.error(Event.INTERNAL_ERROR, exc_info=error)
            finally:
                with self._woken:
                    self._calls_running -= 1
                    self._woken.notify_all()

    def _carry_out(self, call: _Call) -> None:
        """Make one call of the provider; hand over its results, and queue again the clients without one."""
        asked_at_ms = self._clock.now_ms()
        found, failure = self._ask_provider(call.entries)
        now_ms = self._clock.now_ms()
        self._note(failure, asked_at_ms, now_ms, call.is_probe)
        results = []
        for entry in call.entries:
            result = self._result(entry, asked_at_ms, now_ms, found.get(entry.client), failure)
            if result is not None:
                results.append((entry, result))
        if results:
            with self._woken:
                for _, result in results:
                    self.stats.outcomes[outcome_of(result)] += 1
            self._results.take(results)

    def _ask_provider(self, entries: list[QueueEntry]) -> tuple[dict[str, int | None], QueryFailed | None]:
        """The provider's answer (client -> connections), or why there is none. The budget counts the call as ended."""
        found: dict[str, int | None] = {}
        failure: QueryFailed | None = None
        try:
            if entries[0].needs_exact or self._provider.batch_size < 2:
                found[entries[0].client] = self._provider.query(entries[0].client)
            else:
                found.update(self._provider.query_many([entry.client for entry in entries]))
        except QueryFailed as error:
            failure = error
        except RollcallError as error:  # nothing was sent, because a key is missing, say: it fails until that is mended
            failure = QueryFailed(str(error), lasting=True)
        except Exception as error:  # an unexpected error of a provider is a failure like others
            log.error(Event.INTERNAL_ERROR, exc_info=error)
            failure = QueryFailed(f"internal error: {type(error).__name__}")
        finally:
            with contextlib.suppress(RollcallError) if self._stopping else contextlib.nullcontext():
                self._budget.done(answered=failure is None or failure.answered)
        return found, failure

    def _result(
        self, entry: QueueEntry, asked_at_ms: int, now_ms: int, connections: int | None, failure: QueryFailed | None
    ) -> QueryResult | None:
        """The client's result. None: it is queried again."""
        is_cached = not entry.needs_exact and self._provider.batch_size > 1
        if failure is None and is_cached and not self._confirms(entry.client, connections):
            entry.needs_exact, entry.urgency = True, min(entry.urgency, EXACT_URGENCY)
            self._put_back(entry, now_ms)
            return None
        if failure is None and connections is not None:
            return QueryResult(self._answer(entry.client, asked_at_ms, now_ms, connections), entry.why)
        entry.failures += 1
        limit = MAX_THROTTLED if failure is not None and failure.throttled else self._retries
        if entry.failures > limit or (failure is not None and failure.lasting):
            problem = str(failure) if failure is not None else None
            return QueryResult(self._answer(entry.client, asked_at_ms, now_ms, None), entry.why, problem)
        self._put_back(entry, now_ms + self._retry_first_ms * 2 ** min(entry.failures - 1, MAX_DOUBLINGS))
        return None

    def _confirms(self, client: str, connections: int | None) -> bool:
        """Is a cached answer enough? Only one that agrees with the belief; else an exact answer is needed."""
        return connections is not None and self._beliefs.agrees(client, connections)

    def _put_back(self, entry: QueueEntry, at_ms: int) -> None:
        with self._woken:
            if not self._stopping:
                self._queue.put_back(entry, at_ms)
                self._woken.notify_all()
                return
        _cancel(entry)

    def _answer(self, client: str, asked_at_ms: int, answered_at_ms: int, connections: int | None) -> StatusAnswer:
        engine_ms = self._clock.engine_ms
        is_listed = self._beliefs.is_listed(client)
        return StatusAnswer(client, engine_ms(asked_at_ms), engine_ms(answered_at_ms), connections, is_listed)

    def _not_sent(self, client: str, now_ms: int) -> AppliedResult:
        answer = self._answer(client, now_ms, now_ms, None)
        return AppliedResult(QueryResult(answer, OPERATOR, self._breaker.problem), None)

    def _note(self, failure: QueryFailed | None, asked_at_ms: int, now_ms: int, is_probe: bool) -> None:
        """What a call says about the service: for the breaker, the budget and the log."""
        opened = closed = False
        pause_s = 0.0
        with self._woken:
            is_newer = asked_at_ms >= self._paused_until_ms  # an older call says nothing about the newest pause
            if failure is None:
                self._pause_s = 0.0 if is_newer else self._pause_s
                self._throttled_since_ms = None
                closed = self._breaker.succeeded()
            elif failure.throttled:
                self.stats.throttled += 1
                self._throttled_text = str(failure)
                if self._throttled_since_ms is None:
                    self._throttled_since_ms = asked_at_ms
                self._breaker.not_tried()
                if is_newer:
                    self._pause_s = min(PAUSE_LONGEST_S, 2 * self._pause_s or PAUSE_FIRST_S)
                    pause_s = failure.retry_after_s if failure.retry_after_s is not None else self._pause_s
                    self._paused_until_ms = now_ms + round(pause_s * 1000)
            else:
                self.stats.failures += 1
                problem = str(failure)
                opened = self._breaker.failed(problem, now_ms, lasting=failure.lasting, probe=is_probe)
        if pause_s:
            self._budget.pause(pause_s)
            log.warning(Event.QUERIES_THROTTLED, seconds=pause_s, problem=str(failure))
        if opened:
            log.error(Event.QUERIES_FAILING, problem=str(failure))
        if closed:
            log.info(Event.QUERIES_RECOVERED)


def _cancel(entry: QueueEntry) -> None:
    for waiter in entry.waiters:
        waiter.cancel()
