"""§6: what fires together because of one ending is a bundle: one thing from its firing to its recovery. Hold 30 s; lists 5 m apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.rules import Grouping, OutageTerms, Rule
from tests.core.worlds import Hours, World, at, full, rule

TOLD = rule("r", "offline", recovery=True)
CUTS = ["60s p1 tcpclean A", "61s p2 tcpclean A", "62s p3 tcpclean A"]


def silenced(told: Rule = TOLD, *others: Rule) -> World:
    """p1, p2 and p3 went offline during a silence that is over at 10m: they have fired together."""
    return World(told, *others).silence("0s", "10m").tell(*CUTS).pass_to("10m")


def ids(world: World) -> set[str]:
    """What deliveries about several are called."""
    return {one.alert for one in world.planned if one.client is None}


# Endings.

ENDINGS: dict[str, tuple[list[Rule], list[str], str]] = {
    "a mute window": ([replace(TOLD, mute=Hours(("0s", "10m")))], CUTS, "10m r > p1+p2+p3 log firing"),
    "an active window begins": ([replace(TOLD, active=Hours(("10m", "1h")))], CUTS, "10m r > p1+p2+p3 log firing"),
    "room in a throttle": ([replace(TOLD, throttle=rule("x", throttle=(1, "5m")).throttle)], CUTS, "6m30s r > p2+p3 log firing"),
    "an outage": (
        [TOLD, rule("gone", "outage", outage=OutageTerms(at_least=3, within_ms=60_000, percent=50))],
        ["0s p1 connect A", "0s p2 connect A", "0s p3 connect A", *CUTS, "2m p1 connect B"],
        "17m r > p2+p3 log firing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_one_ending_lets_fire_is_one_from_its_firing_to_its_recovery(ending: str) -> None:
    rules, story, firing = ENDINGS[ending]
    world = World(*rules).tell(*story).pass_to("20m")
    assert firing in world.deliveries
    world.tell("30m p2 connect B", "31m p3 connect B", "32m p1 connect C").run_on()
    told = [one for one in world.planned if one.client is None and one.rule.name == "r"]
    assert [one.variables["alert"]["phase"] for one in told] == ["firing", "update", "recovery"]
    assert len({one.alert for one in told}) == 1
    assert len({one.key for one in told}) == 3


def test_two_alerts_of_one_client_that_stops_flapping_are_one_thing() -> None:
    story = ["0s p1 connect A", "1s p1 tcpclean A", "2s p1 connect B", "3s p1 tcpclean B"]
    world = World(rule("r", "online", "duplicate", recovery=True)).tell(*story, "40s p1 connect C", "40s p1 connect D")
    world.pass_to("2m")
    assert world.alerts[-2:] == ["1m3s r p1 firing", "1m3s r p1 firing"]
    assert world.deliveries == ["1m3s r > p1 log firing"]
    world.tell("3m p1 tcpclean C").pass_to("9m")
    assert world.deliveries[1:] == []  # it is no duplicate any more, and still online: whom it lists is the same
    assert world.tell("10m p1 tcpclean D").run_on().deliveries[1:] == ["10m30s r > p1 log recovery"]
    assert len(ids(world)) == 1


# Its pace.


def test_the_next_list_leaves_when_what_fires_has_changed_and_not_before_the_interval_is_over() -> None:
    world = silenced().tell("11m p2 connect B", "12m p1 connect B", "14m59s p1 tcpclean B", "16m p3 connect B")
    assert world.run_on().deliveries == [
        "10m r > p1+p2+p3 log firing",
        "15m r > p3 log firing",
        "15m29s r > p1 log firing",  # back, and gone again: an alert of its own
        "20m r > p3 log recovery",
    ]
    assert [one.variables["alert"]["phase"] for one in world.planned] == ["firing", "update", "firing", "recovery"]
    assert len(ids(world)) == 1


def test_it_leaves_at_once_when_the_interval_is_past() -> None:
    world = silenced().tell("30m p2 connect B", "31m p1 connect B", "32m p3 connect B")
    assert world.run_on().deliveries[1:] == ["30m r > p1+p3 log firing", "35m r > p1+p3 log recovery"]


def test_all_back_within_the_interval_is_one_recovery_and_no_word_between() -> None:
    world = silenced().tell("11m p1 connect B", "12m p2 connect B", "13m p3 connect B").run_on()
    firing, recovery = world.planned
    assert world.deliveries == ["10m r > p1+p2+p3 log firing", "15m r > p1+p2+p3 log recovery"]
    assert (firing.alert, firing.lane) == (recovery.alert, recovery.lane)
    assert recovery.variables["alert"]["count"] == 3
    assert recovery.variables["alert"]["started_at"] == firing.variables["alert"]["started_at"]


def test_the_interval_is_the_rules_when_it_has_one_by_now() -> None:
    world = silenced()
    world.rules = (replace(TOLD, grouping=Grouping(interval_ms=60_000)),)
    world.act(lambda fleet: fleet.use(world.matcher())).tell("10m10s p1 connect B", "10m20s p2 connect B")
    assert world.run_on().deliveries[1:] == ["11m r > p3 log firing"]
    assert len(ids(world)) == 1


def test_without_on_recovery_lists_leave_and_no_recovery() -> None:
    world = silenced(rule("r", "offline")).tell("11m p1 connect B", "16m p2 connect B", "17m p3 connect B")
    assert world.run_on().deliveries[1:] == ["15m r > p2+p3 log firing"]


def test_a_rule_that_groups_has_no_bundle() -> None:
    world = silenced(replace(TOLD, grouping=Grouping(wait_ms=30_000))).run_on()
    assert world.deliveries == ["10m30s r > p1+p2+p3 log firing"]


def test_what_is_over_as_it_fires_is_in_one_list_and_has_no_recovery() -> None:
    story = ["60s p1 connect A", "61s p2 connect A", "62s p3 tcpclean A", "20m p3 connect A"]
    world = World(rule("r", "first_seen")).silence("0s", "10m").tell(*story).run_on()
    assert world.deliveries == ["10m r > p1+p2+p3 log firing"]
    assert not world.fleet.alerts.pipeline.groups.all


def test_a_shadow_rule_bundles_alike() -> None:
    world = silenced(replace(TOLD, shadow=True)).tell("11m p1 connect B").run_on()
    assert world.deliveries == ["10m r > p1+p2+p3 log firing", "15m r > p2+p3 log firing"]
    assert {one.rule.shadow for one in world.planned} == {True}


# Operators, reminders, edits.


def test_an_acknowledged_bundle_is_reminded_of_no_more_and_one_of_it_only_leaves_the_others() -> None:
    world = silenced(replace(TOLD, repeat_ms=600_000))
    assert world.acknowledge("11m", rule="r", client=full("p2")) == 1
    assert world.pass_to("21m").deliveries[1:] == ["20m r > p1+p3 log reminder"]
    assert world.acknowledge("22m", alert_id=world.planned[0].alert) == 2
    assert world.pass_to("1h").deliveries[2:] == []
    world.tell("61m p1 connect B", "62m p2 connect B", "63m p3 connect B")
    assert world.run_on().deliveries[2:] == ["1h1m r > p2+p3 log firing", "1h6m r > p2+p3 log recovery"]


def test_a_reminder_leaves_repeat_after_the_last_list() -> None:
    world = silenced(replace(TOLD, repeat_ms=600_000)).tell("12m p1 connect B").pass_to("26m")
    assert world.deliveries[1:] == ["15m r > p2+p3 log firing", "25m r > p2+p3 log reminder"]
    assert len(ids(world)) == 1


def test_a_silence_stops_its_reminders_and_not_its_recovery() -> None:
    world = silenced(replace(TOLD, repeat_ms=600_000)).silence("11m", "1h", id="again").pass_to("50m")
    assert world.deliveries[1:] == []
    world.tell("51m p1 connect B", "51m p2 connect B", "51m p3 connect B")
    assert world.run_on().deliveries[-1].endswith("recovery")


def test_a_removed_rule_ends_it_at_once() -> None:
    world = silenced().tell("11m p1 connect B")
    world.rules = ()
    world.act(lambda fleet: fleet.use(world.matcher(), [TOLD]))
    world.pass_to("12m").act(lambda fleet: fleet.alerts.retire("r", at("12m")))
    assert world.run_on().deliveries[1:] == ["12m r > p1+p2+p3 log recovery"]
    assert world.planned[-1].variables["alert"]["reason"] == "rule_removed"


def test_a_client_that_is_forgotten_leaves_it() -> None:
    world = silenced().act(lambda fleet: fleet.forget(full("p1"), at("11m")))
    assert world.run_on().deliveries[1:] == ["15m r > p2+p3 log firing"]


def test_a_clock_that_is_set_leaves_the_pace_as_it_was() -> None:
    world = silenced().tell("11m p1 connect B")
    step_ms = 3_600_000
    world.act(lambda fleet: fleet.step_clients(fleet.step(step_ms, at("1h11m")), step_ms, at("1h11m")))
    assert world.run_on().deliveries[1:] == ["1h15m r > p2+p3 log firing"]
    assert len(ids(world)) == 1


# About what is no client.


def feed(source: str, trouble: str | None, instant: str) -> Callable[[World], World]:
    """A source is in trouble, or well again."""
    return lambda world: world.pass_to(instant).act(
        lambda fleet: fleet.alerts.triggers.feed(source, trouble, at(instant))
    )


def test_sources_are_told_of_by_name_and_reminded_of_while_nothing_is_read() -> None:
    world = World(rule("r", "feed", recovery=True, mute=Hours(("0s", "10m")), repeat_ms=600_000))
    for step in feed("a", "gone", "1m"), feed("b", "late", "2m"):
        step(world)
    world.pass_to("10m").pass_to("21m", silence="2m")
    for step in feed("a", None, "22m"), feed("b", None, "23m"):
        step(world)
    told = [(one.phase, one.variables["alert"]["source"]) for one in world.run_on().planned]
    assert told == [("firing", "a, b"), ("reminder", "a, b"), ("firing", "b"), ("recovery", "b")]
    assert len(ids(world)) == 1


def test_outages_are_counted_together_in_lists_and_recovery() -> None:
    outages = rule("r", "outage", outage=OutageTerms(at_least=2), recovery=True)
    world = World(outages).silence("0s", "10m")
    story = [f"{60 + number}s {client} tcpclean A" for number, client in enumerate(["p1", "p2", "H@@@q1", "H@@@q2"])]
    world.tell(*(row.replace("60s", "0s").replace("tcpclean", "connect") for row in story[:1])).tell(*story)
    world.pass_to("10m").tell("11m p1 connect B", "11m p2 connect B", "12m H@@@q1 connect B", "12m H@@@q2 connect B")
    firing, recovery = world.run_on().planned
    told = [
        {name: one.variables["alert"][name] for name in ("count", "total", "back", "key")} for one in (firing, recovery)
    ]
    assert told == [
        {"count": 4, "total": 4, "back": 0, "key": {"group": "G, H"}},
        {"count": 0, "total": 4, "back": 4, "key": {"group": "G, H"}},
    ]
    assert sorted(firing.clients or ()) == ["G@@@p1", "G@@@p2", "H@@@q1", "H@@@q2"]


# Whatever happens.


@given(st.lists(st.tuples(st.integers(1, 400), st.sampled_from(["p1", "p2", "p3"]), st.booleans()), max_size=12))
def test_every_list_tells_who_of_it_never_came_back_and_they_are_never_closer_than_the_interval(
    moves: list[tuple[int, str, bool]],
) -> None:
    world, second = silenced(), 600
    gone = {"p1", "p2", "p3"}  # from the beginning
    channel = dict.fromkeys(gone, 0)
    for later, client, is_back in moves:
        second += later
        kind = "connect" if is_back else "tcpclean"
        channel[client] += is_back
        world.tell(f"{second}s {client} {kind} {channel[client]}")
        gone -= {client} if is_back else set()
    told: list[PlannedDelivery] = [one for one in world.run_on().planned if one.client is None]
    lists = [set(one.clients or ()) for one in told if one.phase == "firing"]
    assert all(later < earlier for earlier, later in pairwise(lists))
    assert all(later.at_ms - earlier.at_ms >= 300_000 for earlier, later in pairwise(told))
    assert {one.alert for one in told} == {told[0].alert}
    assert [one.phase for one in told].count("recovery") == (not gone)
    if gone:
        assert lists[-1] == {full(client) for client in gone}
