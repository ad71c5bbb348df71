"""A service that is restarted between a firing, its steps and its acknowledgement loses none of them and sends none twice."""

from __future__ import annotations

from pathlib import Path

from engine.core.rules import Action, EscalationStep
from engine.testing import START_MS, FakeClock, WriterBench, event, rule

PAGER = Action(kind="notify", spec={"receiver": "pager"})
LADDER = rule(
    "dark",
    "offline",
    actions=(PAGER,),
    on_recovery=(PAGER,),
    escalate=(
        EscalationStep(after_ms=900_000, actions=(PAGER,), on_recovery=(PAGER,)),
        EscalationStep(after_ms=3_600_000, actions=(PAGER,), on_recovery=(PAGER,)),
    ),
)
MINUTE_MS = 60_000


def phases(bench: WriterBench) -> list[str]:
    """The phases of all deliveries in the store, in the order in which they were decided."""
    with bench.store.reading() as reader:
        return [row.phase for row in reversed(reader.deliveries(limit=100))]


def test_a_restart_between_any_two_of_them_changes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    told = []
    for minute in (0, 1, 20, 30, 70, 120):
        bench = WriterBench(tmp_path, LADDER, clock=clock)
        clock.at_ms = START_MS + minute * MINUTE_MS
        if minute == 0:
            bench.offer(event("G@@@p1"), event("G@@@p1", "tcpclean", at_ms=START_MS + 1))
        if minute == 30:
            done = bench.submit(lambda bench=bench: bench.fleet.acknowledge(clock.now_ms(), rule="dark", by="kim"))  # type: ignore[misc]
        if minute == 120:
            bench.offer(event("G@@@p1", channel="B", at_ms=clock.now_ms()))
        bench.turn(3)
        told.append(phases(bench))
        bench.close()
    assert done.result() == 1
    assert told == [
        [],
        ["firing"],
        ["firing", "escalation"],
        ["firing", "escalation", "acknowledged"],
        ["firing", "escalation", "acknowledged"],
        # The rule's recovery, and that of the step that was sent.
        ["firing", "escalation", "acknowledged", "recovery", "recovery"],
    ]
