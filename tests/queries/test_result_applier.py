"""A sweep's counters and those of the store are the same, whatever happens between a transaction and its commit."""

from __future__ import annotations

from engine.core.presence.query import VERIFY, StatusAnswer
from engine.queries.current_sweep import CurrentSweep
from engine.queries.queue import SWEEP
from engine.queries.result_applier import ResultApplier
from engine.queries.results import QueryResult
from engine.queries.sweep import Sweep
from tests.queries.memory import AgreeingFleet, SweepStore


def result(client: str, why: str) -> QueryResult:
    """A result with one connection."""
    return QueryResult(StatusAnswer(client, 1, 2, 1), why)


def test_what_was_applied_before_a_sweep_started_does_not_count_for_it_when_it_commits_afterwards() -> None:
    store, current = SweepStore(), CurrentSweep()
    store.begin_reconciliation("operator", None, 0, 2)
    applier = ResultApplier(AgreeingFleet(), store, current)
    applier.apply([result("a", VERIFY)])
    sweep = Sweep(1, "operator", 0, ["a", "b"])
    current.set(sweep)
    applier.committed()
    assert list(sweep.remaining) == ["a", "b"]
    applier.apply([result("a", SWEEP), result("b", SWEEP)])
    assert applier.has_uncommitted(sweep)
    applier.committed()
    assert not applier.has_uncommitted(sweep)
    assert (list(sweep.remaining), sweep.tally.asked, store.rows[1].tally.asked) == ([], 2, 2)
