"""§6: `outage`: many clients of one key that go offline together are one incident. Hold 30 s, online at once, `within` 1 m."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.alerting.offline_index import OfflineIndex
from engine.core.rules import Match, OutageTerms, Rule
from tests.core.worlds import Hours, World, at, event, full, rule


def outage(name: str = "o", *, at_least: int = 3, recovery: bool = True, **more: Any) -> Rule:
    """An outage rule that tells its end."""
    keys = ("by", "percent", "within_ms", "recover_within_ms", "inhibit")
    terms = {key: more.pop(key) for key in keys if key in more}
    return rule(name, "outage", recovery=recovery, outage=OutageTerms(at_least=at_least, **terms), **more)


DARK = rule("dark", "offline", recovery=True)


def ups(count: int, instant: str = "0s") -> list[str]:
    """`count` clients come online."""
    return [f"{instant} p{number} connect A" for number in range(count)]


def cuts(*which: int, instant: str = "60s") -> list[str]:
    """These clients are cut off."""
    return [f"{instant} p{number} tcpclean A" for number in which]


def backs(*which: int, instant: str) -> list[str]:
    """These come back."""
    return [f"{instant} p{number} connect B" for number in which]


def test_one_incident_instead_of_many() -> None:
    world = World(DARK, outage()).tell(*ups(5), *cuts(0, 1, 2, 3), *backs(0, 1, 2, 3, instant="5m")).run_on()
    assert world.alerts == [
        "1m30s o group=G firing",
        *(f"1m30s dark p{number} suppressed inhibited" for number in range(4)),
        "5m o group=G resolved",
    ]
    assert world.deliveries == ["1m30s o > p0+p1+p2+p3 log firing", "5m o > - log recovery"]


def test_its_templates_see_how_many_there_are_and_who() -> None:
    world = World(outage(), attributes={full("p0"): {"site": "north"}}).tell(*ups(5), *cuts(0, 1, 2, instant="60s"))
    world.tell("70s p3 tcpclean A").pass_to("2m").tell(*backs(0, 1, 2, 3, instant="5m"))
    firing, recovery = world.planned
    told = firing.variables["alert"]
    assert (firing.client, firing.group_key) == (None, {"group": "G"})
    assert [told[name] for name in ("count", "total", "back", "key")] == [4, 4, 0, {"group": "G"}]
    assert told["clients"] == [full(f"p{number}") for number in range(4)]
    assert firing.variables["occurred_at"] == "2026-01-01T00:01:00.000Z"
    assert firing.variables["duration"] == 30
    over = recovery.variables["alert"]
    assert [over[name] for name in ("count", "total", "back", "state")] == [0, 4, 4, "resolved"]
    assert (firing.alert, firing.lane) == (recovery.alert, recovery.lane)


def test_too_few_are_no_outage() -> None:
    world = World(DARK, outage()).tell(*ups(5), *cuts(0, 1)).run_on()
    assert world.alerts == ["1m30s dark p0 firing", "1m30s dark p1 firing"]


PERCENT: list[tuple[str, float, int, int, bool]] = [
    ("exactly the share of those online and counted", 30, 10, 3, True),
    ("one more is online", 30, 11, 3, False),
    ("all of them", 100, 3, 3, True),
    ("all but one", 100, 4, 3, False),
    ("no share asked for", 0, 1000, 3, True),
    ("a broken share", 33.4, 9, 3, False),
]


@pytest.mark.parametrize(("why", "percent", "known", "down", "opens"), PERCENT, ids=[row[0] for row in PERCENT])
def test_the_share(why: str, percent: float, known: int, down: int, opens: bool) -> None:
    world = World(outage(percent=percent)).tell(*ups(known), *cuts(*range(down))).run_on()
    assert bool(world.alerts) is opens


def test_those_offline_for_long_are_neither_counted_nor_in_the_share() -> None:
    world = World(outage(percent=50)).tell(*ups(6), *cuts(0, 1)).pass_to("1h")
    world.tell(*cuts(2, 3, instant="1h")).pass_to("2h")
    assert world.alerts == []
    world.tell(*cuts(4, 5, instant="2h")).pass_to("3h")
    assert world.alerts == []  # two of two
    world.tell(
        *(f"3h p{number} connect C" for number in range(6)), *(f"4h p{number} tcpclean C" for number in range(3))
    )
    assert world.pass_to("5h").alerts == ["4h30s o group=G firing"]


def test_changes_count_that_occurred_within_before_this_one_and_the_bound_is_included() -> None:
    """p2 settles at 2m30s: those whose change occurred at 60 s are exactly one minute older."""
    story = [*ups(5), "60s p0 tcpclean A", "90s p1 tcpclean A", "120s p2 tcpclean A"]
    assert World(outage()).tell(*story).run_on().alerts == ["2m30s o group=G firing"]
    early = [*ups(5), "59s999ms p0 tcpclean A", "90s p1 tcpclean A", "120s p2 tcpclean A"]
    assert World(outage()).tell(*early).run_on().alerts == []


def test_those_on_hold_count_when_the_first_settles() -> None:
    story = [*ups(5), "60s p0 tcpclean A", "70s p1 tcpclean A", "89s p2 tcpclean A"]
    assert World(outage()).tell(*story).run_on().alerts == ["1m30s o group=G firing"]


def test_a_storm_that_is_over_before_the_first_hold_ends_opens_nothing() -> None:
    story = [*ups(9), *cuts(*range(9)), *backs(*range(9), instant="89s999ms")]
    world = World(DARK, outage()).tell(*story).run_on()
    assert world.alerts == []


def test_without_a_share_one_joins_while_at_least_so_many_went_with_it() -> None:
    """Within the minute before its own change, and it counts itself."""
    story = [
        *ups(7),
        *cuts(0, 1, 2),
        "2m p3 tcpclean A",
        "2m30s p4 tcpclean A",
        "3m1s p5 tcpclean A",
    ]
    world = World(DARK, outage()).tell(*story).run_on()
    assert world.alerts[4:] == [
        "2m30s dark p3 suppressed inhibited",
        "3m dark p4 firing",  # p3 and itself
        "3m31s dark p5 firing",  # p4 and itself
    ]


def test_with_a_share_one_joins_while_the_outage_with_it_is_that_share_of_the_key() -> None:
    world = World(DARK, outage(percent=40)).tell(*ups(10), *cuts(0, 1, 2, 3))
    world.tell("10m p4 tcpclean A", "20m p0 connect B", "20m p1 connect B").pass_to("25m")
    assert world.alerts[1:6] == [f"1m30s dark p{number} suppressed inhibited" for number in range(4)] + [
        "10m30s dark p4 suppressed inhibited"  # 5 of 10
    ]
    world.tell("25m p5 tcpclean A").pass_to("26m")  # p2, p3, p4 and itself: 4 of 10
    assert world.alerts[6:] == ["25m30s dark p5 suppressed inhibited"]
    world.tell("26m p2 connect B", "26m p3 connect B", "26m10s p6 tcpclean A").pass_to("26m50s")  # 3 of 10
    assert world.alerts[7:] == ["26m40s dark p6 firing"]


def test_those_offline_for_long_make_an_outage_no_smaller() -> None:
    """p6 to p9 have been offline for days: four that go together are two thirds of the others, and a fifth joins."""
    world = World(DARK, outage(percent=60)).tell(*ups(10), *cuts(6, instant="1m"), *cuts(7, instant="10m"))
    world.tell(*cuts(8, instant="20m"), *cuts(9, instant="30m")).pass_to("50h")
    world.tell(*cuts(0, 1, 2, 3, instant="50h")).tell("50h40s p4 tcpclean A").pass_to("50h2m")
    assert next(line for line in world.alerts if line.startswith("50h")) == "50h30s o group=G firing"
    assert world.alerts[-1] == "50h1m10s dark p4 suppressed inhibited"


def test_a_member_that_has_come_back_is_back_for_good() -> None:
    world = World(DARK, outage(), rule("up", "online")).tell(*ups(6), *cuts(0, 1, 2, 3))
    world.tell("5m p0 connect B", "6m p0 tcpclean B", "7m p0 connect C").pass_to("8m")
    assert world.alerts[5:] == [
        "5m up p0 suppressed inhibited",
        "6m30s dark p0 firing",
        "7m dark p0 resolved",
        "7m up p0 firing",
    ]
    world.tell(*backs(1, 2, 3, instant="9m"))
    (over,) = [line for line in world.planned if line.rule.name == "o" and line.phase == "recovery"]
    assert [over.variables["alert"][name] for name in ("total", "back")] == [4, 4]


def test_one_that_comes_back_and_goes_again_joins_again_while_the_outage_is_that_big() -> None:
    world = World(DARK, outage()).tell(*ups(6), *cuts(0, 1, 2), "95s p0 connect B", "100s p0 tcpclean B")
    world.pass_to("3m").tell(*backs(1, 2, instant="4m")).pass_to("4m59s")
    assert world.alerts[4:] == ["2m10s dark p0 suppressed inhibited"]
    world.tell("4m59s p0 connect C")
    assert world.alerts[5:] == ["4m59s o group=G resolved"]
    assert [world.planned[-1].variables["alert"][name] for name in ("total", "back")] == [3, 3]


RESTLESS = rule("restless", "flapping")


def flapper(*instants: str) -> list[str]:
    """p4 connects 25 s before the outage opens; then it is cut off, comes and is cut off: the fourth change within a minute."""
    first, second, third = instants
    return ["65s p4 connect a", f"{first} p4 tcpclean a", f"{second} p4 connect b", f"{third} p4 tcpclean b"]


def test_who_is_on_hold_and_would_join_is_covered_until_it_is_back() -> None:
    world = World(RESTLESS, outage()).tell(*ups(4), *cuts(0, 1, 2), *flapper("91s", "92s", "93s"))
    assert world.alerts[1:] == ["1m33s restless p4 suppressed inhibited"]
    world.tell("99s p4 connect c")
    assert world.alerts[2:] == ["1m39s restless p4 firing"]


def test_who_is_on_hold_is_covered_no_more_when_the_outage_has_become_too_small() -> None:
    """p2 and p4 are left of those that went within the minute before p4: they are two."""
    world = World(RESTLESS, outage()).tell(*ups(4), *cuts(0, 1, 2), *flapper("91s", "92s", "93s"))
    assert world.tell("95s p0 connect B").alerts[2:] == []
    assert world.tell("96s p1 connect B").alerts[2:] == ["1m36s restless p4 firing"]


def test_with_a_share_too() -> None:
    world = World(RESTLESS, outage(percent=50)).tell(*ups(4), *cuts(0, 1, 2), *flapper("91s", "92s", "93s"))
    assert world.alerts[1:] == ["1m33s restless p4 suppressed inhibited"]
    assert world.tell("95s p0 connect B").alerts[2:] == []  # p1, p2, p4 of 5
    assert world.tell("96s p1 connect B").alerts[2:] == ["1m36s restless p4 firing"]  # p2, p4


def test_one_that_settles_and_joins_stays_covered_and_is_free_when_it_is_back() -> None:
    world = World(RESTLESS, outage()).tell(*ups(4), *cuts(0, 1, 2), *flapper("91s", "92s", "93s")).pass_to("124s")
    world.tell("124s500ms p0 connect B", "124s600ms p1 connect B")
    assert world.alerts[1:] == ["1m33s restless p4 suppressed inhibited"]
    assert world.tell("124s900ms p4 connect c").alerts[2:] == ["2m4s900ms restless p4 firing"]


def test_the_members_say_who_is_down_since_when_and_how_often_they_flapped() -> None:
    names = {full("p0"): {"name": "pump of the north"}}
    world = World(outage(), attributes=names).tell(*ups(5), *cuts(0, instant="60s"), *cuts(1, instant="61s"))
    world.tell("63s p1 connect B", "64s p1 tcpclean B", *cuts(2, instant="65s")).pass_to("2m")
    (firing,) = world.planned
    members = firing.variables["alert"]["members"]
    assert [(one["name"], one["device"], one["status"], one["since"][14:19], one["flaps"]) for one in members] == [
        ("pump of the north", "p0", "offline", "01:00", 0),
        ("p1", "p1", "offline", "01:04", 1),
        ("p2", "p2", "offline", "01:05", 0),
    ]
    world.tell(*backs(2, instant="3m")).tell(*(f"{5 + number}m p9 connect A" for number in range(1))).pass_to("30m")
    over = world.planned[-1].variables["alert"]
    assert [(one["id"], one["flaps"]) for one in over["members"]] == [(full("p0"), 0), (full("p1"), 1)]


def test_it_is_over_when_few_are_down_and_it_is_calm_and_who_is_down_fires_together() -> None:
    story = [*ups(6), *cuts(0, 1, 2, 3, 4), "5m p0 connect B", "6m p1 connect B", "6m30s p2 connect B"]
    world = World(DARK, outage()).tell(*story).run_on()
    assert world.alerts[6:] == ["7m30s o group=G resolved", "7m30s dark p3 firing", "7m30s dark p4 firing"]
    assert world.deliveries[1:] == ["7m30s o > p3+p4 log recovery", "7m30s dark > p3+p4 log firing"]
    told = world.planned[1].variables["alert"]
    assert (told["count"], told["total"], told["back"]) == (2, 5, 3)


def test_half_of_the_peak_is_not_fewer_than_half() -> None:
    world = World(outage()).tell(*ups(6), *cuts(0, 1, 2, 3), *backs(0, 1, instant="5m")).pass_to("19m59s")
    assert world.alerts == ["1m30s o group=G firing"]


def test_a_recovery_that_has_stalled_ends_it_and_who_is_down_fires_together() -> None:
    """Nobody joined or came back for a quarter of an hour since the latest did; before anybody is back, nothing ends it."""
    world = World(DARK, outage()).tell(*ups(6), *cuts(0, 1, 2, 3)).pass_to("9h")
    assert world.alerts[5:] == []
    world.tell("9h p0 connect B", "9h10m p1 connect B").run_on()
    assert world.alerts[5:] == ["9h25m o group=G resolved", "9h25m dark p2 firing", "9h25m dark p3 firing"]
    assert world.deliveries[1:] == ["9h25m o > p2+p3 log recovery", "9h25m dark > p2+p3 log firing"]


def test_how_long_a_recovery_may_stall_is_the_rules() -> None:
    world = World(outage(recover_within_ms=120_000)).tell(*ups(6), *cuts(0, 1, 2, 3), "5m p0 connect B").run_on()
    assert world.alerts[1:] == ["7m o group=G resolved"]


def test_a_replay_does_not_wait_for_an_outage_of_which_nobody_is_back() -> None:
    world = World(outage()).tell(*ups(6), *cuts(0, 1, 2, 3)).run_on()
    assert world.fleet.clock_ms == at("1m30s")


def test_one_who_joins_disturbs_the_calm() -> None:
    story = [*ups(6), *cuts(0, 1, 2, 3, 4), *backs(0, 1, 2, instant="100s"), "120s p5 tcpclean A"]
    world = World(outage()).tell(*story).pass_to("17m29s")
    assert world.alerts == ["1m30s o group=G firing"]  # three of five are down again


def test_one_who_comes_back_disturbs_it_too() -> None:
    story = [*ups(9), *cuts(*range(9)), *backs(0, 1, 2, 3, 4, instant="2m"), *backs(5, instant="2m59s")]
    assert World(outage()).tell(*story).run_on().alerts[1:] == ["3m59s o group=G resolved"]


def test_a_member_that_only_was_on_hold_and_came_back_is_counted_back() -> None:
    story = [*ups(5), *cuts(0, 1, instant="60s"), *cuts(2, instant="80s"), *backs(2, instant="95s")]
    world = World(outage()).tell(*story).tell(*backs(0, 1, instant="5m"))
    assert world.alerts == ["1m30s o group=G firing", "5m o group=G resolved"]
    assert [world.planned[-1].variables["alert"][name] for name in ("total", "back")] == [3, 3]


def test_a_member_that_goes_and_comes_again_is_one_member() -> None:
    story = [*ups(5), *cuts(0, 1, 2), "100s p0 connect B", "105s p0 tcpclean B", "3m p0 connect C"]
    world = World(outage()).tell(*story, *backs(1, 2, instant="4m"))
    assert [world.planned[-1].variables["alert"][name] for name in ("total", "back")] == [3, 3]


def test_alerts_of_every_trigger_are_inhibited_even_of_members_that_are_back() -> None:
    world = World(outage(), rule("back", "online")).tell(*ups(5), *cuts(0, 1, 2), *backs(0, 1, 2, instant="5m"))
    assert world.alerts == [
        "1m30s o group=G firing",
        "5m back p0 suppressed inhibited",
        "5m back p1 suppressed inhibited",
        "5m o group=G resolved",
        "5m back p2 firing",
        "5m back p0 firing",
        "5m back p1 firing",
    ]
    assert world.deliveries[-1] == "5m back > p0+p1 log firing"


def test_without_inhibit_members_speak_for_themselves_but_to_rules_that_name_it() -> None:
    quiet = rule("quiet", "offline", inhibited_by=("o",))
    world = World(DARK, quiet, outage(inhibit=False)).tell(*ups(5), *cuts(0, 1, 2)).pass_to("2m")
    assert world.alerts[:3] == ["1m30s o group=G firing", "1m30s dark p0 firing", "1m30s quiet p0 suppressed inhibited"]


def test_a_silenced_or_muted_outage_still_inhibits_and_fires_when_it_may() -> None:
    silenced = World(DARK, outage()).tell(*ups(5)).silence("1s", "10m", group=("G",)).tell(*cuts(0, 1, 2))
    muted = World(DARK, outage(mute=Hours(("0s", "10m")))).tell(*ups(5), *cuts(0, 1, 2))
    assert muted.pass_to("9m").alerts[:2] == ["1m30s o group=G suppressed mute", "1m30s dark p0 suppressed inhibited"]
    assert muted.pass_to("20m").alerts[4:] == ["10m o group=G firing"]
    assert silenced.pass_to("9m").alerts[:2] == [
        "1m30s o group=G suppressed silence",
        "1m30s dark p0 suppressed silence",
    ]
    assert silenced.pass_to("20m").alerts[4:] == [
        "10m o group=G firing",
        *(f"10m dark p{number} suppressed inhibited" for number in range(3)),
    ]


def test_a_muted_outage_that_ends_is_not_heard_of_and_still_lets_go() -> None:
    world = World(DARK, outage(mute=Hours(("0s", "1h")))).tell(*ups(6), *cuts(0, 1, 2, 3, 4))
    world.tell(*backs(0, 1, 2, instant="3m")).pass_to("5m")
    assert world.alerts[6:] == ["4m dark p3 firing", "4m dark p4 firing"]
    assert world.deliveries == ["4m dark > p3+p4 log firing"]


def test_a_throttled_outage_inhibits_nobody_until_there_is_room() -> None:
    rules = DARK, outage(by=("site",), throttle=(1, "10m"))
    sites = {full(f"p{number}"): {"site": "north" if number < 3 else "south"} for number in range(6)}
    world = World(*rules, attributes=sites).tell(*ups(6), *cuts(0, 1, 2), *cuts(3, 4, 5, instant="65s")).pass_to("20m")
    assert [line for line in world.alerts if " o " in line or "p3" in line] == [
        "1m30s o site=north firing",
        "1m35s o site=south suppressed throttle",
        "1m35s dark p3 firing",
        "11m30s o site=south firing",
    ]


def test_a_shadow_outage_inhibits_only_shadow_rules() -> None:
    world = World(DARK, rule("trial", "offline", shadow=True), outage(shadow=True)).tell(*ups(5), *cuts(0, 1, 2))
    assert world.pass_to("2m").alerts[:3] == [
        "1m30s o group=G firing",
        "1m30s dark p0 firing",
        "1m30s trial p0 suppressed inhibited",
    ]


def test_a_client_without_a_value_belongs_to_none() -> None:
    world = World(outage(by=("site",)), attributes={full(f"p{number}"): {"site": "north"} for number in range(2)})
    assert world.tell(*ups(5), *cuts(*range(5))).run_on().alerts == []


def test_by_network_the_address_of_the_newest_connect_counts() -> None:
    world = World(outage(by=("ip/24",)))
    world.tell(*(f"{number}s p{number} connect A 10.0.{number % 2}.{number}:1" for number in range(6)))
    world.tell("10s p1 connect B 10.0.0.1:1", "60s p1 tcpclean B", *cuts(0, 2, instant="60s")).run_on()
    assert world.alerts == ["1m30s o ip/24=10.0.0.0/24 firing"]


def test_only_clients_the_rule_matches_are_counted() -> None:
    world = World(outage(match=Match(device=("p[0-2]",)))).tell(*ups(5), *cuts(1, 2, 3, 4)).run_on()
    assert world.alerts == []


def test_two_outage_rules_may_cover_one_another() -> None:
    world = World(DARK, outage("small", at_least=2, by=("site",), inhibited_by=("big",)), outage("big", at_least=4),
                  attributes={full(f"p{number}"): {"site": "ab"[number % 2]} for number in range(4)})  # fmt: skip
    world.tell(*ups(4), *cuts(0, 1, 2, 3)).pass_to("2m")
    assert world.alerts[:2] == ["1m30s big group=G firing", "1m30s small site=a suppressed inhibited"]


def test_a_second_failure_after_an_unfinished_outage_is_an_outage_of_its_own() -> None:
    """Of ten, five went and four are back: with one more, what is left of it is too small to be joined."""
    story = [*ups(10), *cuts(0, 1, 2, 3, 4), *backs(0, 1, 2, 3, instant="1h59m30s"), *cuts(5, 6, 7, 8, 9, instant="2h")]
    world = World(DARK, outage(percent=50)).tell(*story).pass_to("2h30s")
    assert [line for line in world.alerts if " o " in line] == [
        "1m30s o group=G firing",
        "2h30s o group=G firing",
        "2h30s o group=G resolved",  # the first: fewer than half of it down, and calm
    ]
    assert world.planned[1].variables["alert"]["clients"] == [full(f"p{number}") for number in range(5, 10)]
    world.tell(*backs(5, 6, 7, 8, 9, instant="4h"))
    assert world.alerts[-1] == "4h o group=G resolved"
    assert [world.planned[-1].variables["alert"][name] for name in ("total", "back")] == [5, 5]


def test_without_a_share_a_later_failure_joins_while_the_outage_goes_on() -> None:
    world = World(DARK, outage()).tell(*ups(9), *cuts(0, 1, 2), *cuts(3, 4, 5, 6, instant="2h")).pass_to("3h")
    assert [line for line in world.alerts if " o " in line] == ["1m30s o group=G firing"]
    world.tell(*backs(*range(7), instant="4h"))
    assert world.alerts[-1] == "4h o group=G resolved"
    assert [world.planned[-1].variables["alert"][name] for name in ("total", "back")] == [7, 7]


def test_a_feed_that_is_behind_opens_no_outage_and_ends_none() -> None:
    world = World(outage()).tell(*ups(6), *cuts(0, 1, 2, 3, 4))
    world.pass_to("5m", silence="80s")
    assert world.alerts == []
    world.pass_to("6m", silence="6m")
    assert world.alerts == ["6m o group=G firing"]
    world.batch([event(row)[0] for row in backs(0, 1, 2, instant="7m")], at("7m"), at("6m"))
    world.pass_to("9m", silence="7m30s")
    assert world.alerts[1:] == []
    world.pass_to("10m", silence="10m")
    assert world.alerts[1:] == ["10m o group=G resolved"]


def test_a_forgotten_member_is_waited_for_no_more() -> None:
    world = World(outage()).tell(*ups(5), *cuts(0, 1, 2), *backs(0, instant="2m")).pass_to("10m")
    for client in ("p1", "p2"):
        world.act(lambda fleet, client=client: fleet.forget(full(client), at("10m")))  # type: ignore[misc]
    assert world.alerts[1:] == ["10m o group=G resolved"]


def test_a_removed_outage_rule_says_so_and_lets_go() -> None:
    rules = DARK, outage()
    world = World(*rules).tell(*ups(5), *cuts(0, 1, 2)).pass_to("5m")
    world.rules = (DARK,)
    world.act(lambda fleet: fleet.use(world.matcher(), [rules[1]]))
    world.pass_to("6m").act(lambda fleet: fleet.alerts.retire("o", at("6m")))
    assert world.deliveries[1:] == ["6m o > p0+p1+p2 log recovery", "6m dark > p0+p1+p2 log firing"]


def test_an_edited_rule_keeps_its_outages_and_counts_anew() -> None:
    world = World(DARK, outage()).tell(*ups(9), *cuts(0, 1, 2)).pass_to("80s")
    world.rules = (DARK, outage(at_least=2))
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("100s").alerts[0] == "1m30s o group=G firing"
    world.rules = (DARK, outage(at_least=7))
    world.act(lambda fleet: fleet.use(world.matcher()))
    world.tell(*backs(0, 1, 2, instant="5m"))
    assert world.alerts[-1] == "5m o group=G resolved"


def test_a_condition_is_asked_of_the_outage_as_a_whole() -> None:
    large = outage(condition=lambda seen: seen["alert"]["count"] >= 5)
    world = World(DARK, large).tell(*ups(9), *cuts(0, 1, 2, 3, instant="60s"), *cuts(4, instant="62s"))
    assert world.pass_to("2m").alerts[:2] == ["1m30s o group=G firing", "1m30s dark p0 suppressed inhibited"]
    small = World(DARK, large).tell(*ups(9), *cuts(0, 1, 2, 3)).pass_to("2m")
    assert small.alerts == [f"1m30s dark p{number} firing" for number in range(4)]
    assert small.fleet.alerts.out.members == {}


def test_who_fired_before_goes_on_firing_and_gets_a_recovery() -> None:
    story = [*ups(6), "60s p0 tcpclean A", "95s p1 tcpclean A", "96s p2 tcpclean A", *backs(0, instant="5m")]
    world = World(DARK, outage()).tell(*story)
    assert world.alerts[:2] == ["1m30s dark p0 firing", "2m5s o group=G firing"]
    assert "5m dark p0 resolved" in world.alerts


def test_reminders_of_members_rest_while_the_outage_lasts() -> None:
    dark = replace(DARK, repeat_ms=120_000)
    story = [*ups(6), "60s p0 tcpclean A", "95s p1 tcpclean A", "96s p2 tcpclean A"]
    world = World(dark, outage(repeat_ms=600_000)).tell(*story).pass_to("15m")
    assert world.deliveries == [
        "1m30s dark > p0 log firing",
        "2m5s o > p0+p1+p2 log firing",
        "12m5s o > p0+p1+p2 log reminder",
    ]


def test_a_large_failover_is_one_incident_and_few_deliveries() -> None:
    """All drop within a minute, nearly all are back within five; told in one batch a second."""
    size, world = 2_000, World(DARK, outage(percent=10))
    world.batch([event(f"0s p{number} connect A")[0] for number in range(size)], at("0s"))
    for second in range(60):
        batch = [event(f"{60 + second}s p{number} tcpclean A")[0] for number in range(second, size, 60)]
        world.batch(batch, at(f"{60 + second}s"))
    for second in range(200):
        batch = [event(f"{150 + second}s p{number} connect B")[0] for number in range(second, size - 8, 200)]
        world.batch(batch, at(f"{150 + second}s"))
    world.run_on()
    assert [line.split()[1:] for line in world.alerts if " o " in line] == [
        ["o", "group=G", word] for word in ("firing", "resolved")
    ]
    assert len(world.deliveries) == 3
    assert [world.planned[1].variables["alert"][name] for name in ("total", "back")] == [size, size - 8]
    assert world.fleet.alerts.open_alerts.by_subject.keys() == {full(f"p{number}") for number in range(size - 8, size)}


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.sampled_from("abcdefgh")), max_size=200),
    st.integers(0, 60),
)
def test_downs_count_like_a_plain_list(changes: list[tuple[bool, int, str]], bound: int) -> None:
    downs, plain = OfflineIndex(), set[tuple[int, str]]()
    for is_down, instant, client in changes:
        if is_down and (instant, client) not in plain:
            plain.add((instant, client))
            downs.add(instant, client)
        elif not is_down and (instant, client) in plain:
            plain.remove((instant, client))
            downs.remove(instant, client)
    assert len(downs) == len(plain)
    found = sorted(entry for entry in plain if entry[0] >= bound)
    assert list(downs.since(bound)) == found
    assert downs.count(bound, 1_000) == len(found)
    assert min(downs.count(bound, 3), 3) == min(len(found), 3)


@given(st.integers(0, 1 << 30))
@settings(max_examples=20)
def test_downs_count_like_a_plain_list_when_they_are_many(seed: int) -> None:
    chance, downs = Random(seed), OfflineIndex()
    entries = [(chance.randrange(40), f"c{number}") for number in range(3_000)]
    for instant, client in entries:
        downs.add(instant, client)
    chance.shuffle(entries)
    for instant, client in entries[:2_000]:
        downs.remove(instant, client)
    left = sorted(entries[2_000:])
    for bound in (0, 17, 41):
        assert list(downs.since(bound)) == [entry for entry in left if entry[0] >= bound]
    assert downs.count(17, 10_000) == sum(instant >= 17 for instant, _ in left)


def test_what_is_not_down_cannot_come_back() -> None:
    downs = OfflineIndex()
    downs.add(1, "a")
    for instant, client in ((1, "b"), (2, "a")):
        with pytest.raises(KeyError):
            downs.remove(instant, client)
    assert len(downs) == 1


def test_keys_of_which_nobody_is_left_are_forgotten() -> None:
    world = World(outage(by=("ip/32",)))
    for number in range(20):
        world.tell(f"{number}s p1 connect {number} 10.0.0.{number}:1")
    assert list(world.fleet.alerts.outages.watches["o"].counts) == ['{"ip/32": "10.0.0.19/32"}']
    world.pass_to("1h").act(lambda fleet: fleet.forget(full("p1"), at("1h")))
    assert world.fleet.alerts.outages.watches["o"].counts == {}
