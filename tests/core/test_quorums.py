"""Trigger `quorum`: so many of a key's clients are settled offline, whenever they went. Hold 30 s, online at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.inventory import Inventory, inventory_of
from engine.core.alerting.alert import AlertLine
from engine.core.fleet import Fleet
from engine.core.presence.client_state import OFFLINE, UNKNOWN, Transition
from engine.core.rules import Match, QuorumTerms, Rule
from tests.core.worlds import POLICY, START_MS, Hours, World, at, full, rule

UP = ["0s p1 connect A", "0s p2 connect A", "0s p3 connect A", "0s p4 connect A"]
HALF_DOWN = [*UP, "60s p1 tcpclean A", "10m p2 tcpclean A"]


def quorum(
    name: str = "q", *, by: tuple[str, ...] = ("group",), down: int = 0, percent: float = 0, **more: Any
) -> Rule:
    """A rule of the trigger `quorum` that logs both ends."""
    return rule(name, "quorum", quorum=QuorumTerms(by=by, down=down, percent=percent), recovery=True, **more)


TABLE: list[tuple[str, Rule, list[str], list[str]]] = [
    (
        "it does not matter when they went: the second makes two",
        quorum(down=2),
        [*HALF_DOWN, "15m p1 connect B"],
        ["10m30s q group=G firing", "15m q group=G resolved"],
    ),
    (
        "half of four",
        quorum(percent=50),
        [*HALF_DOWN, "15m p2 connect B"],
        ["10m30s q group=G firing", "15m q group=G resolved"],
    ),
    ("a part is never rounded down: 51 % of four are three", quorum(percent=51), HALF_DOWN, []),
    (
        "more of them change nothing, and the alert ends when fewer are down than it takes",
        quorum(down=2),
        [*HALF_DOWN, "11m p3 tcpclean A", "15m p1 connect B", "16m p3 connect B"],
        ["10m30s q group=G firing", "16m q group=G resolved"],
    ),
    (
        "a change that does not settle does not count",
        quorum(down=2),
        [*HALF_DOWN[:5], "10m p2 tcpclean A", "10m20s p2 connect B"],
        [],
    ),
    (
        "`for` counts from the transition that reached it, its hold included",
        quorum(down=2, for_="5m"),
        [*HALF_DOWN, "20m p1 connect B"],
        ["10m30s q group=G pending", "15m q group=G firing", "20m q group=G resolved"],
    ),
    (
        "what ends before that is dropped",
        quorum(down=2, for_="5m"),
        [*HALF_DOWN, "14m p1 connect B"],
        ["10m30s q group=G pending"],
    ),
    (
        "a client that appears makes the part smaller: that it is online ends it",
        quorum(percent=50),
        [*HALF_DOWN, "15m p5 connect A"],
        ["10m30s q group=G firing", "15m q group=G resolved"],
    ),
    ("who does not match is not counted", quorum(down=2, match=Match(device=("p1", "p3"))), HALF_DOWN, []),
    (
        "a windowed quorum fires when the window opens, if it still holds",
        quorum(down=2, mute=Hours(("0s", "20m"))),
        HALF_DOWN,
        ["10m30s q group=G suppressed mute", "20m q group=G firing"],
    ),
]


@pytest.mark.parametrize(("why", "one", "story", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_a_quorum(why: str, one: Rule, story: list[str], expected: list[str]) -> None:
    assert World(one).tell(*story).pass_to("30m").alerts == expected


def test_what_its_templates_see() -> None:
    world = World(quorum(down=2)).tell(*HALF_DOWN, "15m p1 connect B")
    firing, recovery = world.planned
    assert (firing.client, firing.group_key, firing.clients) == (None, {"group": "G"}, (full("p1"), full("p2")))
    told = firing.variables["alert"]
    assert (told["count"], told["total"], told["key"]) == (2, 4, {"group": "G"})
    assert [member["id"] for member in told["members"]] == [full("p1"), full("p2")]
    assert firing.variables["occurred_at"] == "2026-01-01T00:10:00.000Z"
    assert (recovery.variables["alert"]["count"], recovery.variables["status"]) == (1, "online")
    assert firing.alert == recovery.alert


def test_a_silence_of_all_who_are_down_covers_it_and_one_of_some_does_not() -> None:
    some = World(quorum(down=2)).silence("0s", "1h", device=("p1",)).tell(*HALF_DOWN).pass_to("11m")
    assert some.alerts == ["10m30s q group=G firing"]
    whole = World(quorum(down=2)).silence("0s", "1h", device=("p1", "p2")).tell(*HALF_DOWN).pass_to("11m")
    assert whole.alerts == ["10m30s q group=G suppressed silence"]


def test_named_as_an_inhibitor_it_covers_those_who_are_down_while_it_fires() -> None:
    dark = rule("dark", "offline", for_="12m", inhibited_by=("q",))
    world = World(dark, quorum(down=2)).tell(*HALF_DOWN, "13m30s p1 connect B").pass_to("30m")
    assert [line for line in world.alerts if " dark " in line] == [
        "1m30s dark p1 pending",
        "10m30s dark p2 pending",
        "13m dark p1 suppressed inhibited",
        "22m dark p2 firing",
    ]


def test_a_new_rule_passes_over_what_is_so_already_until_one_more_goes_down() -> None:
    world = World().tell(*HALF_DOWN).pass_to("12m")
    world.rules = (quorum(down=2),)
    found: list[int] = []

    def take(fleet: Any) -> None:
        fleet.use(world.matcher())
        found.append(fleet.alerts.triggers.adopt(world.rules[0], list(fleet.states.items()), at("12m")))

    world.act(take)
    assert (found, world.alerts) == ([2], [])
    assert world.tell("13m p3 tcpclean A").pass_to("14m").alerts == ["13m30s q group=G firing"]


def test_with_existing_it_fires_for_what_is_so_already_and_for_counts_from_then() -> None:
    world = World().tell(*HALF_DOWN).pass_to("12m")
    world.rules = (quorum(down=2, existing=True, for_="5m"),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    world.act(lambda fleet: fleet.alerts.triggers.adopt(world.rules[0], list(fleet.states.items()), at("12m")))
    assert world.pass_to("30m").alerts == ["12m q group=G pending", "15m q group=G firing"]


def test_an_edit_ends_what_is_not_so_by_the_new_terms_and_leaves_what_is() -> None:
    world = World(quorum(down=2)).tell(*HALF_DOWN).pass_to("12m")
    world.rules = (quorum(percent=50),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("13m").alerts == ["10m30s q group=G firing"]
    world.rules = (quorum(down=3),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("14m").alerts == ["10m30s q group=G firing", "13m q group=G resolved"]


def test_a_forgotten_client_is_no_longer_counted() -> None:
    world = World(quorum(down=2)).tell(*HALF_DOWN).pass_to("12m")
    world.act(lambda fleet: fleet.forget(full("p1"), at("12m")))
    assert world.alerts == ["10m30s q group=G firing", "12m q group=G resolved"]


def test_addresses_move_clients_from_key_to_key() -> None:
    story = ["0s p1 connect A 10.0.0.1:1", "0s p2 connect A 10.0.0.2:1", "0s p3 connect A 10.0.1.3:1"]
    world = World(quorum(by=("ip/24",), percent=100))
    world.tell(*story, "60s p1 tcpclean A 10.0.0.1:1", "120s p2 connect B 10.0.1.2:1").pass_to("2m")
    assert world.alerts == [], "nobody has gone offline since p1 is the only one of its network"
    world.tell("3m p1 connect B 10.0.0.1:2", "4m p1 tcpclean B 10.0.0.1:2").pass_to("5m")
    assert world.alerts == ["4m30s q ip/24=10.0.0.0/24 firing"]
    assert world.tell("6m p1 connect C 10.0.2.1:3").alerts[-1] == "6m q ip/24=10.0.0.0/24 resolved"


LISTINGS: list[tuple[str, list[str], float, bool]] = [
    ("without an inventory those count that are known", [], 50, True),
    ("who is listed counts though it has never connected", ["G@@@p5"], 50, False),
    ("with whole ids alone, they are those that are listed", ["G@@@p1", "G@@@p2", "G@@@p3"], 66, True),
    ("and who is not listed is none of them", ["G@@@p1", "G@@@p3", "G@@@p4"], 34, False),
    ("a pattern beside them lets everybody count", ["G@@@p1", "G@@@p3", "G@@@p4", "*"], 50, True),
]


@pytest.mark.parametrize(("why", "rows", "percent", "fires"), LISTINGS, ids=[row[0] for row in LISTINGS])
def test_whom_a_part_is_taken_of(why: str, rows: Sequence[str], percent: float, fires: bool) -> None:
    listing = inventory_of([{"client": row} for row in rows] + ([{"client": "*"}] if rows == ["G@@@p5"] else []))
    world = World(quorum(percent=percent), listing=listing).tell(*HALF_DOWN).pass_to("20m")
    assert bool(world.alerts) is fires


SITES = {"a": "north", "b": "north", "c": "north", "d": "south", "e": "south", "f": ""}
TERMS = {"two": QuorumTerms(by=("site",), down=2), "part": QuorumTerms(by=("site",), percent=60)}
LISTED = Inventory((), [("G@@@a", ()), ("G@@@zz", ()), ("*", ())])

Step = tuple[int, str, str]


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Seconds, client, and what: connect, tcpclean, forget, or an answer."""
    second, found = 0, []
    for _ in range(draw(st.integers(1, 40))):
        second += draw(st.sampled_from([0, 1, 7, 31, 61]))
        what = draw(st.sampled_from(["connect", "tcpclean", "tcpclean", "forget", "0", "restart"]))
        found.append((second, draw(st.sampled_from(sorted(SITES))), what))
    return found


def forget(client: str, at_ms: int, fleet: Fleet) -> None:
    """An operator forgets a client."""
    fleet.forget(client, at_ms)


def told(story: list[Step]) -> World:
    """The story to two quorum rules."""
    attributes = {full(client): {"site": site} for client, site in SITES.items()} | {"G@@@zz": {"site": "south"}}
    rules = [rule(name, "quorum", quorum=terms) for name, terms in TERMS.items()]
    world = World(*rules, policy=replace(POLICY, flapping_start=100), attributes=attributes, listing=LISTED)
    for number, (second, client, what) in enumerate(story):
        now_ms = START_MS + second * 1_000
        before = len(world.lines)
        world.pass_to(f"{second}s")
        check(world, opens=len(world.lines) > before)
        if what == "forget":
            world.act(partial(forget, full(client), now_ms))
        elif what == "0":
            world.answer(f"{second}s", client, 0, listed=True)
        elif what == "restart":
            alerts = list(world.fleet.alerts.open_alerts)
            world.fleet.restore(alerts, [])
        else:
            world.tell(f"{second}s {client} {what} {client}{number // 3}")
        check(world, opens=False)
    return world.run_on()


def check(world: World, *, opens: bool) -> None:
    """Counts kept by each change are those of looking at everybody; no alert is open that is not so."""
    firing = {(line.rule, (line.key or {})["site"]): line.state for line in world.lines if isinstance(line, AlertLine)}
    for name, terms in TERMS.items():
        for site in ("north", "south"):
            key = f'{{"site": "{site}"}}'
            states = [world.state(client) for client in SITES if SITES[client] == site]
            down = sorted(state.client for state in states if state.settled == OFFLINE)
            total = sum(state.settled != UNKNOWN or state.client == full("a") for state in states)
            total += site == "north" and world.state("a").client == ""  # listed, and not known
            total += site == "south"  # zz is listed, and has never been seen
            quorums = world.fleet.alerts.quorums.quorums
            assert (sorted(quorums.down(name, key)), quorums.size(name, key)[1]) == (down, total)
            enough = len(down) >= 2 if terms.down else bool(down) and len(down) * 100 >= 60 * total
            if firing.get((name, site)) == "firing":
                assert enough
    if not opens:
        return
    # Whoever settled offline last opened what it reached.
    last = [line for line in world.lines if isinstance(line, Transition | AlertLine)]
    if last and isinstance(last[-1], Transition) and last[-1].status == OFFLINE and SITES[last[-1].client[4:]]:
        site = SITES[last[-1].client[4:]]
        for name in TERMS:
            if world.fleet.alerts.quorums.watches[name].is_reached(f'{{"site": "{site}"}}'):
                assert firing.get((name, site)) == "firing"


@settings(deadline=None, max_examples=150)
@given(stories())
def test_counts_kept_by_each_change_are_those_of_looking_at_everybody(story: list[Step]) -> None:
    check(told(story), opens=False)
