"""Decides which sweep runs next. Read `Reconciler.request`, then `_run_next`.

Sweeps come from the schedule, from operators, from gaps of a source and from starts after a long stop. One runs at a time; what is
requested meanwhile waits, once a kind. A sweep, in steps:

1. its clients are chosen and it is stored: from here on a restart goes on with it;
2. `SweepRunner` queries the clients and ends it.

Its thread sleeps until there is something to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future

from engine.clock import Clock, SteadyClock
from engine.core.times import FOREVER
from engine.errors import StoreError
from engine.queries.current_sweep import CurrentSweep, Progress
from engine.queries.queue import DRY_RUN
from engine.queries.sweep import Sweep
from engine.queries.sweep_records import Scope, SweepRecords
from engine.queries.sweep_requests import (
    GAP,
    OPERATOR_SWEEP,
    RESTART,
    SCHEDULE,
    SweepRequest,
    SweepRequests,
    SweepSchedule,
)
from engine.queries.sweep_runner import POLL_S, SweepRunner
from engine.sources.base import Gap
from engine.stores.base import ReconciliationRow
from engine.telemetry import Event, logger

log = logger(__name__)

LONGEST_SLEEP_S = 3600.0
"""The schedule is looked at so often at least: clocks are set, and summer time begins."""


class Reconciler:
    """Runs sweeps when they are due or requested: `recover`, `start`, `request`, `note_gap`, `stop`."""

    def __init__(
        self,
        runner: SweepRunner,
        records: SweepRecords,
        current: CurrentSweep,
        clock: Clock,
        schedule: SweepSchedule,
        *,
        clients: Callable[[Scope | None, int | None], Sequence[str]],
        has_caught_up: Callable[[], bool],
        max_hold_ms: int,
    ) -> None:
        """`clients`: a sweep's clients, most urgent first; see `FleetView.clients_to_query`.

        `has_caught_up`: have all sources been read up to the start? Sweeps after a gap or a restart wait for that, but for no
        longer than `max_hold_ms`, so that queries do not overtake events that wait to be read.
        """
        self.finished = 0  # sweeps since the start
        self._runner, self._records, self._current = runner, records, current
        self._clock, self._schedule = clock, schedule
        self._clients, self._has_caught_up, self._max_hold_ms = clients, has_caught_up, max_hold_ms
        self._woken = threading.Condition()
        self._requests = SweepRequests()
        self._is_sweeping = False
        self._stopping = False
        self._next_scheduled_ms = FOREVER
        self._steady = SteadyClock(clock)
        self._started_at_ms = self._steady.now_ms()
        self._shifted_ms = self._steady.shifted_ms  # the steps of the clock that the next planned run has taken
        self._thread = threading.Thread(target=self._work, name="reconciler", daemon=True)

    # Start and stop

    def recover(self, gaps: Sequence[Gap], max_lag_ms: int) -> None:
        """Queue what a stop left to do: open sweeps, missed runs of the schedule, gaps, and the stop itself if it was long.

        Called when the states are loaded, before anything starts. `gaps`: those known to the store, newest first; `max_lag_ms`:
        a longer stop is swept for.
        """
        now_ms = self._clock.now_ms()
        for row in self._records.open_sweeps():
            self._requests.add_resumed(self._resumed(row))
        swept_ms = self._records.gaps_swept_ms()
        for gap in reversed(gaps):
            if gap.noted_at_ms > swept_ms:
                self.note_gap(gap)
        alive_ms = self._records.alive_ms()
        if alive_ms and now_ms - alive_ms > max_lag_ms:
            stop = {"source": None, "from": alive_ms, "to": now_ms, "noted_at": now_ms}
            self._requests.add(SweepRequest(why=RESTART, scope={"gaps": [stop]}))
        self._next_scheduled_ms = self._schedule.first_ms(self._records.planned_ms(), now_ms)

    def _resumed(self, row: ReconciliationRow) -> SweepRequest:
        """A stored sweep as a request. Results count for the first of them from now on."""
        request = SweepRequest(why=row.why, scope=dict(row.scope) if row.scope else None, row=row)
        if row.why != DRY_RUN and self._current.sweep is None:
            clients = self._clients(request.scope, row.started_at_ms)
            request.sweep = Sweep(row.id, row.why, row.started_at_ms, clients, row.tally)
            self._current.set(request.sweep)
        return request

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, within_s: float = 2.0) -> None:
        """Leave a sweep where it is: the next start goes on with it."""
        with self._woken:
            self._stopping = True
            self._woken.notify_all()
            waiting = self._requests.clear()
        self._runner.stop()
        for request in waiting:
            for waiter in request.waiters:
                waiter.cancel()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def ended_threads(self) -> list[str]:
        """The name of its thread when that has ended although it was not stopped."""
        is_over = self._thread.ident is not None and not self._thread.is_alive() and not self._stopping
        return [self._thread.name] if is_over else []

    def remember_alive(self) -> None:
        """Inside a transaction of the writer: the engine is at work now."""
        self._records.remember_alive(self._clock.now_ms(), has_schedule=self._schedule.ticks is not None)

    # From other threads

    def request(self, why: str = OPERATOR_SWEEP) -> Future[int]:
        """Request a sweep through every client. The future is its number, once it has started; cancelled by a stop."""
        waiter: Future[int] = Future()
        with self._woken:
            if self._stopping:
                waiter.cancel()
                return waiter
            self._requests.add(SweepRequest(why=why, waiters=[waiter]))
            self._woken.notify_all()
        return waiter

    def note_gap(self, gap: Gap) -> None:
        """Request a sweep through the clients that a gap may concern."""
        found = {"source": gap.source, "from": gap.from_ms, "to": gap.to_ms, "noted_at": gap.noted_at_ms}
        with self._woken:
            self._requests.add(SweepRequest(why=GAP, scope={"gaps": [found]}))
            self._woken.notify_all()

    @property
    def is_sweeping(self) -> bool:
        """Does a sweep run?"""
        return self._is_sweeping

    def progress(self) -> Progress | None:
        """How far the running sweep is; None: there is none."""
        return self._current.progress()

    # The reconciler's thread

    def _work(self) -> None:
        while not self._stopping:
            try:
                request = self._next()
            except Exception as error:  # the thread must not be lost
                log.error(Event.INTERNAL_ERROR, part="reconciler", exc_info=error)
                self._pause()
                continue
            if request is not None:
                self._run_next(request)

    def _next(self) -> SweepRequest | None:
        """The next sweep that may start. Waits for a while when there is none, and returns None."""
        now_ms = self._clock.now_ms()
        if self._steady.shifted_ms != self._shifted_ms:  # a schedule goes by the wall clock
            self._shifted_ms = self._steady.shifted_ms
            self._next_scheduled_ms = min(self._next_scheduled_ms, self._schedule.next_ms(now_ms))
        with self._woken:
            if self._next_scheduled_ms <= now_ms:
                self._next_scheduled_ms = self._schedule.next_ms(now_ms)
                self._requests.add(SweepRequest(why=SCHEDULE))
            request = self._requests.take(lambda request: self._may_start(request, now_ms))
            if request is not None:
                self._is_sweeping = True
            elif not self._stopping:
                until_planned_s = (self._next_scheduled_ms - now_ms) / 1000
                self._woken.wait(POLL_S if self._requests else min(LONGEST_SLEEP_S, until_planned_s))
        return request

    def _may_start(self, request: SweepRequest, now_ms: int) -> bool:
        """A sweep after a gap or a restart waits until the sources have caught up, unless it has started before."""
        if request.why not in {GAP, RESTART} or request.row is not None:
            return True
        return self._has_caught_up() or self._steady.now_ms() - self._started_at_ms > self._max_hold_ms

    def _run_next(self, request: SweepRequest) -> None:
        """Run one sweep. When the store fails it is queued again."""
        try:
            sweep = self._start_sweep(request)
            if sweep is not None and self._runner.run(sweep):
                self.finished += 1
        except (StoreError, CancelledError) as error:
            if not self._stopping:
                with self._woken:
                    self._requests.put_back(request)
                log.error(Event.TASK_FAILED, task="reconciler", error=str(error))
                self._pause()
        except Exception as error:  # the next sweep may succeed
            log.error(Event.INTERNAL_ERROR, exc_info=error)
            self._pause()
        finally:
            if not self._stopping:  # else results that still come are counted, because the next start goes on with it
                with self._woken:
                    self._current.set(request.sweep if request in self._requests else None)
            self._is_sweeping = False

    def _start_sweep(self, request: SweepRequest) -> Sweep | None:
        """Store the sweep, make it the current one, and tell its number to everyone who waits. None: it is not to be run."""
        row = request.row
        now_ms = self._clock.now_ms()
        if row is not None and request.sweep is None:  # of a dry run before a restart: nobody waits for its report
            self._records.abandon(row.id, now_ms)
            return None
        if request.sweep is not None:
            sweep = request.sweep
            self._records.resume(sweep.number, sweep.total)
        else:
            sweep = self._new_sweep(request, now_ms)
        sweep.running_since_ms = self._steady.now_ms()
        self._current.set(sweep)
        for waiter in request.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(sweep.number)
        request.waiters.clear()
        event = Event.SWEEP_RESUMED if row is not None else Event.SWEEP_STARTED
        log.info(event, sweep=sweep.number, why=sweep.why, clients=len(sweep.remaining))
        return sweep

    def _new_sweep(self, request: SweepRequest, now_ms: int) -> Sweep:
        clients = self._clients(request.scope, None)
        gaps_to_ms = max((gap["noted_at"] for gap in request.gaps), default=None) if request.why == GAP else None
        number = self._records.start(
            request.why,
            request.scope,
            now_ms,
            len(clients),
            is_planned=request.why == SCHEDULE,
            gaps_to_ms=gaps_to_ms,
        )
        return Sweep(number, request.why, now_ms, clients)

    def _pause(self) -> None:
        with self._woken:
            if not self._stopping:
                self._woken.wait(POLL_S)
