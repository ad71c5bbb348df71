"""A sweep's counters and those of the store are the same, whatever happens between a transaction and its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.presence.query import AGREED, VERIFY, StatusAnswer
from engine.queries.current_sweep import CurrentSweep
from engine.queries.queue import SWEEP
from engine.queries.result_applier import ResultApplier
from engine.queries.results import QueryResult
from engine.queries.sweep import Sweep
from engine.stores.base import NewCorrection, ReconciliationRow, Tally


class AgreeingFleet:
    """A fleet that agrees with every answer."""

    clock_ms = 0

    def state_of(self, client: str) -> ClientState:
        return NEW_CLIENT

    def answer(self, answer: StatusAnswer, now_ms: int) -> str:
        return AGREED


class Counters:
    """A store that counts."""

    def __init__(self) -> None:
        self.asked = 0

    def count_reconciliation(self, number: int, more: Tally) -> None:
        self.asked += more.asked

    def write_corrections(self, corrections: Sequence[NewCorrection]) -> None:
        raise AssertionError("nothing was corrected")

    def meta(self, key: str) -> str | None:
        raise NotImplementedError

    def write_meta(self, key: str, value: str) -> None:
        raise NotImplementedError

    def begin_reconciliation(self, why: str, scope: Mapping[str, Any] | None, started_at_ms: int, total: int) -> int:
        raise NotImplementedError

    def write_reconciliation_total(self, number: int, total: int) -> None:
        raise NotImplementedError

    def finish_reconciliation(self, number: int, finished_at_ms: int) -> None:
        raise NotImplementedError

    def open_reconciliations(self) -> list[ReconciliationRow]:
        raise NotImplementedError


def result(client: str, why: str) -> QueryResult:
    """A result with one connection."""
    return QueryResult(StatusAnswer(client, 1, 2, 1), why)


def test_what_was_applied_before_a_sweep_started_does_not_count_for_it_when_it_commits_afterwards() -> None:
    records, current = Counters(), CurrentSweep()
    applier = ResultApplier(AgreeingFleet(), records, current)
    applier.apply([result("a", VERIFY)])
    sweep = Sweep(1, "operator", 0, ["a", "b"])
    current.set(sweep)
    applier.committed()
    assert list(sweep.remaining) == ["a", "b"]
    applier.apply([result("a", SWEEP), result("b", SWEEP)])
    assert applier.has_uncommitted(sweep)
    applier.committed()
    assert not applier.has_uncommitted(sweep)
    assert (list(sweep.remaining), sweep.tally.asked, records.asked) == ([], 2, 2)
