"""Runs one sweep from its first query to its end. Read `SweepRunner.run`.

1. Its clients are queued at the scheduler, at most `WINDOW` at a time; results are applied and counted by `ResultApplier`.
2. Clients without a final verdict are queried again, up to `PASSES` times in all.
3. When every confirmation is final, the remaining clients count as unknown or failed, and the sweep ends.

It ends early, and says so, when queries keep failing. Stopped, it leaves the sweep open: the next start goes on with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from engine.clock import Clock, SteadyClock
from engine.errors import StoreError
from engine.queries.current_sweep import CurrentSweep
from engine.queries.dry_run import DryRun
from engine.queries.queue import DRY_RUN, SWEEP
from engine.queries.result_applier import ResultApplier
from engine.queries.results import AppliedResult
from engine.queries.scheduler import QueryScheduler
from engine.queries.sweep import PASSES, Sweep
from engine.queries.sweep_records import SweepRecords
from engine.telemetry import Event, logger

log = logger(__name__)

WINDOW: Final = 1_000
"""At most so many clients of a sweep wait for their result at one time."""

GIVE_UP_MS: Final = 120_000
"""A sweep ends when queries have failed for so long; the next one starts from the beginning."""

CONFIRMED_WITHIN_MS: Final = 120_000
"""A confirmation that has not come so long after it was due is not waited for any more."""

COMMITTED_WITHIN_MS: Final = 60_000
"""A transaction that counts results is waited for so long: after that the writer has given the results up."""

POLL_S: Final = 1.0
"""How often a waiting sweep looks at the clock and at the scheduler when nothing wakes it."""


class SweepRunner:
    """Runs sweeps, one at a time, in the thread of its caller."""

    def __init__(
        self,
        scheduler: QueryScheduler,
        applier: ResultApplier,
        dry_run: DryRun,
        records: SweepRecords,
        current: CurrentSweep,
        clock: Clock,
        *,
        confirm_after_ms: int,
    ) -> None:
        """`confirm_after_ms`: how long after a contradiction the client is queried again."""
        self._scheduler, self._applier, self._dry_run = scheduler, applier, dry_run
        self._records, self._current, self._clock = records, current, clock
        self._steady = SteadyClock(clock)
        self._confirm_after_ms = confirm_after_ms
        self._pending = 0  # clients that wait for their result
        self._stopping = False

    def run(self, sweep: Sweep) -> bool:
        """Run the current sweep to its end. Returns whether it ended; False: stopped before. Raises StoreError."""
        problem: str | None = None
        for _ in range(PASSES):
            problem = self._pass(sweep)
            if problem is not None or not sweep.to_query():
                break
        if self._stopping:
            return False
        self._finish(sweep, problem)
        return True

    def stop(self) -> None:
        """Leave the sweep where it is; `run` returns soon."""
        with self._current.changed:
            self._stopping = True
            self._current.changed.notify_all()

    # One pass

    def _pass(self, sweep: Sweep) -> str | None:
        """Query the remaining clients, and wait for their final verdicts. Returns why queries fail for good; None: they do not."""
        with self._current.changed:
            clients = sweep.to_query()
        for client in clients:
            with self._current.changed:
                is_remaining = client in sweep.remaining and client not in sweep.confirming
            if not is_remaining:
                continue  # queried for another reason meanwhile
            problem = self._wait(sweep, lambda: self._pending < WINDOW)
            if problem is not None or self._stopping:
                return problem
            self._query(sweep, client)
        problem = self._wait(sweep, lambda: self._pending == 0)
        if problem is not None or self._stopping:
            return problem
        until_ms = self._steady.now_ms() + self._confirm_after_ms + CONFIRMED_WITHIN_MS
        return self._wait(sweep, lambda: not sweep.confirming or self._steady.now_ms() > until_ms)

    def _wait(self, sweep: Sweep, condition: Callable[[], bool]) -> str | None:
        """Wait until the condition holds or the runner is stopped (None), or queries fail for good (why, in words)."""
        while True:
            if sweep.is_dry_run:
                self._dry_run.count(sweep)
            with self._current.changed:
                if self._stopping or condition():
                    return None
                if not self._fails_for_good(sweep):
                    self._current.changed.wait(POLL_S)
                    continue
            problem = self._scheduler.problem
            self._scheduler.drop(_reason(sweep))
            return problem or "status queries fail"

    def _fails_for_good(self, sweep: Sweep) -> bool:
        since_ms = sweep.running_since_ms
        return self._scheduler.is_hopeless_since(since_ms) or self._scheduler.failing_for_ms(since_ms) > GIVE_UP_MS

    def _query(self, sweep: Sweep, client: str, at_ms: int = 0) -> None:
        with self._current.changed:
            self._pending += 1
        done = self._scheduler.query(client, _reason(sweep), at_ms)
        done.add_done_callback(lambda done: self._answered(sweep, done))

    def _answered(self, sweep: Sweep, done: Future[AppliedResult]) -> None:
        """A result has come or was cancelled; in any thread."""
        if sweep.is_dry_run and not done.cancelled():
            result = done.result().result
            if not self._dry_run.take(sweep, result):
                self._query(sweep, result.answer.client, self._steady.now_ms() + self._confirm_after_ms)
        with self._current.changed:
            self._pending -= 1
            self._current.changed.notify_all()

    # The end

    def _finish(self, sweep: Sweep, problem: str | None) -> None:
        """Count and store what remains. `problem`: why queries fail, when that ended the sweep."""
        if sweep.is_dry_run:
            self._dry_run.count(sweep)
        self._current.set(None)  # from here on results count for no sweep
        self._wait_for_commit(sweep)
        with self._current.changed:
            rest = sweep.tally_of_remaining(problem)
        now_ms = self._clock.now_ms()
        while not self._stopping:
            with contextlib.suppress(StoreError):
                self._records.finish(sweep.number, rest, now_ms)
                break
            self._pause()
        sweep.finish(rest)
        facts = {"problem": problem} if problem else {}
        log.info(Event.SWEEP_FINISHED, sweep=sweep.number, why=sweep.why, **sweep.tally._asdict(), **facts)

    def _wait_for_commit(self, sweep: Sweep) -> None:
        """Wait for a transaction that counts results of the sweep: its clients do not remain."""
        until_ms = self._steady.now_ms() + COMMITTED_WITHIN_MS
        while self._applier.has_uncommitted(sweep) and not self._stopping and self._steady.now_ms() < until_ms:
            self._pause()

    def _pause(self) -> None:
        with self._current.changed:
            if not self._stopping:
                self._current.changed.wait(POLL_S)


def _reason(sweep: Sweep) -> str:
    return DRY_RUN if sweep.is_dry_run else SWEEP
