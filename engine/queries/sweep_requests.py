"""Sweeps that wait for their turn: why, about which clients, and who waits for the sweep's number. Pure; read `SweepRequests`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from engine.core.rules import Ticks
from engine.core.times import FOREVER
from engine.queries.sweep import Sweep
from engine.stores.base import ReconciliationRow

SCHEDULE: Final = "schedule"
"""Why: the schedule of `reconcile` said so."""
OPERATOR_SWEEP: Final = "operator"
"""Why: an operator requested it."""
GAP: Final = "gap"
"""Why: messages of a source were lost."""
RESTART: Final = "restart"
"""Why: the engine was stopped for longer than `feed.max_lag`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSchedule:
    """When every client is queried. `ticks` None: never on its own; `catches_up`: a run that was missed is made up for, once."""

    ticks: Ticks | None = None
    catches_up: bool = True

    def first_ms(self, planned_ms: int | None, now_ms: int) -> int:
        """The first run after a start (epoch ms). `planned_ms`: up to when the schedule was followed before; None: never."""
        if self.ticks is None:
            return FOREVER
        due_ms = self.ticks.next_after(planned_ms) if planned_ms is not None else FOREVER
        return due_ms if due_ms <= now_ms and self.catches_up else self.ticks.next_after(now_ms)

    def next_ms(self, now_ms: int) -> int:
        """The next run after now (epoch ms)."""
        return FOREVER if self.ticks is None else self.ticks.next_after(now_ms)


@dataclass(slots=True, kw_only=True)
class SweepRequest:
    """A sweep that was requested, or one that goes on after a restart."""

    why: str
    scope: dict[str, Any] | None = None  # see `sweep_records.Scope`
    waiters: list[Future[int]] = field(default_factory=list)  # each gets the sweep's number when it has started
    row: ReconciliationRow | None = None  # the stored sweep that goes on
    sweep: Sweep | None = None  # it counts results from the moment the states are loaded, before its own queries start

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """The gaps that it is limited to; none: every client."""
        return [] if self.scope is None else self.scope.setdefault("gaps", [])

    def join(self, other: SweepRequest) -> None:
        """Take in another request of the same kind that has not started."""
        self.waiters += other.waiters
        if self.scope is not None:
            self.gaps.extend(gap for gap in other.gaps if gap not in self.gaps)


class SweepRequests:
    """Requests in the order of their turn; each kind waits once. Not safe between threads: callers hold a lock."""

    def __init__(self) -> None:
        self._waiting: list[SweepRequest] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request: SweepRequest) -> bool:
        return any(waiting is request for waiting in self._waiting)

    def add(self, request: SweepRequest) -> None:
        """Queue a request; one of its kind that waits already, and is not a resumed sweep, takes it in."""
        for waiting in self._waiting:
            if waiting.why == request.why and waiting.row is None:
                waiting.join(request)
                return
        self._waiting.append(request)

    def add_resumed(self, request: SweepRequest) -> None:
        """Queue a sweep that goes on after a restart."""
        self._waiting.append(request)

    def put_back(self, request: SweepRequest) -> None:
        """Queue a request again, before all others: it could not be carried out."""
        self._waiting.insert(0, request)

    def take(self, may_start: Callable[[SweepRequest], bool]) -> SweepRequest | None:
        """Remove and return the first request that may start; None: there is none."""
        for place, request in enumerate(self._waiting):
            if may_start(request):
                return self._waiting.pop(place)
        return None

    def clear(self) -> Sequence[SweepRequest]:
        """Remove all requests, and return them."""
        cleared, self._waiting = self._waiting, []
        return cleared
