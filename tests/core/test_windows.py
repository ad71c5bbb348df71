"""§6: `active` and `mute`. Hold 30 s; a calendar here is a list of plain windows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core.rules import Rule
from tests.core.worlds import Hours, World, at, rule

CUT, CUT2, BACK = "0s p1 tcpclean A", "1s p2 tcpclean A", "5m p1 connect B"
NIGHT = Hours(("0s", "10m"))

Row = tuple[str, Rule, list[str], list[str]]

TABLE: list[Row] = [
    (
        "inside a mute window nothing fires; at its end what is still down does, together",
        rule("r", "offline", mute=NIGHT),
        [CUT, CUT2],
        [
            "30s r p1 suppressed mute",
            "31s r p2 suppressed mute",
            "10m r p1 firing",
            "10m r p2 firing",
            "10m r > p1+p2 log firing",
        ],
    ),
    (
        "what came back meanwhile is not heard of, nor is its recovery",
        rule("r", "offline", mute=NIGHT, recovery=True),
        [CUT, CUT2, BACK],
        ["30s r p1 suppressed mute", "31s r p2 suppressed mute", "10m r p2 firing", "10m r > p2 log firing"],
    ),
    (
        "the end of a window is excluded",
        rule("r", "offline", mute=Hours(("0s", "30s"))),
        [CUT],
        ["30s r p1 firing", "30s r > p1 log firing"],
    ),
    (
        "its beginning is included",
        rule("r", "offline", mute=Hours(("30s", "31s"))),
        [CUT],
        ["30s r p1 suppressed mute", "31s r p1 firing", "31s r > p1 log firing"],
    ),
    (
        "outside of the active windows nothing fires, until one begins",
        rule("r", "offline", active=Hours(("10m", "20m"))),
        [CUT],
        ["30s r p1 suppressed mute", "10m r p1 firing", "10m r > p1 log firing"],
    ),
    (
        "mute wins over active, and both must let it pass",
        rule("r", "offline", active=Hours(("5m", "20m")), mute=Hours(("4m", "12m"))),
        [CUT],
        ["30s r p1 suppressed mute", "12m r p1 firing", "12m r > p1 log firing"],
    ),
    (
        "a window that follows at once goes on",
        rule("r", "offline", mute=Hours(("0s", "5m"), ("5m", "10m"))),
        [CUT],
        ["30s r p1 suppressed mute", "10m r p1 firing", "10m r > p1 log firing"],
    ),
    (
        "the recovery of a firing that was sent is sent in a mute window too",
        rule("r", "offline", mute=Hours(("1m", "20m")), recovery=True),
        [CUT, BACK],
        ["30s r p1 firing", "30s r > p1 log firing", "5m r p1 resolved", "5m r > p1 log recovery"],
    ),
    (
        "a firing that a throttle would have no room for is muted first, and waits for room after that",
        rule("r", "offline", mute=Hours(("31s", "10m")), throttle=(1, "15m")),
        [CUT, CUT2],
        [
            "30s r p1 firing",
            "30s r > p1 log firing",
            "31s r p2 suppressed mute",
            "10m r p2 suppressed throttle",
            "15m30s r p2 firing",
            "15m30s r > p2 log firing",
        ],
    ),
    (
        "several that a window held count once in a throttle, because they fire as one",
        rule("r", "offline", mute=NIGHT, throttle=(1, "15m")),
        [CUT, CUT2, "12m p3 tcpclean A"],
        [
            "30s r p1 suppressed mute",
            "31s r p2 suppressed mute",
            "10m r p1 firing",
            "10m r p2 firing",
            "10m r > p1+p2 log firing",
            "12m30s r p3 suppressed throttle",
            "25m r p3 firing",
            "25m r > p3 log firing",
        ],
    ),
    (
        "by client each counts in its own throttle, and they still leave as one",
        rule("r", "offline", mute=NIGHT, throttle=(1, "15m", "client")),
        [CUT, CUT2],
        [
            "30s r p1 suppressed mute",
            "31s r p2 suppressed mute",
            "10m r p1 firing",
            "10m r p2 firing",
            "10m r > p1+p2 log firing",
        ],
    ),
    (
        "first_seen waits for the window's end like any other",
        rule("r", "first_seen", mute=NIGHT),
        ["0s p1 connect A"],
        ["0s r p1 suppressed mute", "10m r p1 firing", "10m r > p1 log firing", "10m r p1 resolved"],
    ),
    (
        "a `for` that is over inside the window waits for its end",
        rule("r", "offline", for_="5m", mute=NIGHT),
        [CUT],
        ["30s r p1 pending", "5m r p1 suppressed mute", "10m r p1 firing", "10m r > p1 log firing"],
    ),
    (
        "flapping comes before mute, and mute is what is left of it",
        rule("r", "offline", mute=NIGHT),
        ["0s p1 connect A", "10s p1 tcpclean A", "20s p1 connect B", "30s p1 tcpclean B"],
        [
            "1m r p1 suppressed flapping",
            "1m20s r p1 suppressed mute",
            "10m r p1 firing",
            "10m r > p1 log firing",
        ],
    ),
]


@pytest.mark.parametrize(("why", "muted", "story", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_windows(why: str, muted: Rule, story: list[str], expected: list[str]) -> None:
    world = World(muted).tell(*story).pass_to("30m")
    assert [line for line in world.story if " r " in line] == expected


def test_a_feed_is_muted_like_anything_else_and_heard_of_at_the_end() -> None:
    world = World(rule("r", "feed", mute=NIGHT))
    world.act(lambda fleet: fleet.alerts.triggers.feed("log", "gone", at("1m")))
    assert world.pass_to("10m").alerts == ["1m r log suppressed mute", "10m r log firing"]


def test_an_edited_window_holds_from_the_edit_on() -> None:
    world = World(rule("r", "offline", mute=NIGHT)).tell(CUT).pass_to("2m")
    world.rules = (replace(world.rules[0], mute=Hours(("0s", "4m"))),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("20m").alerts == ["30s r p1 suppressed mute", "4m r p1 firing"]


def test_a_window_that_an_edit_takes_away_holds_nothing_any_more() -> None:
    world = World(rule("r", "offline", mute=NIGHT)).tell(CUT).pass_to("2m")
    world.rules = (rule("r", "offline"),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("3m").alerts == ["30s r p1 suppressed mute", "2m r p1 firing"]


def test_a_replay_does_not_wait_for_the_end_of_a_window() -> None:
    assert World(rule("r", "offline", mute=NIGHT)).tell(CUT).run_on().alerts == ["30s r p1 suppressed mute"]


def test_alerts_that_come_and_go_all_night_leave_one_deadline() -> None:
    world = World(rule("r", "offline", mute=Hours(("0s", "10h"))))
    for hour in range(9):
        world.tell(f"{hour}h p1 tcpclean A{hour}", f"{hour}h10m p1 connect A{hour + 1}")
    assert len(world.fleet.alerts.pipeline.suppressions.timers._heap) == 1
