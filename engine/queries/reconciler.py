"""Sweeps: everybody, or whom a gap or a long stop concerns, is asked in the order of need, and belief converges to truth.

Sweeps come from the schedule, from operators, from gaps of a feed and from starts after a long stop; one goes on at a time,
and what is wished for meanwhile waits, once a kind. A sweep, in steps:

1. whom to ask is laid down, and the sweep is written down: from here on a restart goes on with it;
2. everybody is given to the asker, at most `WINDOW` at a time; answers are judged and counted by `Judging`;
3. those who could not be said are asked again, up to `PASSES` times in all;
4. when every confirmation is final, the rest is counted as unknown or failed, and the sweep ends.

It ends early, and says so, when asking stays impossible. The thread sleeps until there is something to do. Read
`Reconciler.request`, then `_sweep`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from engine.clock import Clock
from engine.core.presence.client_state import ClientState
from engine.core.rules import Ticks
from engine.core.times import FOREVER
from engine.errors import StoreError
from engine.queries.dry_run import DryRun
from engine.queries.queue import DRY_RUN, SWEEP
from engine.queries.result_applier import Judging
from engine.queries.results import Verdict
from engine.queries.scheduler import Asker
from engine.queries.sweep import PASSES, Sweep
from engine.stores.base import ReconciliationRow, Sweeps, Tally
from engine.telemetry import Event, logger

T = TypeVar("T")

SCHEDULE: Final = "schedule"
ASKED_FOR: Final = "operator"
GAP: Final = "gap"
RESTART: Final = "restart"

WINDOW: Final = 1_000
"""Clients of a sweep that wait for their answer at one time."""

GIVE_UP_MS: Final = 120_000
"""A sweep ends when asking has failed for so long: the next one begins anew."""

CONFIRMED_WITHIN_MS: Final = 120_000
"""A confirmation that has not come so long after it was due does not come any more."""

COMMITTED_WITHIN_MS: Final = 60_000
"""Answers that could not be stored for so long are given up by whoever hands them over."""

LOOK_S: Final = 1.0
"""How often a sweep looks after itself when nothing tells it to."""

ALIVE: Final = "alive_at"
"""Remembered value: an instant at which the engine was at work, for how long a stop was."""
PLANNED: Final = "reconcile_planned"
"""Remembered value: up to which instant planned runs have been begun or passed over."""
GAPS_SWEPT: Final = "gaps_swept"
"""Remembered value: gaps noted up to this instant have had their sweep."""

log = logger(__name__)

Scope = Mapping[str, Any]
"""Whom a sweep is about when not about everybody: `{"gaps": [{"source", "from", "to", "noted_at"}]}`, instants in epoch ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When everybody is asked. `ticks` None: never on its own; `catches_up`: a run that was missed is made up for, once."""

    ticks: Ticks | None = None
    catches_up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the reconciler needs of the rest.

    `submit` is the writer's. `clients`: whom to ask, of a scope or (None) at all, most needy first, without those who were
    verified since an instant (epoch ms; None: with everybody). `published`: what is believed about a client. `is_settled`: have all
    sources been read, so that asking does not run ahead of what waits to be read?
    """

    submit: Callable[[Callable[[Any], Any]], Future[Any]]
    clients: Callable[[Scope | None, int | None], Sequence[str]]
    published: Callable[[str], ClientState | None]
    is_settled: Callable[[], bool] = lambda: True
    max_hold_ms: int = 300_000
    confirm_after_ms: int = 5_000


@dataclass(slots=True)
class _Request:
    """A sweep that is wished for, and who waits to hear its number."""

    why: str
    scope: dict[str, Any] | None = None
    told: list[Future[int]] = field(default_factory=list)
    row: ReconciliationRow | None = None  # one that goes on
    sweep: Sweep | None = None  # its books, opened before anybody is asked: what is answered first counts too


class Progress(NamedTuple):
    """A sweep under way, for the metrics."""

    number: int
    total: int
    tally: Tally


class Reconciler:
    """Sweeps when it is time to, or when asked. `recover`, `start`, `request`, `note_gap`, `stop`."""

    def __init__(self, asker: Asker, judging: Judging, store: Sweeps, clock: Clock, plan: Plan, wiring: Wiring) -> None:
        self.swept = 0  # since the start
        self._asker, self._judging, self._store = asker, judging, store
        self._clock, self._plan, self._wiring = clock, plan, wiring
        self._woken = threading.Condition()
        self._requests: list[_Request] = []
        self._busy = False
        self._out = 0  # clients given to the asker
        self._stopping = False
        self._planned_ms = FOREVER
        self._thread: threading.Thread | None = None
        self._started_at_ms = clock.now_ms()
        self._dry_run = DryRun(judging.lock, store, wiring.published, self._do)
        judging.on_progress = self._wake

    # Beginning and ending

    def recover(self, gaps: Sequence[Any] = (), max_lag_ms: int = FOREVER) -> None:
        """When the states are loaded, and before anything starts: what a sweep had left, what the schedule missed, gaps and a long stop that need asking."""
        now_ms = self._clock.now_ms()
        for row in self._store.open_reconciliations():
            self._requests.append(self._resumed(row))
        swept_ms = int(self._store.meta(GAPS_SWEPT) or 0)
        for gap in reversed(gaps):
            if gap.noted_at_ms > swept_ms:
                self.note_gap(gap)
        alive_ms = int(self._store.meta(ALIVE) or 0)
        if alive_ms and now_ms - alive_ms > max_lag_ms:
            stop = {"source": None, "from": alive_ms, "to": now_ms, "noted_at": now_ms}
            self._add(_Request(RESTART, {"gaps": [stop]}))
        self._recover_plan(now_ms)

    def _resumed(self, row: ReconciliationRow) -> _Request:
        request = _Request(row.why, dict(row.scope) if row.scope else None, row=row)
        if row.why != DRY_RUN and self._judging.sweep is None:
            clients = self._wiring.clients(request.scope, row.started_at_ms)
            request.sweep = self._judging.sweep = Sweep(row.id, row.why, row.started_at_ms, clients, row.tally)
        return request

    def _recover_plan(self, now_ms: int) -> None:
        ticks = self._plan.ticks
        if ticks is None:
            return
        planned = self._store.meta(PLANNED)
        due_ms = ticks.next_after(int(planned)) if planned is not None else FOREVER
        if due_ms <= now_ms and self._plan.catches_up:
            self._planned_ms = due_ms
        else:
            self._planned_ms = ticks.next_after(now_ms)

    def start(self) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = 2.0) -> None:
        """Leave a sweep where it is: the next start goes on with it."""
        with self._woken:
            self._stopping = True
            self._woken.notify_all()
            waiting, self._requests = self._requests, []
        for request in waiting:
            for told in request.told:
                told.cancel()
        if self._thread is not None:
            self._thread.join(within_s)

    # From other threads

    def request(self, why: str = ASKED_FOR) -> Future[int]:
        """Sweep through everybody; the future is the sweep's number, once it has begun. One that waits already will do."""
        told: Future[int] = Future()
        with self._woken:
            if self._stopping:
                told.cancel()
                return told
            self._add(_Request(why, told=[told]))
            self._woken.notify_all()
        return told

    def note_gap(self, gap: Any) -> None:
        """Messages of a source are gone: ask for whom they may have been about."""
        found = {"source": gap.source, "from": gap.from_ms, "to": gap.to_ms, "noted_at": gap.noted_at_ms}
        with self._woken:
            self._add(_Request(GAP, {"gaps": [found]}))
            self._woken.notify_all()

    @property
    def is_sweeping(self) -> bool:
        """Does a sweep go on?"""
        return self._busy

    def progress(self) -> Progress | None:
        """How far the sweep under way is."""
        with self._judging.lock:
            sweep = self._judging.sweep
            return None if sweep is None else Progress(sweep.number, sweep.total, sweep.tally)

    def _add(self, request: _Request) -> None:
        """One that waits already takes another of its kind in."""
        for waiting in self._requests:
            if waiting.why == request.why and waiting.row is None:
                waiting.told += request.told
                if waiting.scope is not None and request.scope is not None:
                    for gap in request.scope.get("gaps", ()):
                        if gap not in waiting.scope["gaps"]:
                            waiting.scope["gaps"].append(gap)
                return
        self._requests.append(request)

    def _wake(self) -> None:
        with self._woken:
            self._woken.notify_all()

    # The reconciler's thread

    def _run(self) -> None:
        while not self._stopping:
            request = self._upcoming()
            if request is None:
                continue
            try:
                self._sweep(request)
            except (StoreError, CancelledError) as error:
                if not self._stopping:
                    self._requests.insert(0, request)
                    log.error(Event.TASK_FAILED, task="reconciling", error=str(error))
                    self._rest(LOOK_S)
            except Exception as fault:  # noqa: BLE001  # the next sweep may go well
                log.error(Event.INTERNAL_ERROR, error=repr(fault))
                self._rest(LOOK_S)
            finally:
                if not self._stopping:  # else what is still under way is counted, because the next start goes on
                    with self._judging.lock:
                        self._judging.sweep = request.sweep if request in self._requests else None
                self._busy = False

    def _upcoming(self) -> _Request | None:
        """The next sweep, waiting for it for a while."""
        now_ms = self._clock.now_ms()
        with self._woken:
            if self._planned_ms <= now_ms:
                assert self._plan.ticks is not None
                self._planned_ms = self._plan.ticks.next_after(now_ms)
                self._add(_Request(SCHEDULE))
            for place, request in enumerate(self._requests):
                if self._may_begin(request, now_ms):
                    self._busy = True
                    return self._requests.pop(place)
            if not self._stopping:
                ahead_s = LOOK_S if self._requests else min(3600.0, (self._planned_ms - now_ms) / 1000)
                self._woken.wait(ahead_s)
        return None

    def _may_begin(self, request: _Request, now_ms: int) -> bool:
        """What is asked on our own account after a gap or a start waits until what there is has been read."""
        if request.why not in {GAP, RESTART} or request.row is not None:
            return True
        return self._wiring.is_settled() or now_ms - self._started_at_ms > self._wiring.max_hold_ms

    def _do(self, work: Callable[[Any], T]) -> T:
        """Inside a transaction of the writer's."""
        found: T = self._wiring.submit(work).result()
        return found

    def _sweep(self, request: _Request) -> None:
        """See the module's steps."""
        sweep = self._begin(request)
        if sweep is None:
            return
        log.info(
            Event.SWEEP_RESUMED if request.row is not None else Event.SWEEP_STARTED,
            sweep=sweep.number,
            why=sweep.why,
            clients=len(sweep.left),
        )
        problem: str | None = None
        for _ in range(PASSES):
            problem = self._pass(sweep)
            if problem is not None or not sweep.upcoming():
                break
        if self._stopping:
            return
        self._end(sweep, problem)

    def _begin(self, request: _Request) -> Sweep | None:
        wiring, row = self._wiring, request.row
        now_ms = self._clock.now_ms()
        if row is not None and request.sweep is None:  # a dry run: whoever wanted to know has gone
            self._do(lambda connection: self._store.finish_reconciliation(row.id, now_ms))
            return None
        if request.sweep is not None:
            sweep = request.sweep
            self._do(lambda connection: self._store.write_reconciliation_total(sweep.number, sweep.total))
        else:
            clients = wiring.clients(request.scope, None)
            number = self._do(lambda connection: self._write_down(request, now_ms, len(clients)))
            sweep = Sweep(number, request.why, now_ms, clients)
        sweep.begun_ms = now_ms
        with self._judging.lock:
            self._judging.sweep = sweep
        for told in request.told:
            if told.set_running_or_notify_cancel():
                told.set_result(sweep.number)
        request.told.clear()
        return sweep

    def _write_down(self, request: _Request, now_ms: int, total: int) -> int:
        if request.why == SCHEDULE:
            self._store.write_meta(PLANNED, str(now_ms))
        if request.why == GAP and request.scope is not None:
            noted_ms = max(gap["noted_at"] for gap in request.scope["gaps"])
            self._store.write_meta(GAPS_SWEPT, str(noted_ms))
        return self._store.begin_reconciliation(request.why, request.scope, now_ms, total)

    def remember_alive(self) -> None:
        """Inside a transaction: the engine is at work now; and where the schedule began, when it was never begun."""
        now = str(self._clock.now_ms())
        self._store.write_meta(ALIVE, now)
        if self._plan.ticks is not None and self._store.meta(PLANNED) is None:
            self._store.write_meta(PLANNED, now)

    # One pass

    def _pass(self, sweep: Sweep) -> str | None:
        """Ask those who are left, and wait until all answers and confirmations are final. Why it cannot go on, or None."""
        why = DRY_RUN if sweep.is_dry else SWEEP
        with self._judging.lock:
            clients = sweep.upcoming()
        for client in clients:
            with self._judging.lock:
                is_left = client in sweep.left and client not in sweep.confirming
            if not is_left:
                continue  # asked for another reason meanwhile
            if (problem := self._wait(sweep, lambda: self._out < WINDOW)) is not None or self._stopping:
                return problem
            self._give(sweep, client, why)
        if (problem := self._wait(sweep, lambda: self._out == 0)) is not None or self._stopping:
            return problem
        due_ms = self._clock.now_ms() + self._wiring.confirm_after_ms + CONFIRMED_WITHIN_MS
        return self._wait(sweep, lambda: not sweep.confirming or self._clock.now_ms() > due_ms)

    def _wait(self, sweep: Sweep, holds: Callable[[], bool]) -> str | None:
        """Until something holds, or asking turns out to be impossible (why, then), or we are stopped."""
        begun_ms = sweep.begun_ms
        while True:
            if sweep.is_dry:
                self._dry_run.count(sweep)
            with self._woken:
                if self._stopping or holds():
                    return None
                if not self._asker.is_hopeless_since(begun_ms) and self._asker.failing_for_ms(begun_ms) <= GIVE_UP_MS:
                    self._woken.wait(LOOK_S)
                    continue
            problem = self._asker.trouble
            self._asker.drop(DRY_RUN if sweep.is_dry else SWEEP)
            return problem or "asking fails"

    def _give(self, sweep: Sweep, client: str, why: str, at_ms: int = 0) -> None:
        with self._woken:
            self._out += 1
        self._asker.ask(client, why, at_ms).add_done_callback(lambda done: self._came_back(sweep, client, done))

    def _came_back(self, sweep: Sweep, client: str, done: Future[Verdict]) -> None:
        """In whichever thread the verdict comes."""
        if sweep.is_dry and not done.cancelled() and not self._dry_run.take(sweep, client, done.result()):
            self._give(sweep, client, DRY_RUN, self._clock.now_ms() + self._wiring.confirm_after_ms)
        with self._woken:
            self._out -= 1
            self._woken.notify_all()

    def _rest(self, seconds: float) -> None:
        with self._woken:
            if not self._stopping:
                self._woken.wait(seconds)

    def _end(self, sweep: Sweep, problem: str | None) -> None:
        """Count the rest, and end it."""
        if sweep.is_dry:
            self._dry_run.count(sweep)
        with self._judging.lock:
            self._judging.sweep = None  # whatever is answered now belongs to no sweep any more
        self._let_commit(sweep)
        with self._judging.lock:
            rest = sweep.rest(problem)
        now_ms = self._clock.now_ms()
        while not self._stopping:
            with contextlib.suppress(StoreError):
                self._do(lambda connection: self._finish(sweep.number, rest, now_ms))
                break
            self._rest(LOOK_S)
        sweep.end(rest)
        self.swept += 1
        tally = sweep.tally
        told: dict[str, Any] = {"problem": problem} if problem else {}
        log.info(Event.SWEEP_FINISHED, sweep=sweep.number, why=sweep.why, **tally._asdict(), **told)

    def _let_commit(self, sweep: Sweep) -> None:
        """Wait for a transaction that counts answers for the sweep: who is in it is not left."""
        until_ms = self._clock.now_ms() + COMMITTED_WITHIN_MS
        while self._judging.is_in_hand(sweep) and not self._stopping and self._clock.now_ms() < until_ms:
            self._rest(LOOK_S)

    def _finish(self, number: int, rest: Tally, now_ms: int) -> None:
        self._store.count_reconciliation(number, rest)
        self._store.finish_reconciliation(number, now_ms)
