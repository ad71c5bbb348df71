"""The books of a sweep and the store's counters say the same, whatever happens between a transaction and its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.presence.query import AGREED, VERIFY, StatusAnswer
from engine.queries.queue import SWEEP
from engine.queries.result_applier import Judging
from engine.queries.results import Asked, Verdict
from engine.queries.sweep import Sweep
from engine.stores.base import NewCorrection, ReconciliationRow, Tally


class Believing:
    """A fleet that agrees with every answer."""

    clock_ms = 0

    def state_of(self, client: str) -> ClientState:
        return NEW_CLIENT

    def answer(self, answer: StatusAnswer, now_ms: int) -> str:
        return AGREED


class Books:
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


def asked(client: str, why: str) -> Asked:
    """An answer."""
    return Asked(StatusAnswer(client, 1, 2, 1), why)


def test_what_was_judged_before_a_sweep_began_does_not_count_for_it_when_it_commits_afterwards() -> None:
    books = Books()
    judging = Judging(Believing(), books)
    early = asked("a", VERIFY)
    (verdict,) = judging.judge([early])
    judging.sweep = Sweep(1, "operator", 0, ["a", "b"])
    judging.judged([Verdict(early, verdict)])
    assert list(judging.sweep.left) == ["a", "b"]
    late = [asked("a", SWEEP), asked("b", SWEEP)]
    judging.judged([Verdict(one, said) for one, said in zip(late, judging.judge(late), strict=True)])
    assert (list(judging.sweep.left), judging.sweep.tally.asked, books.asked) == ([], 2, 2)
