"""A bundle between its firing and its recovery is kept: whatever befalls the engine, the same deliveries leave, under the same ids.

Not only the texts are compared, as in `test_kept`, but the ids, the keys, the lanes, and in which order clients are listed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from engine.core.times import FOREVER
from tests.core.test_kept import RowWorld, Turn, act, stories
from tests.core.worlds import START_MS, Hours, rule

RULES = (
    rule("muted", "offline", mute=Hours(("0s", "150s")), repeat_ms=70_000, recovery=True),
    rule("few", "offline", throttle=(1, "80s"), recovery=True),
    rule("few-back", "online", "first_seen", throttle=(1, "100s", "group"), flapping_skip=False, recovery=True),
    rule("plain", "offline", recovery=True, repeat_ms=200_000),
)

STORY = [
    Turn(0, "connect", "c", "c1", ""),
    Turn(107, "connect", "b", "b1", ""),
    Turn(203, "connect", "a", "a1", ""),
    Turn(307, "connect", "d", "d1", ""),
    Turn(15_009, "silence", "d", "", ""),  # everything, for 77 s
    Turn(20_011, "tcpclean", "c", "c1", ""),
    Turn(21_017, "tcpclean", "b", "b1", ""),
    Turn(22_023, "tcpclean", "a", "a1", ""),
    Turn(23_029, "tcpclean", "d", "d1", ""),
    Turn(155_031, "ack", "a", "", ""),
    Turn(200_041, "connect", "b", "b2", ""),
    Turn(240_047, "tcpclean", "b", "b2", ""),
    Turn(420_053, "connect", "d", "d2", ""),
    Turn(800_061, "connect", "c", "c2", ""),
    Turn(900_071, "connect", "a", "a2", ""),
]


def played(story: list[Turn], *, troubled: bool) -> list[tuple[str, str, str, str, str]]:
    """Every delivery of a story: what is said, and under which id, key and lane."""
    world = RowWorld(RULES)
    for turn in story:
        now_ms = START_MS + turn.at_ms
        if troubled and turn.befalls == "cut" and world.fleet.clock_ms:
            world.cut()
        world.turn(now_ms, act(turn, now_ms), fails=troubled and turn.befalls == "fails")
    while (due := world.fleet.next_due(running_on=True)) < FOREVER:
        if troubled:
            world.cut()
        world.turn(due, lambda fleet: None)
    told = zip(world.deliveries, world.planned, strict=True)
    return sorted((text, one.variables["alert"]["phase"], one.alert, one.key, one.lane) for text, one in told)


@pytest.mark.parametrize("befalls", ["cut", "fails"])
@pytest.mark.parametrize("place", range(len(STORY)))
def test_trouble_at_every_turn(place: int, befalls: str) -> None:
    story = [replace(turn, befalls=befalls) if number == place else turn for number, turn in enumerate(STORY)]
    assert played(story, troubled=True) == played(STORY, troubled=False)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(stories())
def test_whatever_befalls_the_engine_the_deliveries_are_the_same(story: list[Turn]) -> None:
    assert played(story, troubled=True) == played(story, troubled=False)


@pytest.mark.parametrize("name", ["muted", "few", "plain"])
def test_the_story_has_a_bundle_with_an_update_and_a_recovery(name: str) -> None:
    told = [row for row in played(STORY, troubled=False) if f" {name} > " in row[0]]
    bundles = {alert for text, _, alert, *_ in told if "+" in text}
    assert {phase for _, phase, alert, *_ in told if alert in bundles} >= {"firing", "update", "recovery"}
