"""Sweeps with a real scheduler and reconciler over a store in memory, and what they log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.clock import SystemClock
from engine.core.times import FOREVER
from engine.queries.current_sweep import CurrentSweep
from engine.queries.dry_run import DryRun
from engine.queries.queue import DRY_RUN
from engine.queries.reconciler import Reconciler
from engine.queries.result_applier import ResultApplier
from engine.queries.results import ResultWriter
from engine.queries.scheduler import QueryScheduler
from engine.queries.sweep_records import ALIVE, GAPS_SWEPT, PLANNED, Scope, SweepRecords
from engine.queries.sweep_requests import SweepSchedule
from engine.queries.sweep_runner import SweepRunner
from engine.sources.base import Gap
from engine.status.budget import Budget
from engine.stores.base import ReconciliationRow, Tally
from tests.acceptance.service import PATIENCE_S, eventually
from tests.queries.conftest import Lines
from tests.queries.memory import AgreeingFleet, InlineWriter, SweepStore
from tests.queries.test_scheduler import Beliefs, ScriptedProvider


class Ticking:
    """A schedule that is due again after an hour."""

    def next_after(self, at_ms: int) -> int:
        return at_ms + 3_600_000


class Sweeps:
    """A reconciler and what it works on."""

    def __init__(self, provider: ScriptedProvider, clients: Sequence[str], refuses: int) -> None:
        self.store, self.writer, self.scopes = SweepStore(), InlineWriter(), list[Scope | None]()
        self._clients = clients
        clock, current = SystemClock(), CurrentSweep()
        self.applier = ResultApplier(AgreeingFleet(), self.store, current)
        self.scheduler = QueryScheduler(
            provider, Budget(300), clock, Beliefs(), ResultWriter(self.writer.submit, self.applier),
            rate=300, retries=0, retry_first_ms=5,
        )  # fmt: skip
        records = SweepRecords(self.store, self.writer.submit)
        dry_run = DryRun(current, records, lambda client: None)
        runner = SweepRunner(self.scheduler, self.applier, dry_run, records, current, clock, confirm_after_ms=5)
        self.reconciler = Reconciler(
            runner, records, current, clock, SweepSchedule(ticks=Ticking()),
            clients=self._of_scope, has_caught_up=lambda: True, max_hold_ms=0,
        )  # fmt: skip
        self.writer.refuses = refuses

    def _of_scope(self, scope: Scope | None, since_ms: int | None) -> Sequence[str]:
        self.scopes.append(scope)
        return self._clients

    def ended(self, number: int) -> ReconciliationRow:
        """A sweep, once it has ended."""
        return eventually(lambda: self.store.rows[number], lambda row: row.finished_at_ms is not None)


@contextmanager
def sweeping(
    provider: ScriptedProvider,
    *clients: str,
    refuses: int = 0,
    before: Callable[[Sweeps], None] = lambda sweeps: None,
) -> Iterator[Sweeps]:
    """A running reconciler; `before` prepares its store, as a service before left it."""
    sweeps = Sweeps(provider, clients, refuses)
    before(sweeps)
    sweeps.scheduler.start()
    sweeps.reconciler.start()
    try:
        yield sweeps
    finally:
        sweeps.reconciler.stop()
        sweeps.scheduler.stop()


def test_a_sweep_is_logged_when_it_starts_and_when_it_ends(log: Lines) -> None:
    with sweeping(ScriptedProvider(b=None), "a", "b") as sweeps:
        number = sweeps.reconciler.request().result(PATIENCE_S)
        assert sweeps.ended(number).tally == Tally(asked=2, agreed=2)
        (begun,) = log("sweep.begun")
        assert (begun["sweep"], begun["why"], begun["clients"]) == (number, "operator", 2)
        (done,) = eventually(lambda: log("sweep.done"))
        assert (done["sweep"], done["asked"], done["agreed"]) == (number, 2, 2)
        eventually(lambda: sweeps.reconciler.finished, lambda count: count == 1)


def test_a_sweep_of_the_process_before_goes_on_and_a_dry_run_does_not(log: Lines) -> None:
    def left_open(sweeps: Sweeps) -> None:
        sweeps.store.begin_reconciliation("operator", None, 1, 7)
        sweeps.store.count_reconciliation(1, Tally(asked=5, agreed=5))
        sweeps.store.begin_reconciliation(DRY_RUN, None, 2, 7)
        sweeps.reconciler.recover([], FOREVER)

    with sweeping(ScriptedProvider(), "a", "b", before=left_open) as sweeps:
        assert sweeps.ended(1).tally == Tally(asked=7, agreed=7)
        assert sweeps.ended(2).tally == Tally()
        (resumed,) = log("sweep.resumed")
        assert (resumed["sweep"], resumed["clients"]) == (1, 2)


def test_a_sweep_that_cannot_be_stored_is_tried_again_and_that_is_logged(log: Lines) -> None:
    with sweeping(ScriptedProvider(), "a", refuses=1) as sweeps:
        assert sweeps.reconciler.request().result(PATIENCE_S) == 1
        assert sweeps.ended(1).tally.agreed == 1
        (failed,) = log("task.failed")
        assert (failed["task"], failed["error"]) == ("reconciler", "the disk is full")


def test_an_unexpected_error_in_a_sweep_is_logged_and_the_next_one_runs(log: Lines) -> None:
    with sweeping(ScriptedProvider(), "a") as sweeps:
        broken: list[Any] = [ZeroDivisionError("oh")]
        found = sweeps.store.begin_reconciliation

        def begin(*given: Any) -> int:
            if broken:
                raise broken.pop()
            return found(*given)

        sweeps.store.begin_reconciliation = begin  # type: ignore[method-assign, assignment]
        sweeps.reconciler.request()
        (line,) = eventually(lambda: log("internal.fault"))
        assert line["error"] == "ZeroDivisionError('oh')"
        assert sweeps.ended(sweeps.reconciler.request().result(PATIENCE_S)).tally.agreed == 1


def test_gaps_are_swept_for_once_and_a_missed_run_is_made_up_for() -> None:
    gap = Gap(source="log", noted_at_ms=50, from_ms=None, to_ms=40, reason="rotated")
    old = Gap(source="log", noted_at_ms=20, from_ms=None, to_ms=10, reason="rotated")

    def remembered(sweeps: Sweeps) -> None:
        sweeps.store.remembered = {GAPS_SWEPT: "20", PLANNED: "0", ALIVE: "0"}
        sweeps.reconciler.recover([gap, old], FOREVER)

    with sweeping(ScriptedProvider(), "a", before=remembered) as sweeps:
        eventually(lambda: sweeps.reconciler.finished, lambda count: count == 2)
        assert [row.why for row in sweeps.store.rows.values()] == ["gap", "schedule"]
        assert sweeps.scopes == [{"gaps": [{"source": "log", "from": None, "to": 40, "noted_at": 50}]}, None]
        assert sweeps.store.remembered[GAPS_SWEPT] == "50"
        assert int(sweeps.store.remembered[PLANNED]) > 0


def test_a_stop_leaves_the_sweep_open_and_cancels_what_waits() -> None:
    with sweeping(ScriptedProvider(batch_size=1), *(f"d{n}" for n in range(2_000))) as sweeps:
        number = sweeps.reconciler.request().result(PATIENCE_S)
        waiting = sweeps.reconciler.request(DRY_RUN)
        sweeps.reconciler.stop()
        assert waiting.cancelled() and sweeps.reconciler.request().cancelled()
        assert sweeps.store.rows[number].finished_at_ms is None
