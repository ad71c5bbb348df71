"""The synchronous status query of a replica with several cells: each cell queries for its own clients. Read `JoinedQueries`."""

from __future__ import annotations

from collections.abc import Callable

from engine.core.presence.query import StatusAnswer
from engine.runtime.replica_cells import ReplicaCells, added
from engine.runtime.status_queries import QueryService
from engine.web.service import QueryNumbers


class JoinedQueries:
    """The queries of all cells as one; see `web.service.StatusQueries`. Every cell has some, or none has."""

    def __init__(self, cells: ReplicaCells) -> None:
        self._cells = cells

    def _all(self) -> list[QueryService]:
        return [cell.queries for cell in self._cells.all() if cell.queries is not None]

    async def verify(self, client: str) -> StatusAnswer | None:
        """Query one client now; by any cell, where it belongs to another replica."""
        cell = self._cells.of(client) or self._cells.first
        assert cell.queries is not None
        return await cell.queries.verify(client)

    @property
    def trouble(self) -> str | None:
        """Why queries get no answers in one of the cells."""
        return next((one.trouble for one in self._all() if one.trouble is not None), None)

    def numbers(self) -> QueryNumbers:
        """The sums of all cells."""
        found = [one.numbers() for one in self._all()]

        def total(of: Callable[[QueryNumbers], int]) -> int:
            return sum(of(one) for one in found)

        return QueryNumbers(
            calls=total(lambda one: one.calls),
            throttled=total(lambda one: one.throttled),
            failures=total(lambda one: one.failures),
            outcomes=added(one.outcomes for one in found),
            verdicts=added(one.verdicts for one in found),
            waiting=total(lambda one: one.waiting),
            trouble=self.trouble,
            corrections=total(lambda one: one.corrections),
            sweeps=total(lambda one: one.sweeps),
            sweep_total=total(lambda one: one.sweep_total),
            sweep_asked=total(lambda one: one.sweep_asked),
            stale=total(lambda one: one.stale),
            avoided=total(lambda one: one.avoided),
        )
