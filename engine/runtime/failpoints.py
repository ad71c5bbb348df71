"""What tests ask of a running service through its environment: a fault of ours, and checkpoints sooner than usual."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from engine.core.fleet import Fleet
from engine.runtime.writer import CHECKPOINT_EVENTS, CHECKPOINT_SLICE
from engine.runtime.writer import Renderer as Render

T = TypeVar("T")


def checkpoints() -> tuple[int, int]:
    """After how many events client rows are written, and how many at once. Tests ask for more of them: `EVENTS:ROWS`."""
    events, _, rows = os.environ.get("ROLLCALL_CHECKPOINT", "").partition(":")
    return int(events or CHECKPOINT_EVENTS), int(rows or CHECKPOINT_SLICE)


def with_fault(fleet: Fleet, render: Render) -> Render:
    """For tests, a fault of ours: `ROLLCALL_FAULT` is `apply:CLIENT`, `settle:CLIENT` or `render:CLIENT`, and that raises."""
    where, _, victim = os.environ.get("ROLLCALL_FAULT", "").partition(":")

    def raising(work: Callable[[Any], T], concerns: Callable[[Any], bool]) -> Callable[[Any], T]:
        def work_or_raise(subject: Any) -> T:
            if concerns(subject):
                raise RuntimeError("a fault that a test asked for")
            return work(subject)

        return work_or_raise

    if where == "apply":  # an event begins a hold, and how long it is to be is asked
        holds = fleet.policy.offline_ms, fleet.policy.online_ms
        fleet.policy = replace(
            fleet.policy, holds_of=raising(lambda client: holds, lambda client: bool(client == victim))
        )
    elif where == "settle":  # a firing is planned, and what is known about its client is asked
        fleet.alerts.variables.attributes = raising(
            fleet.alerts.variables.attributes, lambda client: bool(client == victim)
        )
    elif where == "render":
        faulty = raising(render, lambda planned: bool(planned.client == victim))
        return lambda planned: faulty(planned)
    return render
