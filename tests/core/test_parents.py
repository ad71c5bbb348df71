"""`inhibited_by: [{rule, equal}]`: a rule that fires for anything with the same values mutes the alerts of the rules below it. Hold 30 s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import AlertLine
from engine.core.rules import Match, OutageTerms, Parent, QuorumTerms, Rule
from tests.core.worlds import POLICY, Hours, World, at, full, rule

SITES = {"g1": "one", "g2": "one", "h1": "two", "c1": "one", "c2": "two", "c3": "one", "n": ""}
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {full(client): {"site": site} for client, site in SITES.items()}
UP = [f"0s {client} connect A" for client in SITES]
BY_SITE = (Parent(rule="gateway", equal=("site",)),)

GATEWAY = rule("gateway", "offline", match=Match(device=("g*", "h*")))
CHILD = rule("child", "offline", match=Match(device=("c*", "n")), parents=BY_SITE, recovery=True)

Row = tuple[str, list[Rule], list[str], list[str]]

TABLE: list[Row] = [
    (
        "the children of its own site only",
        [CHILD, GATEWAY],
        ["60s g1 tcpclean A", "61s c1 tcpclean A", "62s c2 tcpclean A"],
        ["1m30s gateway g1 firing", "1m31s child c1 suppressed inhibited", "1m32s child c2 firing"],
    ),
    (
        "in one instant the parent goes first, whichever event came first",
        [CHILD, GATEWAY],
        ["60s c1 tcpclean A", "60s g1 tcpclean A"],
        ["1m30s gateway g1 firing", "1m30s child c1 suppressed inhibited"],
    ),
    (
        "so it does when both wait for the end of a `for`",
        [replace(CHILD, for_ms=120_000), replace(GATEWAY, for_ms=120_000)],
        ["60s c1 tcpclean A", "60s g1 tcpclean A"],
        [
            "1m30s child c1 pending",
            "1m30s gateway g1 pending",
            "3m gateway g1 firing",
            "3m child c1 suppressed inhibited",
        ],
    ),
    (
        "until the last parent is back; then those that are still due fire together",
        [CHILD, GATEWAY],
        [
            *("60s g1 tcpclean A", "61s g2 tcpclean A", "62s c1 tcpclean A", "63s c3 tcpclean A", "64s c2 tcpclean A"),
            *("5m g1 connect B", "6m g2 connect B"),
        ],
        [
            "1m30s gateway g1 firing",
            "1m31s gateway g2 firing",
            "1m32s child c1 suppressed inhibited",
            "1m33s child c3 suppressed inhibited",
            "1m34s child c2 firing",
            "5m gateway g1 resolved",
            "6m gateway g2 resolved",
            "6m child c1 firing",
            "6m child c3 firing",
        ],
    ),
    (
        "a parent that is silent itself mutes nobody",
        [CHILD, replace(GATEWAY, mute=Hours(("0s", "1h")))],
        ["60s g1 tcpclean A", "61s c1 tcpclean A"],
        ["1m30s gateway g1 suppressed mute", "1m31s child c1 firing"],
    ),
    (
        "what fires already goes on",
        [CHILD, GATEWAY],
        ["60s c1 tcpclean A", "61s g1 tcpclean A"],
        ["1m30s child c1 firing", "1m31s gateway g1 firing"],
    ),
    (
        "who has no such value is nobody's child",
        [CHILD, GATEWAY],
        ["60s g1 tcpclean A", "60s h1 tcpclean A", "61s n tcpclean A"],
        ["1m30s gateway g1 firing", "1m30s gateway h1 firing", "1m31s child n firing"],
    ),
    (
        "shadow alerts mute only shadow rules",
        [CHILD, replace(CHILD, name="trial", shadow=True), replace(GATEWAY, shadow=True)],
        ["60s g1 tcpclean A", "61s c1 tcpclean A"],
        ["1m30s gateway g1 firing", "1m31s child c1 firing", "1m31s trial c1 suppressed inhibited"],
    ),
    (
        "a quorum is a parent by its key",
        [
            replace(CHILD, parents=(Parent(rule="many", equal=("site",)),), match=Match(device=("c*",))),
            rule("many", "quorum", quorum=QuorumTerms(by=("site",), down=2), match=Match(device=("g*",))),
        ],
        ["60s g1 tcpclean A", "60s g2 tcpclean A", "60s c1 tcpclean A", "60s c2 tcpclean A", "9m g1 connect B"],
        [
            "1m30s many site=one firing",
            "1m30s child c1 suppressed inhibited",
            "1m30s child c2 firing",
            "9m many site=one resolved",
            "9m child c1 firing",
        ],
    ),
    (
        "an outage is, also one that nobody is told of",
        [
            replace(CHILD, parents=(Parent(rule="line", equal=("site",)),), match=Match(device=("c*",))),
            rule(
                "line",
                "outage",
                outage=OutageTerms(by=("site",), at_least=2, inhibit=False),
                match=Match(device=("g*",)),
                mute=Hours(("0s", "1h")),
            ),
        ],
        ["60s g1 tcpclean A", "60s g2 tcpclean A", "60s c1 tcpclean A", "9m g1 connect B", "9m g2 connect B"],
        ["1m30s line site=one suppressed mute", "1m30s child c1 suppressed inhibited", "9m child c1 firing"],
    ),
    (
        "a quorum can be a child",
        [
            GATEWAY,
            rule(
                "many",
                "quorum",
                quorum=QuorumTerms(by=("site",), down=2),
                match=Match(device=("c*",)),
                parents=BY_SITE,
            ),
        ],
        ["60s c1 tcpclean A", "60s c3 tcpclean A", "60s g1 tcpclean A", "9m g1 connect B"],
        [
            "1m30s gateway g1 firing",
            "1m30s many site=one suppressed inhibited",
            "9m gateway g1 resolved",
            "9m many site=one firing",
        ],
    ),
]


@pytest.mark.parametrize(("why", "rules", "story", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_parents(why: str, rules: list[Rule], story: list[str], expected: list[str]) -> None:
    assert World(*rules, attributes=ATTRIBUTES).tell(*UP, *story).pass_to("20m").alerts == expected


def test_those_that_fire_together_are_one_delivery() -> None:
    story = ["60s g1 tcpclean A", "62s c1 tcpclean A", "63s c3 tcpclean A", "5m g1 connect B"]
    world = World(CHILD, GATEWAY, attributes=ATTRIBUTES).tell(*UP, *story).pass_to("20m")
    assert world.deliveries[1] == "5m child > c1+c3 log firing"


def test_a_parent_that_moves_lets_go_of_those_that_it_leaves() -> None:
    by_net = (Parent(rule="twice", equal=("ip/24",)),)
    rules = rule("twice", "duplicate", match=Match(device=("g1",))), replace(CHILD, parents=by_net)
    world = World(*rules, attributes=ATTRIBUTES, policy=replace(POLICY, flapping_start=100))
    world.tell("0s c1 connect A 10.0.0.9:1", "1s g1 connect A 10.0.0.1:1", "1s500ms g1 connect B 10.0.0.1:2")
    world.tell("60s c1 tcpclean A 10.0.0.9:1").pass_to("2m")
    assert world.alerts == ["1s500ms twice g1 firing", "1m30s child c1 suppressed inhibited"]
    world.tell("1s900ms/2m g1 connect C 10.0.7.1:3").pass_to(
        "3m"
    )  # newer than the others: it is where the client is now
    assert world.alerts[2:] == ["2m child c1 firing"]


def test_an_edit_of_the_inventory_files_parents_anew() -> None:
    attributes = {client: dict(values) for client, values in ATTRIBUTES.items()}
    world = (
        World(CHILD, GATEWAY, attributes=attributes).tell(*UP, "60s g1 tcpclean A", "61s c1 tcpclean A").pass_to("2m")
    )
    attributes[full("g1")]["site"] = "two"
    world.act(lambda fleet: fleet.use(world.matcher())).pass_to("3m")
    assert world.alerts[2:] == ["2m child c1 firing"]
    assert world.tell("3m c2 tcpclean A").pass_to("4m").alerts[-1] == "3m30s child c2 suppressed inhibited"


def test_a_removed_parent_lets_go() -> None:
    world = (
        World(CHILD, GATEWAY, attributes=ATTRIBUTES).tell(*UP, "60s g1 tcpclean A", "61s c1 tcpclean A").pass_to("2m")
    )
    world.rules = (CHILD,)
    world.act(lambda fleet: fleet.use(world.matcher(), [GATEWAY]))
    world.pass_to("3m").act(lambda fleet: fleet.alerts.retire("gateway", at("3m")))
    assert world.pass_to("4m").alerts[2:] == ["3m gateway g1 resolved rule_removed", "3m child c1 firing"]


def test_why_not_names_the_alert_of_the_parent() -> None:
    world = (
        World(CHILD, GATEWAY, attributes=ATTRIBUTES).tell(*UP, "60s g1 tcpclean A", "61s c1 tcpclean A").pass_to("2m")
    )
    report = next(one for one in world.fleet.why_not("child", full("c1"), at("2m")) if one.stage == "inhibited")
    assert not report.passes
    assert report.detail == {"rule": "gateway", "client": full("g1"), "equal": {"site": "one"}}


Step = tuple[int, str, str]


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Seconds, client, connect or tcpclean; seldom, everything is read back from what a store keeps."""
    second, found = 0, []
    for _ in range(draw(st.integers(1, 40))):
        second += draw(st.sampled_from([0, 0, 1, 7, 31, 61]))
        what = draw(st.sampled_from(["connect", "tcpclean", "tcpclean", "restart"]))
        found.append((second, draw(st.sampled_from(sorted(SITES))), what))
    return found


@settings(deadline=None, max_examples=150)
@given(stories())
def test_nobody_fires_beside_a_parent_and_nobody_is_held_without_one(story: list[Step]) -> None:
    """Against looking at every pair after each turn."""
    chain = replace(CHILD, name="grandchild", parents=(Parent(rule="child", equal=("site", "group")),))
    world = World(CHILD, GATEWAY, chain, attributes=ATTRIBUTES, policy=replace(POLICY, flapping_start=100))
    told = 0
    fires: dict[tuple[str, str], int] = {}
    for number, (second, client, what) in enumerate([*story, (10_000, "g1", "restart")]):
        if what == "restart":
            world.pass_to(f"{second}s").act(lambda fleet: fleet.restore(list(fleet.alerts.open_alerts), []))
        else:
            world.tell(f"{second}s {client} {what} {client}{number // 3}")
        world.pass_to(f"{second}s")
        for place, line in enumerate(world.lines[told:], told):
            if not isinstance(line, AlertLine):
                continue
            about = line.rule, line.client or ""
            fires.pop(about, None)
            if line.state == "firing":
                fires[about] = place
        told = len(world.lines)
        check(world, fires)


def check(world: World, fires: dict[tuple[str, str], int]) -> None:
    """Whoever fires began to before its parents did; whoever is inhibited has one that fires."""
    above = {"child": "gateway", "grandchild": "child"}
    for (name, client), since in fires.items():
        for (parent, other), other_since in fires.items():
            if above.get(name) == parent and same(client, other):
                assert since < other_since, (name, client, other)
    for alert in world.fleet.alerts.open_alerts:
        if alert.reason == "inhibited":
            parents = [other for (parent, other) in fires if parent == above[alert.rule]]
            assert any(same(alert.client or "", other) for other in parents), alert.client


def same(client: str, other: str) -> bool:
    """Are both at the same site?"""
    site: Any = SITES[client.removeprefix("G@@@")]
    return bool(site) and site == SITES[other.removeprefix("G@@@")]


def test_children_are_not_looked_at_again_when_one_of_several_parents_ends() -> None:
    names = [f"c{number}" for number in range(50)]
    attributes = {full(name): {"site": "one"} for name in [*names, "g1", "g2"]}
    world = World(CHILD, GATEWAY, attributes=attributes).tell("0s g1 tcpclean A", "0s g2 tcpclean A")
    world.tell(*[f"1s {name} tcpclean A" for name in names]).pass_to("1m")
    world.tell("2m g1 connect B")
    written = [name for name in world.fleet.alerts.out.alerts if "child" in name]
    assert written == []
    world.tell("3m g2 connect B")
    assert world.alerts[-50:] == [f"3m child {name} firing" for name in names]
