"""The one who asks: every synchronous status query of the engine goes through here, by urgency and within one budget.

A pacer thread waits until somebody may be asked, a worker is free and the budget has room, and only then takes the most
urgent client; workers call the provider, which is synchronous. What a call brought:

* an answer, also for several clients at once: to the writer, with all others that came in meanwhile, in one transaction
  (`handing`); whoever waits for the verdict gets it when that has committed;
* unknown, a timeout, a failure: asked again with backoff, up to `retries` times; then that is the answer (`connections` None);
* "slow down": everybody pauses, for as long as was said or with backoff, and the client is asked again;
* failures in a row: the breaker opens, and only a probe leaves from time to time.

Operators are not kept waiting for an open breaker: they are told what is wrong. Read `Asker` first.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Final, Protocol

from engine.clock import Clock
from engine.core.breaker import Breaker, BreakerLimits
from engine.core.presence.query import QueryRequest, StatusAnswer
from engine.errors import RollcallError
from engine.queries.queue import EXACT, OPERATOR, AskQueue, Entry
from engine.queries.results import Asked, AskingStats, Handing, Seams, Verdict
from engine.status.base import Provider, QueryFailed
from engine.telemetry import Event, logger

log = logger(__name__)

RETRY_FIRST_MS: Final = 500
"""Before a client is asked again that got no usable answer; doubled each time."""

MAX_THROTTLED: Final = 20
"""So often a client's call may be turned away with "slow down" before the client is given up: minutes, with the pauses."""

PAUSE_FIRST_S: Final = 1.0
PAUSE_LONGEST_S: Final = 60.0
"""Pauses after "slow down" where nothing was said of how long; doubled while it goes on."""

CALL_S: Final = 0.2
"""Time that a call may take while the budget is still used up: workers are as many as that asks for."""

BREAKER: Final = BreakerLimits(failures=5, lasting_failures=3, first_pause_ms=2_000, longest_pause_ms=120_000)
"""One failure is the network's, five in a row are somebody's to mend; three lasting ones are enough."""

MAX_WORKERS: Final = 64
STOP_S: Final = 2.0
"""How long `stop` waits for calls under way; whoever hangs longer is left behind."""


class Budget(Protocol):
    """How many calls may leave, shared by all that ask from this address."""

    def reserve(self) -> float:
        """Seconds to wait before trying again; 0: one call may leave now, and is counted."""
        ...

    def done(self, *, answered: bool = True) -> None:
        """A call that was counted has ended; `answered`: it is sure that the service has seen it."""
        ...

    def pause(self, seconds: float) -> None:
        """No call leaves for so long."""
        ...


class Asker:
    """Asks. `start` it; `ask` from any thread; `want` what the fleet wants asked; `stop` it."""

    def __init__(
        self,
        provider: Provider,
        budget: Budget,
        clock: Clock,
        seams: Seams,
        *,
        rate: int,
        retries: int,
        retry_first_ms: int = RETRY_FIRST_MS,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """`rate`: calls a second that the budget grants; `retries`: further calls for a client without a usable answer.

        `close` is called at the very end, when no call of ours is left to be counted.
        """
        self.stats = AskingStats()
        self._provider, self._budget, self._clock, self._seams = provider, budget, clock, seams
        self._retries, self._retry_first_ms, self._close = retries, retry_first_ms, close
        self._workers = min(MAX_WORKERS, max(4, round(rate * CALL_S)))
        self._woken = threading.Condition()
        self._queue = AskQueue()
        self._breaker = Breaker(BREAKER)
        self._busy = 0
        self._pause_s = 0.0  # the last pause that nobody had told the length of
        self._paused_until_ms = 0  # until when everybody pauses, or paused last
        self._stopping = False
        self._calls: queue.SimpleQueue[tuple[list[Entry], bool] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._handing = Handing(seams, self.stats)

    # From other threads

    def start(self) -> None:
        """Begin to ask."""
        self._threads = [threading.Thread(target=self._pace, name="asking", daemon=True)]
        for number in range(self._workers):
            self._threads.append(threading.Thread(target=self._work, name=f"asking-{number}", daemon=True))
        for thread in self._threads:
            thread.start()

    def ask(self, client: str, why: str = OPERATOR, at_ms: int = 0) -> Future[Verdict]:
        """Ask about a client, not before `at_ms`. The future is cancelled when the asker stops before there is an answer."""
        told: Future[Verdict] = Future()
        with self._woken:
            now_ms = self._clock.now_ms()
            room = self._breaker.next_call_ms(now_ms)
            if self._stopping:
                told.cancel()
            elif why == OPERATOR and (room is None or room > now_ms):
                told.set_result(self._unasked(client, now_ms))
            else:
                self._queue.add(client, why, at_ms, told)
                self._woken.notify_all()
        return told

    def want(self, asks: Iterable[QueryRequest]) -> None:
        """The fleet wants these asked."""
        with self._woken:
            if self._stopping:
                return
            for client, why, at_ms in asks:
                self._queue.add(client, why, at_ms)
            self._woken.notify_all()

    def __len__(self) -> int:
        """Clients that wait to be asked."""
        return len(self._queue)

    @property
    def trouble(self) -> str | None:
        """Why asking fails at present, in the provider's words; None while it does not."""
        return self._breaker.problem

    def can_answer(self, client: str) -> bool:
        """Is it worth waiting for an answer about this client?"""
        return not self._breaker.is_open and not self._stopping

    def is_hopeless_since(self, instant_ms: int) -> bool:
        """Does asking fail until somebody mends something, as was found out after an instant?"""
        return self._breaker.is_hopeless and self._breaker.failed_at_ms >= instant_ms

    def failing_for_ms(self, instant_ms: int) -> int:
        """For how long asking has failed without end, from an instant on."""
        breaker = self._breaker
        return self._clock.now_ms() - max(instant_ms, breaker.opened_at_ms) if breaker.is_open else 0

    def drop(self, why: str) -> None:
        """Ask no more for this reason; whoever waits for such an answer is not told any."""
        with self._woken:
            dropped = list(self._queue.drop(why))
        for entry in dropped:
            for told in entry.told:
                told.cancel()

    def stop(self, within_s: float = STOP_S) -> None:
        """Ask nobody any more; calls under way get a moment to come back. What is not answered is forgotten."""
        with self._woken:
            self._stopping = True
            left = list(self._queue.clear())
            self._woken.notify_all()
        for entry in left:
            for told in entry.told:
                told.cancel()
        for _ in range(self._workers):
            self._calls.put(None)
        deadline = threading.Event()
        timer = threading.Timer(within_s, deadline.set)
        timer.daemon = True
        timer.start()
        for thread in self._threads:
            while thread.is_alive() and not deadline.is_set():
                thread.join(0.05)
        timer.cancel()
        with contextlib.suppress(Exception):  # what a library says at its end changes nothing
            self._provider.close()
        self._close()

    # The pacer

    def _pace(self) -> None:
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
            except Exception as fault:  # noqa: BLE001  # without a budget nobody is asked, and that must be seen
                log.error(Event.INTERNAL_ERROR, error=repr(fault))
                wait_s = 1.0
            with self._woken:
                if wait_s > 0:
                    self._woken.wait(wait_s)
                    continue
                taken = [] if self._stopping else self._queue.take(self._clock.now_ms(), self._provider.batch_size)
                probe = False
                if taken:
                    self._busy += 1
                    self.stats.calls += 1
                    probe = self._breaker.call_started()
            if taken:
                self._calls.put((taken, probe))
            else:
                self._budget.done()

    def _idle_s(self) -> float | None:
        """Seconds until somebody may be asked, None: until woken."""
        now_ms = self._clock.now_ms()
        upcoming, room = self._queue.next_ms(now_ms), self._breaker.next_call_ms(now_ms)
        if upcoming is None or room is None or self._busy >= self._workers:
            return None
        return max(0, upcoming - now_ms, room - now_ms) / 1000

    # Workers

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            entries, probe = call
            try:
                self._call(entries, probe)
            except Exception as fault:  # noqa: BLE001  # a worker must not be lost
                log.error(Event.INTERNAL_ERROR, error=repr(fault))
            finally:
                with self._woken:
                    self._busy -= 1
                    self._woken.notify_all()

    def _call(self, entries: list[Entry], probe: bool) -> None:
        """One call of the provider for one client or several, and what follows from it."""
        asked_at_ms = self._clock.now_ms()
        failure: QueryFailed | None = None
        found: dict[str, int | None] = {}
        try:
            if entries[0].alone or self._provider.batch_size < 2:
                found[entries[0].client] = self._provider.query(entries[0].client)
            else:
                found.update(self._provider.query_many([entry.client for entry in entries]))
        except QueryFailed as error:
            failure = error
        except (
            RollcallError
        ) as error:  # a key that is not there, say: nothing was sent, and it stays so until somebody mends it
            failure = QueryFailed(str(error), lasting=True)
        except Exception as fault:  # a fault of a provider's is a failure like others
            log.error(Event.INTERNAL_ERROR, exc_info=fault)
            failure = QueryFailed(f"internal error: {type(fault).__name__}")
        finally:
            with contextlib.suppress(RollcallError) if self._stopping else contextlib.nullcontext():
                self._budget.done(answered=failure is None or failure.answered)
        now_ms = self._clock.now_ms()
        self._note(failure, asked_at_ms, now_ms, probe)
        answers = []
        for entry in entries:
            asked = self._judge(entry, asked_at_ms, now_ms, found.get(entry.client), failure)
            if asked is not None:
                answers.append((entry, asked))
        if answers:
            self._handing.take(answers)

    def _judge(
        self, entry: Entry, asked_at_ms: int, now_ms: int, connections: int | None, failure: QueryFailed | None
    ) -> Asked | None:
        """The client's answer, None: it is to be asked again."""
        cached = not entry.alone and self._provider.batch_size > 1
        if failure is None and connections is not None and not (cached and self._disagrees(entry.client, connections)):
            return Asked(self._answer(entry.client, asked_at_ms, now_ms, connections), entry.why)
        if failure is None and cached:  # it disagrees, or does not know: an exact answer is needed
            entry.alone, entry.urgency = True, min(entry.urgency, EXACT)
            self._again(entry, now_ms)
            return None
        entry.failures += 1
        most = MAX_THROTTLED if failure is not None and failure.throttled else self._retries
        if entry.failures > most or (failure is not None and failure.lasting):
            problem = str(failure) if failure is not None else None
            return Asked(self._answer(entry.client, asked_at_ms, now_ms, None), entry.why, problem)
        self._again(entry, now_ms + self._retry_first_ms * 2 ** min(entry.failures - 1, 6))
        return None

    def _disagrees(self, client: str, connections: int) -> bool:
        return not self._seams.agrees(client, connections)

    def _again(self, entry: Entry, at_ms: int) -> None:
        with self._woken:
            if not self._stopping:
                self._queue.put_back(entry, at_ms)
                self._woken.notify_all()
                return
        for told in entry.told:
            told.cancel()

    def _answer(self, client: str, asked_at_ms: int, answered_at_ms: int, connections: int | None) -> StatusAnswer:
        return StatusAnswer(client, asked_at_ms, answered_at_ms, connections, self._seams.is_listed(client))

    def _unasked(self, client: str, now_ms: int) -> Verdict:
        return Verdict(Asked(self._answer(client, now_ms, now_ms, None), OPERATOR, self._breaker.problem), None)

    def _note(self, failure: QueryFailed | None, asked_at_ms: int, now_ms: int, probe: bool) -> None:
        """What a call says about the service that is asked: for the breaker, the budget and the log."""
        opened = closed = False
        pause_s = 0.0
        with self._woken:
            is_newer = asked_at_ms >= self._paused_until_ms  # what left before the last pause says nothing about it
            if failure is None:
                self._pause_s = 0.0 if is_newer else self._pause_s
                closed = self._breaker.succeeded()
            elif failure.throttled:
                self.stats.throttled += 1
                self._breaker.not_tried()
                if is_newer:
                    self._pause_s = min(PAUSE_LONGEST_S, 2 * self._pause_s or PAUSE_FIRST_S)
                    pause_s = failure.retry_after_s if failure.retry_after_s is not None else self._pause_s
                    self._paused_until_ms = now_ms + round(pause_s * 1000)
            else:
                self.stats.failures += 1
                opened = self._breaker.failed(str(failure), now_ms, lasting=failure.lasting, probe=probe)
        if pause_s:
            self._budget.pause(pause_s)
            log.warning(Event.QUERIES_THROTTLED, seconds=pause_s, problem=str(failure))
        if opened:
            log.error(Event.QUERIES_FAILING, problem=str(failure))
        if closed:
            log.info(Event.QUERIES_RECOVERED)
