"""What tests ask of a running service through its environment: to die at a place, to fail, and to write checkpoints sooner.

`app.build` asks `from_environment` once. Without these variables every hook is the one that does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from engine.core.fleet import Fleet
from engine.delivery.rendering import RenderRow

T = TypeVar("T")


class FaultForTests(RuntimeError):
    """Raised where `ROLLCALL_FAULT` asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failpoints:
    """Hooks of a service.

    `reached` is told of the places `before_commit`, `after_commit` and `checkpoint`; `checkpoint_events` and
    `checkpoint_slice` stand in for the writer's own, None: they do not.
    """

    reached: Callable[[str], None] = lambda place: None
    checkpoint_events: int | None = None
    checkpoint_slice: int | None = None
    fault: tuple[str, str] = ("", "")  # where to raise, and for which client

    def break_fleet(self, fleet: Fleet) -> None:
        """Make the fleet raise for a client: when an event of it is applied, or when a firing about it is planned."""
        where, victim = self.fault
        if where == "apply":  # an event begins a hold, and how long it is to be is asked
            holds = fleet.policy.offline_ms, fleet.policy.online_ms
            holds_of = _raising(lambda client: holds, lambda client: bool(client == victim))
            fleet.policy = replace(fleet.policy, holds_of=holds_of)
        elif where == "settle":  # a firing is planned, and what is known about its client is asked
            fleet.book.attributes = _raising(fleet.book.attributes, lambda client: client == victim)

    def break_rendering(self, render: RenderRow) -> RenderRow:
        """Rendering that raises for a delivery about a client."""
        where, victim = self.fault
        return _raising(render, lambda planned: planned.client == victim) if where == "render" else render


def from_environment(environment: Mapping[str, str] = os.environ) -> Failpoints:
    """What the environment asks for.

    `ROLLCALL_FAILPOINT=PLACE:N`: die as if the power had gone, the N-th time that the place is reached.
    `ROLLCALL_FAULT=apply:CLIENT`, `settle:CLIENT` or `render:CLIENT`: that raises for the client.
    `ROLLCALL_CHECKPOINT=EVENTS:ROWS`: client rows are written after so many events, so many at once.
    """
    place, _, count = environment.get("ROLLCALL_FAILPOINT", "").partition(":")
    where, _, victim = environment.get("ROLLCALL_FAULT", "").partition(":")
    events, _, rows = environment.get("ROLLCALL_CHECKPOINT", "").partition(":")
    return Failpoints(
        reached=_killer(place, int(count or 1)) if place else lambda place: None,
        checkpoint_events=int(events) if events else None,
        checkpoint_slice=int(rows) if rows else None,
        fault=(where, victim),
    )


def _killer(wanted: str, count: int) -> Callable[[str], None]:
    left = count

    def reached(place: str) -> None:
        nonlocal left
        if place == wanted:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _raising(work: Callable[[Any], T], concerns: Callable[[Any], bool]) -> Callable[[Any], T]:
    def work_or_raise(subject: Any) -> T:
        if concerns(subject):
            raise FaultForTests("a fault that a test asked for")
        return work(subject)

    return work_or_raise
