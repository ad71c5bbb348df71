"""§6: silences. They stop firings, never the recovery of a firing that was sent. Hold 30 s."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.alerting.silence_coverage import Coverage
from engine.core.alerting.silences import Silence
from engine.core.rules import Match
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


OFFLINE_OF_P1 = ("0s p1 connect A", CUT)


@pytest.mark.parametrize(
    ("patterns", "silenced"),
    [
        (("r",), {"r"}),
        (("s",), {"s"}),
        (("?",), {"r", "s"}),
        (("re:r|s",), {"r", "s"}),
        (("r", "x-*"), {"r"}),
        (("x",), set()),
        ((), {"r", "s"}),
    ],
)
def test_alerts_of_the_rules_it_names_are_silenced(patterns: tuple[str, ...], silenced: set[str]) -> None:
    world = World(rule("r", "offline"), rule("s", "offline")).plan("0s", "0s", "10m", rules=patterns)
    world.tell(*OFFLINE_OF_P1).pass_to("2m")
    assert {line.split()[1] for line in world.alerts if "suppressed" in line} == silenced


def test_with_rules_and_matchers_both_must_hold() -> None:
    world = World(rule("r", "offline"), rule("s", "offline")).plan("0s", "0s", "10m", rules=("r",), device=("p1",))
    world.tell(*OFFLINE_OF_P1, CUT2).pass_to("2m")
    assert sorted(line for line in world.alerts if "suppressed" in line) == ["1m30s r p1 suppressed silence"]
    assert len([line for line in world.alerts if line.endswith("firing")]) == 3


def test_by_its_rule_an_alert_without_a_client_is_silenced() -> None:
    world = World(rule("r", "feed"), rule("s", "feed")).plan("0s", "0s", "10m", rules=("r",))
    world.act(lambda fleet: fleet.alerts.triggers.feed("a", "gone", at("1m")))
    assert sorted(world.alerts) == ["1m r a suppressed silence", "1m s a firing"]


@pytest.mark.parametrize(
    ("column", "pattern", "silenced"),
    [("source", "a", True), ("source", "?", True), ("source", "b", False), ("target", "*", False)],
)
def test_by_its_source_an_alert_about_a_feed_is_silenced_and_no_client_is(
    column: str, pattern: str, silenced: bool
) -> None:
    world = World(rule("r", "feed"), rule("p", "offline")).silence("0s", "10m", attributes=((column, (pattern,)),))  # type: ignore[arg-type]
    world.act(lambda fleet: fleet.alerts.triggers.feed("a", "gone", at("1m")))
    assert world.alerts == ["1m r a suppressed silence" if silenced else "1m r a firing"]
    assert world.tell(CUT).pass_to("2m").alerts[-1] == "1m30s p p1 firing"


def test_from_its_beginning_to_its_end_and_not_a_millisecond_longer() -> None:
    for from_, until, fires in (("90s", "91s", False), ("90s1ms", "91s", True), ("89s", "90s", True)):
        world = World(rule("r", "offline")).plan("0s", from_, until).tell(CUT).pass_to("90s")
        assert told(world)[0] == f"1m30s r p1 {'firing' if fires else 'suppressed silence'}", (from_, until)


def test_one_that_begins_when_another_ends_leaves_no_gap() -> None:
    world = World(rule("r", "offline")).silence("0s", "5m", "a").plan("1m", "5m", "8m", "b").tell(CUT)
    assert told(world.pass_to("20m")) == ["1m30s r p1 suppressed silence", "8m r p1 firing", "8m r > p1 log firing"]


def test_what_fires_already_goes_on_when_a_planned_silence_begins_and_only_its_reminders_are_kept_back() -> None:
    world = (
        World(rule("r", "offline", repeat_ms=60_000, recovery=True)).plan("0s", "2m", "5m").tell(CUT, "7m p1 connect B")
    )
    assert [line for line in told(world.pass_to("8m")) if ">" in line] == [
        "1m30s r > p1 log firing",
        "5m30s r > p1 log reminder",
        "6m30s r > p1 log reminder",
        "7m r > p1 log recovery",
    ]


def test_one_that_is_ended_before_it_began_never_begins() -> None:
    world = World(rule("r", "offline")).plan("0s", "1m", "10m")
    world.act(lambda fleet: fleet.expire_silence("s", at("0s")))
    ended = world.fleet.alerts.out.silences["s"]
    assert (ended.from_ms, ended.until_ms) == (at("0s"), at("0s"))
    assert told(world.tell(CUT).pass_to("2m"))[0] == "1m30s r p1 firing"


def test_editing_its_rule_does_not_end_a_silence() -> None:
    world = World(rule("r", "offline")).plan("0s", "0s", "10m", rules=("r",)).tell(CUT).pass_to("2m")
    world.rules = (rule("r", "offline", severity="critical"),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert told(world.pass_to("11m")) == [
        "1m30s r p1 suppressed silence",
        "10m r p1 firing",
        "10m r > p1 log firing",
    ]


def covered(world: World, *silences: Silence) -> list[tuple[int, int, int]]:
    """Clients, alerts and rules that each of the silences covers."""
    manager, fleet = world.fleet.alerts, world.fleet
    found = Coverage(silences, manager.matcher.rules, manager.variables.attributes, manager.matcher.compile_patterns)
    found.count_alerts(list(manager.open_alerts), fleet.state_of, manager.pipeline.stages.silence.clients_of)
    found.count_clients((client, state.ip) for client, state in fleet.states.items())
    return [(one.clients, one.alerts, one.rules) for one in (found.covered()[silence.id] for silence in silences)]


def planned(id: str, rules: tuple[str, ...] = (), **match: Any) -> Silence:
    return Silence(id=id, match=Match(**match), rules=rules, from_ms=at("1h"), until_ms=at("2h"))


def test_how_many_clients_and_open_alerts_a_silence_covers() -> None:
    world = World(rule("r", "offline"), rule("s", "offline", match=Match(device=("p2",))), rule("f", "feed"))
    world.tell("0s p1 connect A", "0s p2 connect A", "0s p3 connect A", CUT, CUT2).pass_to("2m")
    world.act(lambda fleet: fleet.alerts.triggers.feed("a", "gone", at("2m")))
    assert covered(
        world,
        planned("everything"),
        planned("p2", device=("p2",)),
        planned("r", ("r",)),
        planned("s", ("s",)),
        planned("s of p1", ("s",), device=("p1",)),
        planned("f", ("f",)),
        planned("no rule", ("x*",)),
        planned("no client", group=("H",)),
        planned("a", attributes=(("source", ("a",)),)),
        planned("any", ("?",)),
    ) == [(3, 4, 3), (1, 2, 3), (3, 2, 1), (1, 1, 1), (0, 0, 1), (0, 1, 1), (0, 0, 0), (0, 0, 3), (0, 1, 3), (3, 4, 3)]
