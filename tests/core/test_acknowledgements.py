"""An acknowledgement reaches the receivers that were told of the firing, and nobody else. Hold 30 s."""

from __future__ import annotations

from dataclasses import replace

from engine.core.rules import Action, Grouping, OutageTerms
from tests.core.worlds import LOG, World, rule, step

CUT, CUT2 = "0s p1 tcpclean A", "1s p2 tcpclean A"
NOTIFY = Action(kind="notify", spec={"receiver": "pager"})
HOOK = Action(kind="webhook", spec={"url": "http://x.test"})
PAGED = rule("r", "offline", actions=(LOG, NOTIFY, HOOK), recovery=True)
GROUPED = replace(PAGED, grouping=Grouping(wait_ms=0, interval_ms=60_000))


def acknowledged(world: World) -> list[str]:
    """Every delivery of an acknowledgement."""
    return [line for line in world.deliveries if " acknowledged" in line]


def test_each_receiver_of_the_firing_is_told_once_by_whom_and_other_actions_say_nothing() -> None:
    world = World(PAGED).tell(CUT).pass_to("1m")
    world.acknowledge("5m", rule="r", client="G@@@p1", by="kim")
    world.acknowledge("6m", rule="r", client="G@@@p1", by="lee")
    assert acknowledged(world) == ["5m r > p1 notify acknowledged to pager"]
    firing, last = world.planned[1], world.planned[-1]
    assert (last.alert, last.lane) == (firing.alert, firing.lane)
    assert last.variables["alert"]["acknowledged_by"] == "kim"
    assert last.variables["alert"]["phase"] == "acknowledged"
    assert len({one.key for one in world.planned}) == len(world.planned)


def test_a_rule_without_receivers_says_nothing() -> None:
    world = World(rule("r", "offline", actions=(LOG, HOOK))).tell(CUT)
    world.acknowledge("5m", rule="r")
    assert acknowledged(world) == []


def test_receivers_of_steps_that_were_sent_are_told_too() -> None:
    ladder = replace(PAGED, escalate=(step("10m", "notify"), step("1h", "notify")))
    world = World(ladder).tell(CUT)
    world.acknowledge("20m", rule="r")
    assert acknowledged(world) == ["20m r > p1 notify acknowledged to pager", "20m r > p1 notify acknowledged to boss"]
    assert len({one.key for one in world.planned}) == len(world.planned)


def test_what_is_resolved_is_acknowledged_by_nobody() -> None:
    world = World(PAGED).tell(CUT, "5m p1 connect B")
    assert world.acknowledge("6m", rule="r") == 0
    assert acknowledged(world) == []


def test_a_group_is_acknowledged_with_the_last_that_fires_in_it() -> None:
    world = World(GROUPED).tell(CUT, CUT2)
    world.acknowledge("5m", client="G@@@p1")
    assert acknowledged(world) == []
    world.acknowledge("6m", client="G@@@p2")
    assert acknowledged(world) == ["6m r > p1+p2 notify acknowledged to pager"]


def test_a_group_is_acknowledged_when_what_nobody_acknowledged_is_over() -> None:
    world = World(GROUPED).tell(CUT, CUT2)
    world.acknowledge("5m", client="G@@@p1")
    assert acknowledged(world.tell("7m p2 connect B")) == ["7m r > p1 notify acknowledged to pager"]


def test_a_group_that_is_named_by_its_id_is_acknowledged_at_once() -> None:
    world = World(GROUPED).tell(CUT, CUT2).pass_to("2m")
    assert world.acknowledge("5m", alert_id=world.planned[-1].alert) == 2
    assert acknowledged(world) == ["5m r > p1+p2 notify acknowledged to pager"]


def test_a_group_that_was_not_told_yet_has_nothing_to_acknowledge() -> None:
    world = World(replace(PAGED, grouping=Grouping(wait_ms=600_000))).tell(CUT).pass_to("1m")
    world.acknowledge("5m", rule="r")
    assert acknowledged(world) == []


def test_what_fired_together_is_acknowledged_with_the_last_of_it() -> None:
    world = World(PAGED).silence("0s", "5m", group=("G",)).tell(CUT, CUT2).pass_to("6m")
    world.acknowledge("7m", client="G@@@p1")
    assert acknowledged(world) == []
    world.acknowledge("8m", client="G@@@p2")
    assert acknowledged(world) == ["8m r > p1+p2 notify acknowledged to pager"]
    assert len({one.alert for one in world.planned}) == 1


def test_an_outage_is_acknowledged_once() -> None:
    gone = rule("gone", "outage", outage=OutageTerms(at_least=2), actions=(NOTIFY,))
    world = World(gone).tell(CUT, CUT2)
    assert world.acknowledge("5m", rule="gone") == 1
    assert acknowledged(world) == ["5m gone > p1+p2 notify acknowledged to pager"]
