"""Why a rule has not fired: every gate on the way, open or closed, and until when. Hold 30 s."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.alerting.explain import WAY
from engine.core.alerting.stages.base import StageReport
from engine.core.rules import Grouping, Match, OutageTerms, Rule
from tests.core.worlds import POLICY, Hours, World, at, full, rule, span

UP, CUT = "0s p1 connect A", "60s p1 tcpclean A"


def gates(world: World, name: str, when: str, client: str = "p1") -> list[StageReport]:
    """The way of one rule for one client."""
    world.pass_to(when)
    return world.fleet.why_not(name, full(client), at(when))


def closed(world: World, name: str, when: str, client: str = "p1") -> list[str]:
    """The closed ones, as `NAME [until WHEN]`."""
    found = gates(world, name, when, client)
    return [
        f"{one.stage} until {span(one.until_ms)}" if one.until_ms is not None else one.stage
        for one in found
        if not one.passes
    ]


Row = tuple[str, list[Rule], list[str], str, list[str]]

TABLE: list[Row] = [
    ("nothing is in the way of what fires, but that it fires", [rule("r", "offline")], [UP, CUT], "2m", ["alert"]),
    ("the client is online", [rule("r", "offline")], [UP], "2m", ["trigger"]),
    ("its hold is not over", [rule("r", "offline")], [UP, CUT], "70s", ["trigger until 1m30s"]),
    ("nobody knows the client", [rule("r", "offline")], [], "2m", ["trigger"]),
    (
        "the rule does not match",
        [rule("r", "offline", match=Match(group=("H",)))],
        [UP, CUT],
        "2m",
        ["match"],
    ),
    ("for is not over", [rule("r", "offline", for_="5m")], [UP, CUT], "2m", ["for until 6m"]),
    (
        "the condition does not hold",
        [rule("r", "offline", condition=lambda seen: False)],
        [UP, CUT],
        "2m",
        ["condition"],
    ),
    (
        "a mute window",
        [rule("r", "offline", mute=Hours(("0s", "1h")))],
        [UP, CUT],
        "2m",
        ["mute until 1h"],
    ),
    ("never active again", [rule("r", "offline", active=Hours(("0s", "1s")))], [UP, CUT], "2m", ["mute"]),
    (
        "flapping",
        [rule("r", "offline")],
        [UP, "10s p1 tcpclean A", "20s p1 connect B", "30s p1 tcpclean B"],
        "65s",
        ["flapping"],
    ),
    (
        "inhibited",
        [rule("r", "offline", inhibited_by=("big",)), rule("big", "offline")],
        [UP, CUT],
        "2m",
        ["inhibited"],
    ),
    (
        "an outage",
        [rule("r", "offline"), rule("o", "outage", outage=OutageTerms(at_least=1))],
        [UP, CUT],
        "2m",
        ["inhibited"],
    ),
    (
        "a full throttle",
        [rule("r", "offline", throttle=(1, "10m"))],
        [UP, "30s p2 tcpclean A", CUT],
        "2m",
        ["throttle until 11m"],
    ),
    (
        "told with its group, later",
        [rule("r", "offline", grouping=Grouping(wait_ms=60_000))],
        [UP, CUT],
        "2m",
        ["grouping until 2m30s", "alert"],
    ),
    (
        "several at once are all named",
        [rule("r", "offline", mute=Hours(("0s", "1h")), inhibited_by=("big",)), rule("big", "offline")],
        [UP, CUT],
        "2m",
        ["mute until 1h", "inhibited"],
    ),
]


@pytest.mark.parametrize(("why", "rules", "story", "when", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_what_is_closed(why: str, rules: list[Rule], story: list[str], when: str, expected: list[str]) -> None:
    assert closed(World(*rules).tell(*story), "r", when) == expected


def test_a_silence_is_named_with_who_gave_it_and_its_end() -> None:
    world = World(rule("r", "offline")).tell(UP).silence("10s", "1h", group=("G",)).tell(CUT)
    assert closed(world, "r", "2m") == ["silence until 1h"]
    detail = next(gate.detail for gate in gates(world, "r", "2m") if gate.stage == "silence")
    assert detail["id"] == "s"


def test_an_outage_is_named_with_its_key_and_how_many_are_down() -> None:
    world = World(rule("r", "offline"), rule("o", "outage", outage=OutageTerms(at_least=1))).tell(UP, CUT)
    detail: dict[str, Any] = next(gate.detail for gate in gates(world, "r", "2m") if gate.stage == "inhibited")
    assert detail == {"rule": "o", "key": '{"group": "G"}', "down": 1, "total": 1}


def test_an_inhibitor_is_named() -> None:
    world = World(rule("r", "offline", inhibited_by=("big",)), rule("big", "offline")).tell(UP, CUT)
    assert next(gate.detail for gate in gates(world, "r", "2m") if gate.stage == "inhibited") == {"rule": "big"}


def test_the_gates_come_in_their_order_and_asking_changes_nothing() -> None:
    rules = [
        rule("r", "offline", for_="5m", condition=lambda seen: True, mute=Hours(), inhibited_by=("b",), throttle=(1, "1m"),
             verify=True, grouping=Grouping()),
        rule("b", "online"),
    ]  # fmt: skip
    world = World(*rules).tell(UP).silence("1s", "1h", group=("X",)).tell(CUT)
    before = len(world.pass_to("7m").lines)
    names = [gate.stage for gate in gates(world, "r", "7m")]
    assert names == [name for name in WAY if name in names] == list(WAY)
    assert len(world.pass_to("7m").lines) == before


def test_no_rule_of_that_name_has_no_gates_and_a_removed_one_says_so() -> None:
    world = World(rule("r", "offline")).tell(UP, CUT).pass_to("2m")
    assert world.fleet.why_not("other", full("p1"), at("2m")) == []
    old, world.rules = world.rules, ()
    world.act(lambda fleet: fleet.use(world.matcher(), old))
    assert closed(world, "r", "2m")[:2] == ["rule", "match"]


def test_a_client_without_a_throttle_yet_has_room() -> None:
    world = World(rule("r", "offline", throttle=(1, "1m", "client")), policy=POLICY).tell(UP)
    assert closed(world, "r", "2m") == ["trigger"]
    assert world.fleet.alerts.throttles == {}


@pytest.mark.parametrize(
    ("events", "when", "is_over", "has_begun", "until"),
    [
        ([UP], "2m", False, False, None),  # online: nothing to count from
        ([UP, CUT], "70s", False, True, "6m"),  # on hold: it counts from the change
        ([UP, CUT], "2m", False, True, "6m"),
        ([UP, CUT], "7m", True, True, None),
    ],
)
def test_for_has_not_passed_before_the_trigger_has_happened(
    events: list[str], when: str, is_over: bool, has_begun: bool, until: str | None
) -> None:
    world = World(rule("r", "offline", for_="5m")).tell(*events)
    (found,) = [one for one in gates(world, "r", when) if one.stage == "for"]
    assert (found.passes, found.detail["has_begun"]) == (is_over, has_begun)
    assert (None if found.until_ms is None else span(found.until_ms)) == until


def test_of_a_rule_about_outages_the_outage_of_the_clients_key_is_asked_for() -> None:
    both = ("0s p2 connect A", "60s p2 tcpclean A", "0s p3 connect A")
    world = World(rule("o", "outage", outage=OutageTerms(at_least=2))).tell(UP, CUT, *both)
    before, _ = gates(world, "o", "30s")[2], world.pass_to("1m30s")
    assert (before.stage, before.passes, before.detail["at_least"], before.detail["total"]) == ("trigger", False, 2, 3)
    assert closed(world, "o", "2m") == ["alert"]  # it fires; and it does not inhibit itself
    told = [gates(world, "o", "2m", client)[2] for client in ("p1", "p3")]
    assert [(one.passes, one.detail["is_member"], one.detail["down"]) for one in told] == [
        (True, True, 2),
        (True, False, 2),
    ]
