"""§6: `grouping`: one delivery for many clients. Hold 30 s; wait 30 s, interval 5 m unless a story says otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.alerting.alert import AlertLine
from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.rules import Grouping, Rule
from tests.core.worlds import POLICY, UNITS_MS, Hours, World, at, full, rule


def grouped(trigger: str = "offline", *, recovery: bool = True, **more: Any) -> Rule:
    """A rule that tells its clients by group."""
    terms = {key: more.pop(key) for key in ("by", "wait_ms", "interval_ms", "limit") if key in more}
    return rule("r", trigger, recovery=recovery, grouping=Grouping(**terms), **more)


Row = tuple[str, Rule, list[str], list[str]]
CUT, CUT2, CUT3 = "0s p1 tcpclean A", "1s p2 tcpclean A", "31s p3 tcpclean A"

TABLE: list[Row] = [
    (
        "the first delivery leaves `wait` after the first alert, and lists all that fire then",
        grouped(),
        [CUT, CUT2, "29s p3 tcpclean A"],
        ["1m r > p1+p2+p3 log firing"],
    ),
    (
        "one is told as a group too",
        grouped(),
        [CUT],
        ["1m r > p1 log firing"],
    ),
    (
        "if none fires then, the group closes silently, and the next alert waits again",
        grouped(),
        [CUT, "50s p1 connect B", "2m p2 tcpclean A"],
        ["3m r > p2 log firing"],
    ),
    (
        "who came back before the first delivery is not in it",
        grouped(),
        [CUT, CUT2, "50s p1 connect B"],
        ["1m r > p2 log firing"],
    ),
    (
        "a change leaves `interval` after the last delivery",
        grouped(),
        [CUT, "40s p2 tcpclean A"],
        ["1m r > p1 log firing", "6m r > p1+p2 log firing"],
    ),
    (
        "or at once when that is past",
        grouped(),
        [CUT, "10m p2 tcpclean A"],
        ["1m r > p1 log firing", "10m30s r > p1+p2 log firing"],
    ),
    (
        "one millisecond before the interval is over is not past",
        grouped(),
        [CUT, "5m29s999ms p2 tcpclean A"],
        ["1m r > p1 log firing", "6m r > p1+p2 log firing"],
    ),
    (
        "what fires again what was sent last is nothing new",
        grouped(),
        [CUT, "1m10s p1 connect B", "1m20s p1 tcpclean B"],
        ["1m r > p1 log firing"],
    ),
    (
        "who came back is left out of the next list",
        grouped(),
        [CUT, CUT2, "2m p1 connect B"],
        ["1m r > p1+p2 log firing", "6m r > p2 log firing"],
    ),
    (
        "when all are resolved one recovery leaves at the same pace and the group closes",
        grouped(),
        [CUT, CUT2, "2m p1 connect B", "3m p2 connect B", "7m p3 tcpclean A"],
        ["1m r > p1+p2 log firing", "6m r > p1+p2 log recovery", "8m r > p3 log firing"],
    ),
    (
        "a recovery that comes late leaves at once",
        grouped(),
        [CUT, "10m p1 connect B"],
        ["1m r > p1 log firing", "10m r > p1 log recovery"],
    ),
    (
        "without on_recovery the group closes without a word",
        grouped(recovery=False),
        [CUT, "10m p1 connect B"],
        ["1m r > p1 log firing"],
    ),
    (
        "each key is a group of its own",
        grouped(),
        [CUT, "5s H@@@x tcpclean A"],
        ["1m r > p1 log firing", "1m5s r > H@@@x log firing"],
    ),
    (
        "by nothing the whole rule is one",
        grouped(by=()),
        [CUT, "5s H@@@x tcpclean A"],
        ["1m r > p1+H@@@x log firing"],
    ),
    (
        "a silence given while the group waits keeps the first list quiet",
        grouped(mute=Hours(("45s", "3m"))),
        [CUT, CUT2],
        ["3m30s r > p1+p2 log firing"],
    ),
    (
        "what passes as it fires is in the next list and in no other, and has no recovery",
        grouped("first_seen"),
        ["0s p1 connect A", "1s p2 connect A", "10m p3 connect A"],
        ["30s r > p1+p2 log firing", "10m30s r > p3 log firing"],
    ),
    (
        "those that pass keep the pace of the interval",
        grouped("first_seen"),
        ["0s p1 connect A", "1m p2 connect A", "2m p3 connect A"],
        ["30s r > p1 log firing", "5m30s r > p2+p3 log firing"],
    ),
]


@pytest.mark.parametrize(("why", "told", "story", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_groups(why: str, told: Rule, story: list[str], expected: list[str]) -> None:
    policy = replace(POLICY, flapping_start=10)
    assert World(told, policy=policy).tell(*story).run_on().pass_to("1h").deliveries == expected


def test_each_client_has_an_alert_of_its_own_and_the_group_has_a_key() -> None:
    world = World(grouped(), attributes={full(one): {"site": "north", "unit": one} for one in ("p1", "p2")})
    world.tell(CUT, CUT2).pass_to("2m")
    assert world.alerts == ["30s r p1 firing", "31s r p2 firing"]
    planned = world.planned[0]
    told = planned.variables["alert"]
    assert (planned.client, planned.group_key, planned.clients) == (None, {"group": "G"}, (full("p1"), full("p2")))
    assert (told["count"], told["clients"], told["key"]) == (2, [full("p1"), full("p2")], {"group": "G"})
    assert told["shared"] == {"site": "north"}
    assert [member["attributes"]["unit"] for member in told["members"]] == ["p1", "p2"]


def test_a_list_has_its_limit_and_the_count_has_none() -> None:
    world = World(grouped(limit=2)).tell(*(f"0s p{number} tcpclean A" for number in range(5))).pass_to("2m")
    assert world.planned[0].clients == (full("p0"), full("p1"))
    assert world.planned[0].variables["alert"]["count"] == 5


def test_all_that_a_group_says_is_one_alert_in_one_lane_with_different_keys() -> None:
    world = World(grouped()).tell(CUT, "2m p2 tcpclean A", "20m p1 connect B", "20m p2 connect B").pass_to("1h")
    assert len(world.planned) == 4
    assert len({(one.alert, one.lane) for one in world.planned}) == 1
    assert len({one.key for one in world.planned}) == 4


def test_a_group_is_reminded_of_as_a_whole_without_those_somebody_knows_of() -> None:
    world = World(grouped(repeat_ms=600_000)).tell(CUT, CUT2)
    world.acknowledge("5m", client=full("p1"))
    assert world.pass_to("12m").deliveries == ["1m r > p1+p2 log firing", "11m r > p2 log reminder"]
    world.acknowledge("15m", alert_id=world.planned[0].alert)
    assert world.pass_to("1h").deliveries[2:] == []


def test_a_change_that_is_told_puts_the_reminder_off() -> None:
    world = World(grouped(repeat_ms=600_000)).tell(CUT, "5m p2 tcpclean A").pass_to("17m")
    assert world.deliveries == ["1m r > p1 log firing", "6m r > p1+p2 log firing", "16m r > p1+p2 log reminder"]


def test_a_removed_rule_sends_its_groups_one_recovery() -> None:
    told = grouped()
    world = World(told).tell(CUT, CUT2).pass_to("2m")
    world.rules = ()
    world.act(lambda fleet: fleet.use(world.matcher(), [told]))
    world.pass_to("3m").act(lambda fleet: fleet.alerts.retire("r", at("3m")))
    assert world.pass_to("1h").deliveries == ["1m r > p1+p2 log firing", "3m r > p1+p2 log recovery"]
    assert world.planned[-1].variables["alert"]["reason"] == "rule_removed"


def test_what_was_told_in_a_group_stays_in_it_when_the_rule_groups_no_more() -> None:
    world = World(grouped()).tell(CUT, CUT2).pass_to("2m")
    world.rules = (replace(world.rules[0], grouping=None),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    world.tell("10m p1 connect B", "11m p2 connect B", "12m p3 tcpclean A").pass_to("1h")
    assert world.deliveries[1:] == ["10m r > p2 log firing", "12m30s r > p3 log firing", "15m r > p2 log recovery"]


def test_by_the_network_of_the_address() -> None:
    world = World(grouped(by=("ip/24",)))
    for number, ip in enumerate(["10.0.0.1", "10.0.0.9", "10.0.1.1"]):
        world.tell(f"{number}s p{number} connect A {ip}:1", f"{10 + number}s p{number} tcpclean A")
    world.pass_to("5m")
    assert [one.group_key for one in world.planned] == [{"ip/24": "10.0.0.0/24"}, {"ip/24": "10.0.1.0/24"}]


@st.composite
def comings(draw: st.DrawFn) -> list[tuple[int, str, bool]]:
    """When whom is lost or found: seconds, client, is it up."""
    up: dict[str, bool] = {}
    found, second = [], 0
    for _ in range(draw(st.integers(1, 25))):
        second += draw(st.sampled_from([0, 1, 10, 29, 30, 60, 299, 300]))
        client = draw(st.sampled_from("abcd"))
        up[client] = not up.get(client, True)
        found.append((second, client, up[client]))
    return found


@given(comings())
def test_whatever_comes_and_goes_the_lists_are_true_paced_and_end_in_a_recovery(
    story: list[tuple[int, str, bool]],
) -> None:
    """Every list is what fires in its instant and differs from the last, two are `interval` apart, and nothing is left unsaid."""
    world = World(grouped(), policy=replace(POLICY, offline_ms=0, flapping_start=1000))
    channels = dict.fromkeys("abcd", "first")
    for number, (second, client, is_up) in enumerate(story):
        if is_up:
            channels[client] = f"{client}{number}"
        world.tell(f"{second}s {client} {'connect' if is_up else 'tcpclean'} {channels[client]}")
    world.run_on()
    firing: set[str] = set()
    sent: set[str] = set()
    last_ms: int | None = None
    for line in world.lines:
        if isinstance(line, AlertLine):
            (firing.add if line.state == "firing" else firing.discard)(line.client or "")
        elif isinstance(line, PlannedDelivery):
            listed = set(line.clients or ())
            assert last_ms is None or line.at_ms - last_ms >= 5 * UNITS_MS["m"]
            if line.phase == "firing":
                assert listed == firing != sent
                sent, last_ms = listed, line.at_ms
            else:
                assert listed == sent
                assert not firing
                sent, last_ms = set(), None
    assert sent == firing
