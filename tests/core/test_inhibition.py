"""§6: `inhibited_by`: a rule's firing alert for the same client mutes the alerts of the rules that name it. Hold 30 s."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core.matching import inhibitors_first
from engine.core.rules import Rule
from tests.core.worlds import Hours, World, at, full, rule

UP, CUT, BACK = "0s p1 connect A", "60s p1 tcpclean A", "10m p1 connect B"
TWICE = ["0s p1 connect A", "500ms p1 connect B"]  # two live channels

Row = tuple[str, list[Rule], list[str], list[str]]

TABLE: list[Row] = [
    (
        "the inhibitor is asked first, whatever the order in which the rules were written",
        [rule("minor", "offline", inhibited_by=("major",)), rule("major", "offline")],
        [UP, CUT],
        ["1m30s major p1 firing", "1m30s minor p1 suppressed inhibited"],
    ),
    (
        "when the status reverts both end, and nobody hears of the inhibited one",
        [rule("minor", "offline", inhibited_by=("major",), recovery=True), rule("major", "offline")],
        [UP, CUT, BACK],
        ["1m30s major p1 firing", "1m30s minor p1 suppressed inhibited", "10m major p1 resolved"],
    ),
    (
        "an alert that is pending inhibits nobody; what fires already goes on",
        [rule("minor", "offline", inhibited_by=("major",), recovery=True), rule("major", "offline", for_="5m")],
        [UP, CUT, BACK],
        [
            "1m30s major p1 pending",
            "1m30s minor p1 firing",
            "6m major p1 firing",
            "10m major p1 resolved",
            "10m minor p1 resolved",
        ],
    ),
    (
        "of `for`s that are over in one instant the inhibitor's goes first",
        [rule("minor", "offline", for_="5m", inhibited_by=("major",)), rule("major", "offline", for_="5m")],
        [UP, CUT],
        [
            "1m30s major p1 pending",
            "1m30s minor p1 pending",
            "6m major p1 firing",
            "6m minor p1 suppressed inhibited",
        ],
    ),
    (
        "an alert of another client inhibits nobody",
        [rule("minor", "offline", inhibited_by=("major",)), rule("major", "duplicate")],
        ["0s q1 connect A", "0s q1 connect B", UP, CUT],
        ["0s major q1 firing", "1m30s minor p1 firing"],
    ),
    (
        "when the inhibitor ends and the status still holds, the alert fires",
        [rule("double", "duplicate"), rule("minor", "online", inhibited_by=("double",))],
        [
            "0s p1 tcpclean X",
            "40s p1 connect A",
            "41s p1 tcpclean A",
            "2m p1 connect B",
            "2m500ms p1 connect C",
            "3m p1 tcpclean B",
        ],
        [
            "40s minor p1 firing",
            "1m11s minor p1 resolved",
            "2m minor p1 firing",
            "2m500ms double p1 firing",
            "3m double p1 resolved",
        ],
    ),
    (
        "one that is suppressed itself inhibits nobody",
        [
            rule("minor", "offline", inhibited_by=("major",)),
            rule("major", "offline", mute=Hours(("0s", "1h"))),
        ],
        [UP, CUT],
        ["1m30s major p1 suppressed mute", "1m30s minor p1 firing"],
    ),
    (
        "a chain: who is inhibited inhibits nobody",
        [
            rule("c", "offline", inhibited_by=("b",)),
            rule("b", "offline", inhibited_by=("a",)),
            rule("a", "offline"),
        ],
        [UP, CUT],
        ["1m30s a p1 firing", "1m30s b p1 suppressed inhibited", "1m30s c p1 firing"],
    ),
    (
        "a shadow alert inhibits only shadow rules",
        [
            rule("minor", "offline", inhibited_by=("major",)),
            rule("trial", "offline", inhibited_by=("major",), shadow=True),
            rule("major", "offline", shadow=True),
        ],
        [UP, CUT],
        ["1m30s major p1 firing", "1m30s minor p1 firing", "1m30s trial p1 suppressed inhibited"],
    ),
    (
        "inhibited comes before throttle, and takes no room",
        [rule("minor", "offline", inhibited_by=("double",), throttle=(1, "1h")), rule("double", "duplicate")],
        [*TWICE, "1s p1 tcpclean A", "1s p1 tcpclean B", "2s q1 tcpclean A"],
        ["500ms double p1 firing", "1s double p1 resolved", "31s minor p1 firing", "32s minor q1 suppressed throttle"],
    ),
]


@pytest.mark.parametrize(("why", "rules", "story", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_inhibition(why: str, rules: list[Rule], story: list[str], expected: list[str]) -> None:
    assert World(*rules).tell(*story).pass_to("20m").alerts == expected


def test_what_an_inhibitor_held_fires_in_the_instant_in_which_it_ends() -> None:
    rules = rule("double", "duplicate"), rule("gone", "offline", inhibited_by=("restless",), flapping_skip=False)
    world = World(*rules, rule("restless", "flapping"))
    world.tell("0s p1 connect A", "10s p1 tcpclean A", "20s p1 connect B", "30s p1 tcpclean B").pass_to("5m")
    assert world.alerts == [
        "30s restless p1 firing",
        "1m gone p1 suppressed inhibited",
        "1m20s restless p1 resolved",
        "1m20s gone p1 firing",
    ]


def test_a_removed_inhibitor_lets_go() -> None:
    minor, major = rule("minor", "offline", inhibited_by=("major",)), rule("major", "offline", recovery=True)
    world = World(minor, major).tell(UP, CUT).pass_to("5m")
    world.rules = (minor,)
    world.act(lambda fleet: fleet.use(world.matcher(), [major]))
    world.pass_to("6m").act(lambda fleet: fleet.alerts.retire("major", at("6m")))
    assert world.alerts[2:] == ["6m major p1 resolved rule_removed", "6m minor p1 firing"]


def test_an_edit_that_inhibits_no_more_lets_go() -> None:
    minor, major = rule("minor", "offline", inhibited_by=("major",)), rule("major", "offline")
    world = World(minor, major).tell(UP, CUT).pass_to("5m")
    world.rules = (replace(minor, inhibited_by=()), major)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("6m").alerts[2:] == ["5m minor p1 firing"]


def test_a_forgotten_client_takes_what_it_inhibited_along() -> None:
    world = World(rule("minor", "offline", inhibited_by=("major",)), rule("major", "offline")).tell(UP, CUT)
    world.pass_to("5m").act(lambda fleet: fleet.forget(full("p1"), at("5m")))
    assert world.pass_to("10m").alerts[2:] == ["5m major p1 resolved client_forgotten"]


def test_rules_keep_their_order_but_for_inhibitors() -> None:
    names = {"a": ("d",), "b": (), "c": ("a", "e"), "d": (), "e": ("d",), "x": ("y",), "y": ("x",)}
    rules = [rule(name, "offline", inhibited_by=by) for name, by in names.items()]
    assert [one.name for one in inhibitors_first(rules)][:5] == ["d", "a", "b", "e", "c"]
    assert {one.name for one in inhibitors_first(rules)} == set(names)
