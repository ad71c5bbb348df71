"""What a store keeps of sweeps: which are open, their counters, and the instants that a restart needs. Read `SweepRecords`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from engine.stores.base import NewCorrection, ReconciliationRow, Sweeps, Tally

T = TypeVar("T")

ALIVE: Final = "alive_at"
"""Remembered value: the newest instant at which the engine was at work; it tells how long a stop was."""
PLANNED: Final = "reconcile_planned"
"""Remembered value: runs of the schedule up to this instant have started or were skipped."""
GAPS_SWEPT: Final = "gaps_swept"
"""Remembered value: gaps found up to this instant have had their sweep."""

Scope = Mapping[str, Any]
"""What a sweep is limited to: `{"gaps": [{"source", "from", "to", "noted_at"}]}`, instants in epoch ms. None: every client."""


class SweepRecords:
    """The sweeps' side of the store. Each verb is one transaction of the writer, unless it says otherwise.

    All raise StoreError when the transaction fails, and CancelledError when the writer has stopped.
    """

    def __init__(self, store: Sweeps, submit: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        """`submit`: runs work inside a transaction of the writer, in its thread."""
        self._store, self._submit = store, submit

    # Before the writer starts

    def open_sweeps(self) -> Sequence[ReconciliationRow]:
        """Sweeps that have not ended, oldest first."""
        return self._store.open_reconciliations()

    def alive_ms(self) -> int | None:
        """When the engine was at work last; None: never."""
        return self._instant(ALIVE)

    def planned_ms(self) -> int | None:
        """Up to which instant the schedule has been followed; None: it was never started."""
        return self._instant(PLANNED)

    def gaps_swept_ms(self) -> int:
        """Gaps found up to this instant have had their sweep."""
        return self._instant(GAPS_SWEPT) or 0

    # While a sweep runs

    def start(
        self, why: str, scope: Scope | None, now_ms: int, total: int, *, is_planned: bool, gaps_to_ms: int | None
    ) -> int:
        """A sweep starts; returns its number. `is_planned`: the schedule started it; `gaps_to_ms`: it covers gaps up to here."""

        def work() -> int:
            if is_planned:
                self._store.write_meta(PLANNED, str(now_ms))
            if gaps_to_ms is not None:
                self._store.write_meta(GAPS_SWEPT, str(gaps_to_ms))
            return self._store.begin_reconciliation(why, scope, now_ms, total)

        return self._transaction(work)

    def resume(self, number: int, total: int) -> None:
        """A sweep goes on after a restart; `total`: its clients, which may be others now."""
        self._transaction(lambda: self._store.write_reconciliation_total(number, total))

    def add(self, number: int, more: Tally, corrections: Sequence[NewCorrection]) -> None:
        """Clients of a dry run have their final verdict."""

        def work() -> None:
            if corrections:
                self._store.write_corrections(corrections)
            if more.asked:
                self._store.count_reconciliation(number, more)

        self._transaction(work)

    def finish(self, number: int, rest: Tally, now_ms: int) -> None:
        """A sweep has ended; `rest`: what its remaining clients count as."""

        def work() -> None:
            self._store.count_reconciliation(number, rest)
            self._store.finish_reconciliation(number, now_ms)

        self._transaction(work)

    def abandon(self, number: int, now_ms: int) -> None:
        """A sweep is not resumed, and ends as it is."""
        self._transaction(lambda: self._store.finish_reconciliation(number, now_ms))

    # Inside a transaction

    def remember_alive(self, now_ms: int, *, has_schedule: bool) -> None:
        """Inside a transaction: the engine is at work now. A schedule that was never started starts now."""
        self._store.write_meta(ALIVE, str(now_ms))
        if has_schedule and self._store.meta(PLANNED) is None:
            self._store.write_meta(PLANNED, str(now_ms))

    def _instant(self, key: str) -> int | None:
        found = self._store.meta(key)
        return None if found is None else int(found)

    def _transaction(self, work: Callable[[], T]) -> T:
        found: T = self._submit(work).result()
        return found
