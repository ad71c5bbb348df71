"""What tests ask of a running service through its environment: to die or to stand still at a place, to raise for a client, and to write checkpoints sooner.

`app.build` calls `from_environment` once. Without these variables every hook does nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from engine.core.fleet import Fleet
from engine.delivery.rendering import RenderRow
from engine.runtime.checkpoint import CHECKPOINT_EVENTS, CHECKPOINT_SLICE, Checkpoint
from engine.runtime.shutdown import STOP_WITHIN_S
from engine.stores.base import Store
from engine.templates.sandbox.time_limit import TIME_LIMIT

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failpoints:
    """Hooks of a service.

    `reached` is called with the places `before_commit`, `after_commit` and `checkpoint`.
    """

    reached: Callable[[str], None] = lambda place: None
    checkpoint_events: int = CHECKPOINT_EVENTS
    checkpoint_rows: int = CHECKPOINT_SLICE
    fault: tuple[str, str] = ("", "")  # where to raise, and for which client
    stop_within_s: float = STOP_WITHIN_S

    def checkpoint(self, store: Store, now_ms: int) -> Checkpoint:
        """The checkpoint of a writer, with slices as these hooks want them."""
        return Checkpoint(store, now_ms, events=self.checkpoint_events, rows=self.checkpoint_rows, reached=self.reached)

    def break_fleet(self, fleet: Fleet) -> None:
        """Make the fleet raise for a client: when an event of it is applied, or when a firing about it is planned."""
        where, victim = self.fault
        if where == "apply":  # an event begins a hold, and the fleet looks up how long it lasts
            holds = fleet.policy.offline_ms, fleet.policy.online_ms
            holds_of = _raising(lambda client: holds, lambda client: bool(client == victim))
            fleet.policy = replace(fleet.policy, holds_of=holds_of)
        elif where == "settle":  # a firing is planned, and the fleet looks up what is known about its client
            fleet.alerts.variables.attributes = _raising(
                fleet.alerts.variables.attributes, lambda client: client == victim
            )

    def break_rendering(self, render: RenderRow) -> RenderRow:
        """Rendering that raises for a delivery about a client, or that never ends."""
        where, victim = self.fault
        if where == "stuck":
            return _stuck(render, lambda planned: planned.client == victim)
        return _raising(render, lambda planned: planned.client == victim) if where == "render" else render


def from_environment(environment: Mapping[str, str] = os.environ) -> Failpoints:
    """What the environment asks for.

    `ROLLCALL_FAILPOINT=PLACE:N`: die as if the power had gone, the N-th time that the place is reached. `PLACE:N:stop`: stand still then,
    once, as a suspended machine does, until SIGCONT.
    `ROLLCALL_FAULT=apply:CLIENT`, `settle:CLIENT` or `render:CLIENT`: that raises for the client. `stuck:CLIENT`: rendering hangs.
    `ROLLCALL_STOP_WITHIN=SECONDS`: the longest stop.
    `ROLLCALL_CHECKPOINT=EVENTS:ROWS`: client rows are written after so many events, so many at once.
    """
    place, _, rest = environment.get("ROLLCALL_FAILPOINT", "").partition(":")
    count, _, how = rest.partition(":")
    where, _, victim = environment.get("ROLLCALL_FAULT", "").partition(":")
    events, _, rows = environment.get("ROLLCALL_CHECKPOINT", "").partition(":")
    return Failpoints(
        reached=_signaller(place, int(count or 1), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
        if place
        else lambda place: None,
        checkpoint_events=int(events or CHECKPOINT_EVENTS),
        checkpoint_rows=int(rows or CHECKPOINT_SLICE),
        fault=(where, victim),
        stop_within_s=float(environment.get("ROLLCALL_STOP_WITHIN", STOP_WITHIN_S)),
    )


def _signaller(wanted: str, count: int, what: signal.Signals) -> Callable[[str], None]:
    left = count

    def reached(place: str) -> None:
        nonlocal left
        if place == wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), what)

    return reached


def _stuck(render: RenderRow, concerns: Callable[[Any], bool]) -> RenderRow:
    """Rendering that hangs in a place that no interrupt reaches."""

    def render_or_hang(planned: Any) -> Any:
        if concerns(planned):
            TIME_LIMIT.run(time.sleep, 3_600.0)
        return render(planned)

    return render_or_hang


def _raising(work: Callable[[Any], T], concerns: Callable[[Any], bool]) -> Callable[[Any], T]:
    def work_or_raise(subject: Any) -> T:
        if concerns(subject):
            raise RuntimeError("an error that a test asked for")
        return work(subject)

    return work_or_raise
