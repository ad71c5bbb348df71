"""A store of sweeps, a writer and a fleet in memory, for tests without a service."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.presence.query import AGREED, StatusAnswer
from engine.errors import StoreError
from engine.stores.base import NewCorrection, ReconciliationRow, Tally


class AgreeingFleet:
    """A fleet that agrees with every answer."""

    clock_ms = 0

    def state_of(self, client: str) -> ClientState:
        """Nothing is known."""
        return NEW_CLIENT

    def answer(self, answer: StatusAnswer, now_ms: int) -> str:
        """It is as was believed."""
        return AGREED


class SweepStore:
    """What a store keeps of sweeps."""

    def __init__(self) -> None:
        self.rows: dict[int, ReconciliationRow] = {}
        self.corrections: list[NewCorrection] = []
        self.remembered: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def begin_reconciliation(self, why: str, scope: Mapping[str, Any] | None, started_at_ms: int, total: int) -> int:
        """A sweep begins; its number."""
        number = next(self._numbers)
        self.rows[number] = ReconciliationRow(
            id=number,
            why=why,
            scope=scope,
            started_at_ms=started_at_ms,
            finished_at_ms=None,
            total=total,
            tally=Tally(),
        )
        return number

    def count_reconciliation(self, number: int, more: Tally) -> None:
        """So many more clients have their final answer."""
        tally = Tally(*map(sum, zip(self.rows[number].tally, more, strict=True)))
        self.rows[number] = replace(self.rows[number], tally=tally)

    def write_reconciliation_total(self, number: int, total: int) -> None:
        """How many clients it is about."""
        self.rows[number] = replace(self.rows[number], total=total)

    def finish_reconciliation(self, number: int, finished_at_ms: int) -> None:
        """A sweep has ended."""
        self.rows[number] = replace(self.rows[number], finished_at_ms=finished_at_ms)

    def open_reconciliations(self) -> list[ReconciliationRow]:
        """Sweeps that have not ended, oldest first."""
        return [row for row in self.rows.values() if row.finished_at_ms is None]

    def write_corrections(self, corrections: Sequence[NewCorrection]) -> None:
        """Record what was corrected."""
        self.corrections += corrections

    def meta(self, key: str) -> str | None:
        """One remembered value."""
        return self.remembered.get(key)

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        self.remembered[key] = value


class InlineWriter:
    """Runs each piece of work at once, in the caller's thread; the first `refuses` fail before they run."""

    def __init__(self, refuses: int = 0) -> None:
        self.refuses = refuses

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """The result of the work."""
        done: Future[Any] = Future()
        if self.refuses:
            self.refuses -= 1
            done.set_exception(StoreError("the disk is full"))
        else:
            done.set_result(work())
        return done
