"""§6: silences. They stop firings, never the recovery of a firing that was sent. Hold 30 s."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.worlds import World, at, rule

CUT, CUT2, BACK = "60s p1 tcpclean A", "61s p2 tcpclean A", "5m p1 connect B"


def told(world: World) -> list[str]:
    """What the rules said, without the transitions."""
    return [line for line in world.story if " r " in line]


def test_what_is_silenced_fires_when_the_silence_ends_if_it_still_holds_together() -> None:
    world = World(rule("r", "offline", recovery=True)).silence("0s", "10m").tell(CUT, CUT2, "61s p3 tcpclean A", BACK)
    assert told(world.pass_to("20m")) == [
        "1m30s r p1 suppressed silence",
        "1m31s r p2 suppressed silence",
        "1m31s r p3 suppressed silence",
        "10m r p2 firing",
        "10m r p3 firing",
        "10m r > p2+p3 log firing",
    ]


def test_the_end_of_a_silence_is_excluded_and_its_beginning_included() -> None:
    assert told(World(rule("r", "offline")).silence("0s", "90s").tell(CUT).pass_to("90s"))[0] == "1m30s r p1 firing"
    late = World(rule("r", "offline")).tell(CUT).silence("89s999ms", "10m").pass_to("90s")
    assert told(late) == ["1m30s r p1 suppressed silence"]


def test_a_silence_can_begin_later() -> None:
    from engine.core.alerting.silences import Silence
    from engine.core.rules import Match

    world = World(rule("r", "offline"))
    planned = Silence(id="s", match=Match(), from_ms=at("91s"), until_ms=at("10m"))
    world.act(lambda fleet: fleet.silence(planned, at("0s")))
    assert told(world.tell(CUT, CUT2).pass_to("2m")) == [
        "1m30s r p1 firing",
        "1m30s r > p1 log firing",
        "1m31s r p2 suppressed silence",
    ]


MATCHES: list[tuple[str, dict[str, Any], bool]] = [
    ("by group", {"group": ("G",)}, True),
    ("by another group", {"group": ("H",)}, False),
    ("by device", {"device": ("p*",)}, True),
    ("by client", {"client": ("G@@@p1",)}, True),
    ("by address", {"ip": ("10.0.0.0/8",)}, True),
    ("by another address", {"ip": ("11.0.0.0/8",)}, False),
    ("by attribute", {"attributes": (("site", ("north",)),)}, True),
    ("by another attribute", {"attributes": (("site", ("south",)),)}, False),
    ("all must hold", {"group": ("G",), "device": ("q*",)}, False),
]


@pytest.mark.parametrize(("why", "match", "covers"), MATCHES, ids=[row[0] for row in MATCHES])
def test_who_is_silenced(why: str, match: dict[str, Any], covers: bool) -> None:
    world = World(rule("r", "offline"), attributes={"G@@@p1": {"site": "north"}}).silence("0s", "10m", **match)
    world.tell("0s p1 connect A 10.1.2.3:5", CUT).pass_to("2m")
    assert told(world)[0] == ("1m30s r p1 suppressed silence" if covers else "1m30s r p1 firing")


def test_a_recovery_of_what_was_sent_is_sent_through_a_silence() -> None:
    world = World(rule("r", "offline", recovery=True)).tell(CUT).silence("2m", "1h").tell(BACK)
    assert told(world)[2:] == ["5m r p1 resolved", "5m r > p1 log recovery"]


def test_an_operator_can_end_a_silence_early() -> None:
    world = World(rule("r", "offline")).silence("0s", "1h").tell(CUT).pass_to("3m")
    ended: list[bool] = []
    world.act(lambda fleet: ended.extend(fleet.expire_silence("s", at("3m")) for _ in range(2)))
    assert ended == [True, False]
    assert told(world)[1:] == ["3m r p1 firing", "3m r > p1 log firing"]
    assert world.fleet.alerts.out.silences["s"].until_ms == at("3m")


def test_while_another_silence_covers_it_the_end_of_one_frees_nothing() -> None:
    world = World(rule("r", "offline")).silence("0s", "10m", "a").silence("0s", "5m", "b", group=("G",)).tell(CUT)
    assert told(world.pass_to("20m")) == [
        "1m30s r p1 suppressed silence",
        "10m r p1 firing",
        "10m r > p1 log firing",
    ]


def test_a_silence_that_outlasts_the_one_that_held_it_takes_over() -> None:
    world = World(rule("r", "offline")).silence("0s", "5m", "a").tell(CUT).silence("4m", "10m", "b")
    assert told(world.pass_to("20m"))[1:] == ["10m r p1 firing", "10m r > p1 log firing"]


def test_mute_comes_before_silence_and_a_changed_reason_is_a_new_line() -> None:
    from tests.core.worlds import Hours

    world = World(rule("r", "offline", mute=Hours(("0s", "5m")))).silence("0s", "10m").tell(CUT).pass_to("20m")
    assert told(world)[:3] == ["1m30s r p1 suppressed mute", "5m r p1 suppressed silence", "10m r p1 firing"]


def test_two_rules_fire_apart_each_as_one() -> None:
    world = World(rule("r", "offline"), rule("s", "offline")).silence("0s", "10m").tell(CUT, CUT2).pass_to("10m")
    assert world.deliveries == ["10m r > p1+p2 log firing", "10m s > p1+p2 log firing"]


def test_alone_it_is_told_as_one_alert_with_its_client() -> None:
    world = World(rule("r", "offline", recovery=True)).silence("0s", "4m").tell(CUT, BACK)
    firing, recovery = world.planned
    assert firing.client == "G@@@p1"
    assert (firing.lane, firing.alert) == (recovery.lane, recovery.alert)


def test_the_recovery_of_one_told_together_follows_in_its_lane() -> None:
    world = World(rule("r", "offline", recovery=True)).silence("0s", "4m").tell(CUT, CUT2, BACK, "6m p2 connect B")
    together, recovery = world.run_on().planned
    assert (together.lane, together.alert) == (recovery.lane, recovery.alert)
    assert together.variables["alert"]["count"] == 2


def test_what_is_silenced_in_the_instant_the_silence_is_given_is_what_comes_after_it() -> None:
    """What is due at an instant happens before operators act in it."""
    world = World(rule("r", "offline")).tell(CUT).silence("90s", "10m")
    assert told(world)[0] == "1m30s r p1 firing"


def test_only_a_silence_of_everything_silences_a_feed() -> None:
    world = World(rule("r", "feed")).silence("0s", "10m", "g", group=("*",), device=("x",))
    world.act(lambda fleet: fleet.alerts.triggers.feed("a", "gone", at("1m")))
    world.silence("1m", "10m", "all")
    world.act(lambda fleet: fleet.alerts.triggers.feed("b", "gone", at("2m")))
    assert world.alerts == ["1m r a firing", "2m r b suppressed silence"]


def test_a_silence_that_is_over_already_silences_nobody() -> None:
    world = World(rule("r", "offline")).tell("0s p1 connect A").silence("1m", "30s").tell(CUT).pass_to("2m")
    assert told(world)[0] == "1m30s r p1 firing"
