"""`throttle.excess: drop`: what is beyond `max` never fires. Hold 30 s."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core.rules import Rule, Throttle
from tests.core.worlds import World, rule

CUTS = ("0s p1 tcpclean A", "1s p2 tcpclean A", "2s p3 tcpclean A")


def dropping(*triggers: str) -> Rule:
    """A rule that fires once in ten minutes and drops the rest."""
    terms = Throttle(max=1, per_ms=600_000, excess="drop")
    return replace(rule("few", *triggers, recovery=True), throttle=terms)


def test_what_is_beyond_max_is_suppressed_once_and_never_fires() -> None:
    world = World(dropping("offline")).tell(*CUTS).run_on().pass_to("2h").tell("2h p2 connect B")
    assert world.alerts == ["30s few p1 firing", "31s few p2 suppressed throttle", "32s few p3 suppressed throttle"]
    assert world.deliveries == ["30s few > p1 log firing"]
    assert [alert.client for alert in world.fleet.alerts.open_alerts] == ["G@@@p1"]


def test_the_next_alert_of_the_same_client_fires_when_there_is_room() -> None:
    world = World(dropping("offline")).tell(*CUTS, "20m p2 connect B", "21m p2 tcpclean B").run_on()
    assert world.deliveries[1:] == ["21m30s few > p2 log firing"]


def test_nothing_keeps_the_clock_of_a_replay_running() -> None:
    world = World(dropping("offline")).tell(*CUTS).run_on()
    assert world.deliveries == ["30s few > p1 log firing"]
    assert world.alerts[-1] == "32s few p3 suppressed throttle"


def test_what_an_ended_silence_lets_go_counts_as_one_and_what_is_beyond_it_is_dropped() -> None:
    world = World(dropping("offline")).tell(CUTS[0]).silence("5s", "5m", device=("p2", "p3")).tell(*CUTS[1:])
    assert world.pass_to("1h").deliveries == ["30s few > p1 log firing"]
    assert len([line for line in world.alerts if "throttle" in line]) == 2


@pytest.mark.parametrize("trigger", ["feed"])
def test_what_goes_on_stays_suppressed_and_does_not_begin_anew(trigger: str) -> None:
    world = World(dropping(trigger))
    for second, source in ((1, "a"), (2, "b"), (3, "b"), (700, "b")):
        world.pass_to(f"{second}s")
        world.act(lambda fleet, source=source: fleet.alerts.triggers.feed(source, "silent", fleet.clock_ms))  # type: ignore[misc]
    assert world.pass_to("2h").alerts == ["1s few a firing", "2s few b suppressed throttle"]
