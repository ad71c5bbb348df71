"""§6: which rule fires when, for whom, and what ends it. One row, one sentence; hold 30 s, flapping from 4 until 1 in a minute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.core.presence.client_state import OFFLINE
from engine.core.rules import Action, Match, Rule
from tests.core.worlds import LOG, POLICY, World, at, event, full, happened, rule

UP, CUT, BACK = "0s p1 connect A", "60s p1 tcpclean A", "10m p1 connect B"
FLAPS = ["0s p1 connect A", "10s p1 tcpclean A", "20s p1 connect B", "30s p1 tcpclean B"]  # flapping 30s to 1m20s

Row = tuple[str, list[Rule], list[str], list[str]]  # why, rules, story, every alert line

TRIGGERS: list[Row] = [
    ("offline: a transition to offline", [rule("r", "offline")], [UP, CUT], ["1m30s r p1 firing"]),
    ("offline: a first one included", [rule("r", "offline")], ["0s p1 tcpclean A"], ["30s r p1 firing"]),
    (
        "offline: resolved by the transition to online",
        [rule("r", "offline")],
        [UP, CUT, BACK],
        ["1m30s r p1 firing", "10m r p1 resolved"],
    ),
    ("offline: a flap suppressed by the hold is none", [rule("r", "offline")], [UP, CUT, "89s p1 connect B"], []),
    ("online: a client's first transition is none", [rule("r", "online")], [UP], []),
    ("online: every later one", [rule("r", "online")], [UP, CUT, BACK], ["10m r p1 firing"]),
    (
        "online: the first online of a client that was offline first",
        [rule("r", "online")],
        ["0s p1 tcpclean A", "60s p1 connect B"],
        ["1m r p1 firing"],
    ),
    (
        "online: resolved by the transition to offline",
        [rule("r", "online")],
        [UP, CUT, BACK, "20m p1 tcpclean B"],
        ["10m r p1 firing", "20m30s r p1 resolved"],
    ),
    (
        "first_seen: the first transition, online or offline, over at once",
        [rule("r", "first_seen")],
        [UP, "0s p2 tcpclean A"],
        ["0s r p1 firing", "0s r p1 resolved", "30s r p2 firing", "30s r p2 resolved"],
    ),
    (
        "first_seen: never a second time",
        [rule("r", "first_seen")],
        [UP, CUT, BACK],
        ["0s r p1 firing", "0s r p1 resolved"],
    ),
    (
        "flapping: fires when it starts, resolved when it stops",
        [rule("r", "flapping")],
        FLAPS,
        ["30s r p1 firing", "1m20s r p1 resolved"],
    ),
    (
        "stable: fires when flapping stops, over at once",
        [rule("r", "stable")],
        FLAPS,
        ["1m20s r p1 firing", "1m20s r p1 resolved"],
    ),
    (
        "duplicate: two live channels, until one is left",
        [rule("r", "duplicate")],
        [UP, "1s p1 connect B", "5s p1 tcpclean A"],
        ["1s r p1 firing", "5s r p1 resolved"],
    ),
    (
        "duplicate: a takeover of a channel connected more than the skew before is none by itself",
        [rule("r", "duplicate")],
        [UP, "1s1ms p1 connect B"],
        [],
    ),
    (
        "duplicate: as many takeovers inside the window as make flapping, until the window is quiet",
        [rule("r", "duplicate")],
        [UP, *(f"{2 * number}s p1 connect {name}" for number, name in enumerate("BCDE", start=1))],
        ["8s r p1 firing", "1m6s r p1 resolved"],
    ),
    (
        "a rule about two statuses follows the client through both",
        [rule("r", "offline", "online")],
        [UP, CUT, BACK],
        ["1m30s r p1 firing", "10m r p1 resolved", "10m r p1 firing"],
    ),
    (
        "two triggers that match one transition fire once, by the lasting one: offline before first_seen",
        [rule("r", "first_seen", "offline")],
        ["0s p1 tcpclean A", "60s p1 connect B"],
        ["30s r p1 firing", "1m r p1 resolved"],
    ),
    (
        "a first online of a rule about online and first_seen fires as first_seen",
        [rule("r", "online", "first_seen")],
        [UP],
        ["0s r p1 firing", "0s r p1 resolved"],
    ),
    (
        "two rules are two alerts, in the order in which they were written",
        [rule("a", "offline"), rule("b", "offline")],
        [UP, CUT],
        ["1m30s a p1 firing", "1m30s b p1 firing"],
    ),
]

FORS: list[Row] = [
    (
        "for counts from `since`, the hold included",
        [rule("r", "offline", for_="5m")],
        [UP, CUT],
        ["1m30s r p1 pending", "6m r p1 firing"],
    ),
    (
        "for counts from when the engine learned of it",
        [rule("r", "offline", for_="5m")],
        [UP, "60s/2m p1 tcpclean A"],
        ["2m30s r p1 pending", "7m r p1 firing"],
    ),
    ("a for that the hold outlasts adds nothing", [rule("r", "offline", for_="30s")], [UP, CUT], ["1m30s r p1 firing"]),
    (
        "a pending alert whose status reverts is dropped without a word",
        [rule("r", "offline", for_="5m", recovery=True)],
        [UP, CUT, "5m59s999ms p1 connect B"],
        ["1m30s r p1 pending"],
    ),
    (
        "one that is over in the instant of the reconnect fires before it",
        [rule("r", "offline", for_="5m")],
        [UP, CUT, "6m p1 connect B"],
        ["1m30s r p1 pending", "6m r p1 firing", "6m r p1 resolved"],
    ),
    (
        "each outage has a for of its own, however short the reconnect between them",
        [rule("r", "offline", for_="5m")],
        [UP, CUT, "2m p1 connect B", "2m p1 tcpclean B"],
        ["1m30s r p1 pending", "2m30s r p1 pending", "7m r p1 firing"],
    ),
    (
        "an online has its for too",
        [rule("r", "online", for_="1m")],
        [UP, CUT, BACK],
        ["10m r p1 pending", "11m r p1 firing"],
    ),
    (
        "for says nothing about first_seen beside a status",
        [rule("r", "first_seen", "offline", for_="1m")],
        [UP],
        ["0s r p1 firing", "0s r p1 resolved"],
    ),
]

FLAPPING: list[Row] = [
    (
        "a rule skips a flapping client, and fires when it is calm and still down",
        [rule("r", "offline")],
        FLAPS,
        ["1m r p1 suppressed flapping", "1m20s r p1 firing"],
    ),
    (
        "it does not fire when the client came back meanwhile, and nobody hears of a recovery",
        [rule("r", "offline", recovery=True)],
        [*FLAPS, "65s p1 connect C"],
        ["1m r p1 suppressed flapping"],
    ),
    ("flapping: fire", [rule("r", "offline", flapping_skip=False)], FLAPS, ["1m r p1 firing"]),
    (
        "what fires already goes on firing when the client begins to flap",
        [rule("r", "offline")],
        ["0s p1 tcpclean A", "40s p1 connect B", "45s p1 tcpclean B", "50s p1 connect C"],
        ["30s r p1 firing", "40s r p1 resolved"],
    ),
    (
        "flapping and stable are never skipped for flapping",
        [rule("f", "flapping"), rule("s", "stable")],
        FLAPS,
        ["30s f p1 firing", "1m20s f p1 resolved", "1m20s s p1 firing", "1m20s s p1 resolved"],
    ),
    (
        "a for that is over while flapping is suppressed then",
        [rule("r", "offline", for_="40s")],
        FLAPS,
        ["1m r p1 pending", "1m10s r p1 suppressed flapping", "1m20s r p1 firing"],
    ),
]

THROTTLED = [f"{second}s {client} tcpclean A" for second, client in enumerate(["p1", "p2", "p3"])]
THROTTLES: list[Row] = [
    (
        "the one beyond max is suppressed and fires when there is room",
        [rule("r", "offline", throttle=(2, "1m"))],
        THROTTLED,
        ["30s r p1 firing", "31s r p2 firing", "32s r p3 suppressed throttle", "1m30s r p3 firing"],
    ),
    (
        "those that wait fire together",
        [rule("r", "offline", throttle=(1, "1m"))],
        THROTTLED,
        [
            "30s r p1 firing",
            "31s r p2 suppressed throttle",
            "32s r p3 suppressed throttle",
            "1m30s r p2 firing",
            "1m30s r p3 firing",
        ],
    ),
    (
        "what reverts meanwhile does not",
        [rule("r", "offline", throttle=(1, "1m"), recovery=True)],
        [*THROTTLED, "60s p2 connect B"],
        [
            "30s r p1 firing",
            "31s r p2 suppressed throttle",
            "32s r p3 suppressed throttle",
            "1m30s r p3 firing",
        ],
    ),
    (
        "a firing counts while it is younger than per: one millisecond before, there is no room",
        [rule("r", "offline", throttle=(1, "1m"))],
        ["0s p1 tcpclean A", "59s999ms p2 tcpclean A"],
        ["30s r p1 firing", "1m29s999ms r p2 suppressed throttle", "1m30s r p2 firing"],
    ),
    (
        "at its very end there is room",
        [rule("r", "offline", throttle=(1, "1m"))],
        ["0s p1 tcpclean A", "60s p2 tcpclean A"],
        ["30s r p1 firing", "1m30s r p2 firing"],
    ),
    (
        "firing together counts once",
        [rule("r", "offline", throttle=(2, "1m"))],
        [*THROTTLED, "3s p4 tcpclean A", "61s p5 tcpclean A"],
        [
            "30s r p1 firing",
            "31s r p2 firing",
            "32s r p3 suppressed throttle",
            "33s r p4 suppressed throttle",
            "1m30s r p3 firing",
            "1m30s r p4 firing",
            "1m31s r p5 firing",
        ],
    ),
    (
        "by client: each has its own",
        [rule("r", "offline", throttle=(1, "1h", "client"))],
        [*THROTTLED[:2], "60s p1 connect B", "70s p1 tcpclean B"],
        [
            "30s r p1 firing",
            "31s r p2 firing",
            "1m r p1 resolved",
            "1m40s r p1 suppressed throttle",
            "1h30s r p1 firing",
        ],
    ),
    (
        "by group: an id without one is a group of its own",
        [rule("r", "offline", throttle=(1, "1h", "group"))],
        ["0s G@@@a tcpclean A", "1s H@@@a tcpclean A", "2s G@@@b tcpclean A"],
        ["30s r a firing", "31s r H@@@a firing", "32s r b suppressed throttle", "1h30s r b firing"],
    ),
    (
        "the rule's flapping comes before its throttle, and counts for nothing in it",
        [rule("r", "offline", throttle=(1, "1m"))],
        [*FLAPS, "31s p2 tcpclean A"],
        [
            "1m r p1 suppressed flapping",
            "1m1s r p2 firing",
            "1m20s r p1 suppressed throttle",
            "2m1s r p1 firing",
        ],
    ),
    (
        "a changed reason is a new line: one that waits for room begins to flap, is calm again, and waits again",
        [rule("r", "offline", throttle=(1, "5m"))],
        [
            "0s p2 tcpclean A",
            "5s p1 tcpclean A",
            "40s p1 connect B",
            "42s p1 tcpclean B",
            "44s p1 connect C",
            "46s p1 tcpclean C",
        ],
        [
            "30s r p2 firing",
            "35s r p1 suppressed throttle",
            "1m16s r p1 suppressed flapping",
            "1m44s r p1 suppressed throttle",
            "5m30s r p1 firing",
        ],
    ),
    (
        "one that ends because the status reverted is not printed",
        [rule("r", "offline", throttle=(1, "5m"), recovery=True)],
        ["0s p2 tcpclean A", "5s p1 tcpclean A", "50s p1 connect B"],
        ["30s r p2 firing", "35s r p1 suppressed throttle"],
    ),
    (
        "what waits for room when its client begins to flap waits for calm instead",
        [rule("r", "duplicate", throttle=(1, "10m"))],
        [
            "0s p2 connect A",
            "0s p2 connect B",
            "1s p1 connect A",
            "1s p1 connect B",
            "10s p1 tcpclean A",
            "10s p1 tcpclean B",
            "20s p1 connect C",
            "20s p1 connect D",
            "21s p1 tcpclean C",
            "21s p1 tcpclean D",
        ],
        [
            "0s r p2 firing",
            "1s r p1 suppressed throttle",
            "20s r p1 suppressed throttle",
            "21s r p1 suppressed flapping",
        ],
    ),
    (
        "suppressed ones count for nothing",
        [rule("r", "offline", throttle=(1, "10s"))],
        [*THROTTLED, "11s p4 tcpclean A"],
        [
            "30s r p1 firing",
            "31s r p2 suppressed throttle",
            "32s r p3 suppressed throttle",
            "40s r p2 firing",
            "40s r p3 firing",
            "41s r p4 suppressed throttle",
            "50s r p4 firing",
        ],
    ),
]

MATCHES: list[Row] = [
    (
        "a match that does not hold is silence",
        [rule("r", "offline", match=Match(group=("H",)))],
        [UP, CUT],
        [],
    ),
    (
        "all fields must hold, any value of a field may",
        [rule("r", "offline", match=Match(group=("G",), device=("x*", "p?")))],
        ["0s p1 tcpclean A", "0s q1 tcpclean A"],
        ["30s r p1 firing"],
    ),
    (
        "ip is the address of the newest connect, without the port",
        [rule("r", "offline", match=Match(ip=("10.0.0.0/24",)))],
        ["0s p1 connect A 10.0.0.7:4711", "60s p1 tcpclean A", "0s p2 connect A 10.0.1.7:4711", "60s p2 tcpclean A"],
        ["1m30s r p1 firing"],
    ),
    (
        "an id without @@@ has an empty group",
        [rule("r", "offline", match=Match(group=("G",)))],
        ["0s H@@@p1 tcpclean A"],
        [],
    ),
]

TABLE = [*TRIGGERS, *FORS, *FLAPPING, *THROTTLES, *MATCHES]


@pytest.mark.parametrize(("why", "rules", "story", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_alerts(why: str, rules: list[Rule], story: list[str], expected: list[str]) -> None:
    ordered = sorted(story, key=lambda row: at(row.split()[0].rpartition("/")[2]))
    assert happened(rules, *ordered).alerts == expected


# Conditions.


def test_a_condition_is_asked_once_when_the_alert_is_due_and_sees_what_templates_see() -> None:
    asked: list[Any] = []

    def condition(variables: Any) -> bool:
        asked.append((variables["status"], variables["previous"], variables["duration"], variables["client"]["device"]))
        return False

    world = happened([rule("r", "offline", for_="5m", condition=condition)], UP, CUT)
    assert world.alerts == ["1m30s r p1 pending"]
    assert asked == [("offline", "online", 300, "p1")]


def test_a_condition_that_does_not_hold_is_silence_and_takes_no_room_in_a_throttle() -> None:
    calm_only = rule("r", "offline", throttle=(1, "1h"), condition=lambda seen: seen["client"]["device"] != "p1")
    assert happened([calm_only], *THROTTLED[:2]).alerts == ["31s r p2 firing"]


# Deliveries.


def test_a_firing_and_its_recovery_each_perform_their_actions_in_order() -> None:
    hook = Action(kind="webhook", spec={"url": "http://pager.test/"})
    world = happened([replace(rule("r", "offline", recovery=True), actions=(hook, LOG))], UP, CUT, BACK)
    assert world.deliveries == [
        "1m30s r > p1 webhook firing",
        "1m30s r > p1 log firing",
        "10m r > p1 log recovery",
    ]


def test_without_on_recovery_none_is_sent() -> None:
    assert happened([rule("r", "offline")], UP, CUT, BACK).deliveries == ["1m30s r > p1 log firing"]


def test_what_fires_together_leaves_as_one_delivery_with_the_list() -> None:
    world = happened([rule("r", "offline", throttle=(1, "1m", "group"), recovery=True)], *THROTTLED, "5m p2 connect B")
    assert world.deliveries == ["30s r > p1 log firing", "1m30s r > p2+p3 log firing", "6m30s r > p3 log firing"]
    together = world.planned[1]
    assert together.client is None
    assert together.group_key == {"group": "G"}
    assert together.variables["alert"]["count"] == 2
    assert together.variables["alert"]["clients"] == [full("p2"), full("p3")]


def test_the_recovery_of_what_was_told_together_carries_the_name_of_that_firing_and_a_key_of_its_own() -> None:
    """So that a firing which is dead takes its recovery along."""
    story = [*THROTTLED, "5m p2 connect B", "6m p3 connect B", "7m p1 connect B"]
    planned = happened([rule("r", "offline", throttle=(1, "1m"), recovery=True)], *story).planned
    alone, together, *recoveries = [one.alert for one in planned]
    assert recoveries == [together, alone]
    assert len({one.key for one in planned}) == 4


def test_one_that_waited_alone_leaves_as_a_delivery_about_it() -> None:
    world = happened([rule("r", "offline", throttle=(1, "1m"))], *THROTTLED[:2])
    assert world.deliveries == ["30s r > p1 log firing", "1m30s r > p2 log firing"]


def test_a_shadow_rule_is_computed_and_recorded_like_any_other() -> None:
    world = happened([rule("r", "offline", shadow=True, recovery=True)], UP, CUT, BACK)
    assert world.alerts == ["1m30s r p1 firing", "10m r p1 resolved"]
    assert [planned.rule.shadow for planned in world.planned] == [True, True]


def test_templates_are_told_what_happened() -> None:
    world = happened(
        [rule("r", "offline", recovery=True, severity="critical", description="d", labels={"team": "x"})],
        "0s p1 connect A 10.0.0.1:5",
        "10s p1 tcpclean A",
        "20s p1 connect B 10.0.0.2:5",
        "60s p1 disconnect B",
        "60s/65s p1 tcpclean B",
        "5m p1 connect C 10.0.0.3:5",
        attributes={full("p1"): {"site": "north"}},
    )
    firing, recovery = (planned.variables for planned in world.planned)
    assert firing["client"] == {
        "id": full("p1"),
        "group": "G",
        "device": "p1",
        "ip": "10.0.0.2",
        "attributes": {"site": "north"},
    }
    told = ("status", "previous", "occurred_at", "since", "settled_at", "duration", "graceful", "flaps", "flapping")
    assert [firing[name] for name in told] == [
        "offline",
        "online",
        "2026-01-01T00:01:00.000Z",
        "2026-01-01T00:01:05.000Z",
        "2026-01-01T00:01:35.000Z",
        35,
        True,
        1,
        False,
    ]
    assert firing["rule"] == {"name": "r", "severity": "critical", "description": "d", "labels": {"team": "x"}}
    assert firing["alert"]["state"] == "firing"
    assert [recovery[name] for name in ("status", "previous", "occurred_at", "graceful")] == [
        "online",
        "offline",
        "2026-01-01T00:05:00.000Z",
        False,
    ]
    assert recovery["alert"]["id"] == firing["alert"]["id"]
    assert recovery["alert"]["state"] == "resolved"


def test_the_same_decision_has_the_same_key_and_different_ones_differ() -> None:
    story = [UP, CUT, BACK, "20m p1 tcpclean B"]
    first, again = (happened([rule("r", "offline", "online", recovery=True)], *story) for _ in range(2))
    keys = [planned.key for planned in first.planned]
    assert keys == [planned.key for planned in again.planned]
    assert len(set(keys)) == len(keys)


def test_two_alerts_of_one_instant_are_two_decisions_with_two_keys() -> None:
    """Without holds a client can go and come and go inside one millisecond, and be told of each time."""
    policy = replace(POLICY, offline_ms=0)
    story = [UP, "60s p1 tcpclean A", "60s p1 connect B", "60s p1 tcpclean B"]
    world = happened([rule("r", "offline", recovery=True, flapping_skip=False)], *story, policy=policy)
    assert world.alerts == ["1m r p1 firing", "1m r p1 resolved", "1m r p1 firing"]
    assert len({planned.key for planned in world.planned}) == 3


def test_lanes_keep_what_one_rule_says_of_one_client_in_order() -> None:
    world = happened([rule("r", "offline", recovery=True), rule("s", "offline")], UP, CUT, BACK)
    lanes = {(planned.rule.name, planned.lane) for planned in world.planned}
    assert len(lanes) == 2
    throttled = happened([rule("r", "offline", throttle=(1, "1m"), recovery=True)], *THROTTLED, "5m p1 connect B")
    assert len({planned.lane for planned in throttled.planned}) == 1


# Feeds.


def feed(world: World, instant: str, trouble: str | None, source: str = "log") -> World:
    """Time passes, then a source is found in trouble, or well again."""
    world.pass_to(instant)
    return world.act(lambda fleet: fleet.alerts.triggers.feed(source, trouble, at(instant)))


def test_a_feed_in_trouble_fires_once_and_is_resolved_when_it_is_well() -> None:
    world = World(rule("dead-feed", "feed", recovery=True), rule("other", "offline"))
    feed(feed(feed(world, "1m", "disconnected"), "2m", "still disconnected"), "3m", None)
    assert world.alerts == ["1m dead-feed log firing", "3m dead-feed log resolved"]
    firing, recovery = world.planned
    assert firing.client is None
    assert firing.group_key == recovery.group_key == {"source": "log"}
    assert firing.variables["alert"]["source"] == "log"
    assert firing.variables["alert"]["detail"] == "disconnected"
    assert firing.variables["client"] is None


def test_two_sources_are_two_alerts() -> None:
    world = feed(feed(World(rule("r", "feed")), "1m", "x", "a"), "2m", "x", "b")
    assert world.alerts == ["1m r a firing", "2m r b firing"]


def test_a_feed_that_is_well_says_nothing() -> None:
    assert feed(World(rule("r", "feed", recovery=True)), "1m", None).story == []


def test_feeds_that_waited_for_a_throttle_are_told_together_by_their_names() -> None:
    world = World(rule("r", "feed", throttle=(1, "10m")))
    feed(feed(feed(world, "1m", "x", "a"), "2m", "gone", "b"), "3m", "late", "c")
    together = world.run_on().planned[-1]
    assert world.alerts[-2:] == ["11m r b firing", "11m r c firing"]
    assert (together.client, together.clients) == (None, ())
    assert together.variables["alert"]["source"] == "b, c"
    assert together.variables["alert"]["detail"] == "gone; late"


# What is kept.


def test_throttles_in_which_nothing_counts_are_forgotten_some_at_a_time() -> None:
    world = World(rule("r", "offline", throttle=(1, "1m", "client"))).tell(*THROTTLED).pass_to("1m31s")
    assert len(world.fleet.alerts.throttles) == 3
    world.act(
        lambda fleet: fleet.alerts.purge(at("1m31s"), 2)
    )  # p1's counts no more at 1m30s, p2's and p3's do or just do
    world.act(lambda fleet: fleet.alerts.purge(at("1m31s"), 2))
    assert [key for _, key in world.fleet.alerts.throttles] == [f'{{"client": "{full("p3")}"}}']
    changed = {key: throttled.firings for (_, key), throttled in world.fleet.alerts.out.throttles.items()}
    assert all(firings == [] for firings in changed.values())


def test_a_throttle_that_someone_waits_for_is_kept() -> None:
    world = World(rule("r", "offline", throttle=(1, "1m"))).tell(*THROTTLED[:2]).pass_to("1m29s")
    world.act(lambda fleet: fleet.alerts.purge(at("1m29s")))
    assert world.run_on().alerts[-1] == "1m30s r p2 firing"


# Editing rules.


def test_a_new_rule_fires_from_now_on_only_and_says_how_many_it_passed_over() -> None:
    world = World().tell(UP, CUT).pass_to("5m")
    new = rule("r", "offline")
    assert adopted(world, new, "5m") == 1
    assert world.alerts == []


def adopted(world: World, new: Rule, instant: str) -> int:
    """A rule is loaded that was not there before; how many clients it passed over or fired for."""
    world.rules = (*world.rules, new)
    found: list[int] = []

    def load(fleet: Any) -> None:
        fleet.use(world.matcher())
        found.append(fleet.alerts.triggers.adopt(new, list(fleet.states.items()), at(instant)))

    world.act(load)
    return found[0]


def test_an_existing_rule_fires_for_clients_in_its_status_too_and_is_resolved_like_any_other() -> None:
    world = World().tell(UP, CUT, "0s p2 connect A").pass_to("5m")
    assert adopted(world, rule("r", "offline", existing=True, recovery=True), "5m") == 1
    assert world.alerts == ["5m r p1 firing"]
    world.tell(BACK)
    assert world.alerts[1:] == ["10m r p1 resolved"]


def test_an_existing_rule_waits_for_what_is_left_of_its_for() -> None:
    world = World().tell(UP, CUT).pass_to("5m")
    adopted(world, rule("r", "offline", existing=True, for_="10m"), "5m")
    assert world.run_on().alerts == ["5m r p1 pending", "11m r p1 firing"]


def test_an_existing_rule_passes_over_clients_that_do_not_match_or_are_on_hold() -> None:
    world = World().tell(UP, CUT, "0s q1 tcpclean A", "4m50s p2 connect A", "4m55s p2 tcpclean A").pass_to("5m")
    matching = rule("r", "offline", existing=True, match=Match(device=("p*",)))
    assert adopted(world, matching, "5m") == 1
    assert world.alerts == ["5m r p1 firing"]


def retired(world: World, name: str, instant: str) -> World:
    """A rule has been gone for long enough."""
    gone = [one for one in world.rules if one.name == name]
    world.rules = tuple(one for one in world.rules if one.name != name)
    world.act(lambda fleet: fleet.use(world.matcher(), gone))
    world.pass_to(instant)
    return world.act(lambda fleet: fleet.alerts.retire(name, at(instant)))


def test_a_rule_that_is_removed_sends_the_recovery_of_what_it_sent() -> None:
    world = retired(World(rule("r", "offline", recovery=True)).tell(UP, CUT).pass_to("5m"), "r", "6m")
    assert world.alerts == ["1m30s r p1 firing", "6m r p1 resolved rule_removed"]
    assert world.deliveries == ["1m30s r > p1 log firing", "6m r > p1 log recovery"]
    assert world.tell(BACK, "20m p1 tcpclean B").run_on().alerts[2:] == []


def test_a_rule_that_is_removed_drops_what_nobody_heard_of() -> None:
    pending = World(rule("r", "offline", for_="1h", recovery=True)).tell(UP, CUT).pass_to("5m")
    assert retired(pending, "r", "6m").run_on().alerts == ["1m30s r p1 pending"]
    throttled = World(rule("r", "offline", throttle=(1, "1h"), recovery=True)).tell(*THROTTLED[:2]).pass_to("5m")
    assert retired(throttled, "r", "6m").run_on().deliveries == ["30s r > p1 log firing", "6m r > p1 log recovery"]


def test_until_it_is_retired_a_removed_rule_opens_nothing_and_still_ends_what_it_began() -> None:
    world = World(rule("r", "offline", recovery=True)).tell(UP, CUT, "0s p2 connect A").pass_to("5m")
    gone, world.rules = world.rules, ()
    world.act(lambda fleet: fleet.use(world.matcher(), gone))
    world.tell("6m p2 tcpclean A", BACK).run_on()
    assert world.alerts == ["1m30s r p1 firing", "10m r p1 resolved"]
    assert world.deliveries[1:] == ["10m r > p1 log recovery"]


def test_an_edited_rule_keeps_the_alerts_of_its_name() -> None:
    world = World(rule("r", "offline", for_="10m")).tell(UP, CUT).pass_to("5m")
    world.rules = (rule("r", "offline", for_="10m", recovery=True),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    world.tell("20m p1 connect B")
    assert world.alerts == ["1m30s r p1 pending", "11m r p1 firing", "20m r p1 resolved"]
    assert world.deliveries[-1] == "20m r > p1 log recovery"


# Forgetting.


def test_a_forgotten_client_leaves_no_incident_open_and_is_new_when_it_returns() -> None:
    slow = rule("slow", "offline", for_="1h", recovery=True)
    world = World(rule("r", "offline", recovery=True), slow, rule("new", "first_seen")).tell(UP, CUT).pass_to("5m")
    told = len(world.story)
    world.act(lambda fleet: fleet.forget(full("p1"), at("5m")))
    assert full("p1") not in world.fleet.states
    ended = ["5m r p1 resolved client_forgotten", "5m r > p1 log recovery"]
    assert world.story[told:] == ended
    world.tell(BACK)
    assert world.story[told:] == [
        *ended,
        "10m p1 online first",
        "10m new p1 firing",
        "10m new > p1 log firing",
        "10m new p1 resolved",
    ]


def test_a_client_that_is_heard_of_in_the_same_transaction_is_not_forgotten() -> None:
    world = World().tell(UP, CUT).pass_to("5m")
    world.fleet.begin()
    world.fleet.forget(full("p1"), at("5m"))
    assert world.fleet.published(full("p1")) is not None  # readers see what was committed
    world.fleet.apply([event("6m p1 connect C")[0]], at("6m"), at("6m"))
    world.commit()
    assert world.status("p1") == "online"
    assert world.state("p1").settled != OFFLINE
