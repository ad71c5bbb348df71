"""§6: trigger `schedule`: at each tick one alert over all clients that match and meet the condition. Hold 30 s."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.alerting.alert import Kept
from engine.core.alerting.schedules import Tick
from engine.core.rules import Match, Rule, Schedule
from tests.core.worlds import Every, Hours, World, at, full, rule


def is_offline(seen: Any) -> bool:
    """Is the client dark?"""
    return bool(seen["status"] == "offline")


def called(name: str = "roll", every: str = "10m", catch_up: str = "once", **more: Any) -> Rule:
    """A roll call of who is dark."""
    more.setdefault("condition", is_offline)
    return rule(name, "schedule", schedule=Schedule(ticks=Every(every), catch_up=catch_up), recovery=True, **more)


STORY = ["1s p1 connect A", "2s p2 connect A", "3s p3 connect A", "60s p1 tcpclean A", "61s p2 tcpclean A"]


def test_each_tick_is_one_alert_over_all_who_are_missing_and_over_at_once() -> None:
    world = World(called()).tell(*STORY, "15m p1 connect B").pass_to("25m")
    assert world.alerts == ["10m roll - firing", "10m roll - resolved", "20m roll - firing", "20m roll - resolved"]
    assert world.deliveries == ["10m roll > p1+p2 log firing", "20m roll > p2 log firing"]
    planned = world.planned[0]
    told = planned.variables["alert"]
    assert (planned.client, planned.group_key, planned.clients) == (None, {}, (full("p1"), full("p2")))
    assert (told["count"], told["clients"], told["key"]) == (2, [full("p1"), full("p2")], {})
    assert planned.variables["occurred_at"] == "2026-01-01T00:10:00.000Z"
    assert len({one.key for one in world.planned}) == 2


def test_nobody_missing_is_silence() -> None:
    assert World(called()).tell(*STORY[:3]).pass_to("1h").story[3:] == []


def test_only_those_who_match_are_called() -> None:
    world = World(called(match=Match(device=("p2", "p3")))).tell(*STORY).pass_to("11m")
    assert world.deliveries == ["10m roll > p2 log firing"]


def test_without_a_condition_everybody_is_listed() -> None:
    assert World(called(condition=None)).tell(*STORY).pass_to("11m").deliveries == ["10m roll > p1+p2+p3 log firing"]


@pytest.mark.parametrize("names", [frozenset({"status"}), frozenset({"status", "client"})])
def test_a_condition_on_the_status_alone_is_asked_once_for_each(names: frozenset[str]) -> None:
    asked: list[str] = []

    def condition(seen: Any) -> bool:
        asked.append(seen["client"]["device"])
        return is_offline(seen)

    world = World(called(condition=condition, condition_names=names)).tell(*STORY).pass_to("11m")
    assert world.deliveries == ["10m roll > p1+p2 log firing"]
    assert len(asked) == (2 if names == {"status"} else 3)


def test_what_happens_in_the_instant_of_the_tick_and_is_due_comes_before_it() -> None:
    world = World(called()).tell(*STORY[:3], "9m30s p3 tcpclean A").pass_to("10m")
    assert world.deliveries == ["10m roll > p3 log firing"]


def test_what_is_told_in_the_instant_of_the_tick_comes_after_it() -> None:
    assert World(called()).tell(*STORY, "10m p1 connect B").deliveries == ["10m roll > p1+p2 log firing"]


def test_a_muted_or_silenced_roll_call_is_not_held_later() -> None:
    muted = World(called(mute=Hours(("5m", "15m")))).tell(*STORY).pass_to("21m")
    assert muted.alerts == ["10m roll - suppressed mute", "20m roll - firing", "20m roll - resolved"]
    silenced = World(called()).silence("0s", "15m").tell(*STORY).pass_to("21m")
    assert silenced.alerts[0] == "10m roll - suppressed silence"
    assert silenced.deliveries == ["20m roll > p1+p2 log firing"]


def test_a_silence_of_all_who_are_missing_silences_the_call_and_one_of_some_does_not() -> None:
    some = World(called()).silence("0s", "15m", device=("p1",)).tell(*STORY).pass_to("11m")
    assert some.deliveries == ["10m roll > p1+p2 log firing"]
    whole = World(called()).silence("0s", "15m", device=("p1", "p2")).tell(*STORY).pass_to("11m")
    assert whole.alerts == ["10m roll - suppressed silence"]


def test_a_throttled_roll_call_is_not_held_later() -> None:
    world = World(called(throttle=(1, "15m"))).tell(*STORY).pass_to("31m")
    assert world.alerts[2:3] == ["20m roll - suppressed throttle"]
    assert world.deliveries == ["10m roll > p1+p2 log firing", "30m roll > p1+p2 log firing"]


def test_a_replay_does_not_run_on_for_roll_calls() -> None:
    world = World(called()).tell(*STORY).run_on()
    assert world.deliveries == []
    world.fleet.begin()
    assert not world.fleet.advance((1 << 60) - 1, (1 << 60) - 1)


def test_but_those_due_while_it_runs_on_for_something_else_are_held() -> None:
    world = World(rule("long", "offline", for_="25m"), called()).tell(*STORY)
    world.fleet.begin()
    world.fleet.advance((1 << 60) - 1, (1 << 60) - 1)
    world.commit()
    assert [line for line in world.deliveries if "roll" in line] == [
        "10m roll > p1+p2 log firing",
        "20m roll > p1+p2 log firing",
    ]


PAUSES: list[tuple[str, str, str, list[str]]] = [
    ("a call missed for long is held once, at once", "once", "35m", ["35m roll > p1+p2 log firing"]),
    ("or passed over", "skip", "35m", []),
    (
        "one that is late by seconds is held as if nothing had happened",
        "skip",
        "10m59s",
        ["10m roll > p1+p2 log firing"],
    ),
    ("the same with once", "once", "10m59s", ["10m roll > p1+p2 log firing"]),
    ("a minute is a pause", "skip", "11m", []),
]


@pytest.mark.parametrize(("why", "catch_up", "back", "expected"), PAUSES, ids=[row[0] for row in PAUSES])
def test_after_a_pause(why: str, catch_up: str, back: str, expected: list[str]) -> None:
    world = World(called(catch_up=catch_up)).tell(*STORY).pass_to("5m")
    kept = Kept(schedules=[Tick("roll", world.fleet.alerts.schedules.ticks["roll"].at_ms)])
    world.act(lambda fleet: fleet.restore([], [], kept))
    assert world.pass_to(back).deliveries == expected
    assert world.pass_to("41m").deliveries[len(expected) :][-1:] == ["40m roll > p1+p2 log firing"]


def test_how_far_it_has_come_is_told_at_each_tick() -> None:
    world = World(called()).tell(*STORY).pass_to("10m")
    assert world.fleet.alerts.out.schedules["roll"].at_ms == at("10m")


def test_a_new_rule_begins_with_the_instant_in_which_it_is_loaded() -> None:
    world = World().tell(*STORY).pass_to("35m")
    world.rules = (called(),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("41m").deliveries == ["40m roll > p1+p2 log firing"]


def test_an_edited_schedule_goes_on_from_its_last_tick_and_a_removed_one_is_held_no_more() -> None:
    world = World(called()).tell(*STORY).pass_to("10m")
    old, world.rules = world.rules, (called(every="7m"),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("15m").deliveries[1:] == ["14m roll > p1+p2 log firing"]
    world.rules = ()
    world.act(lambda fleet: fleet.use(world.matcher(), old))
    assert world.pass_to("1h").deliveries[2:] == []
