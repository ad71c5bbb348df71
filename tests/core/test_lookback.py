"""Roll calls with `over`: how often each client flapped, and how long it was offline, in the time before. Hold 30 s, online at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import Kept
from engine.core.alerting.lookback import PARTS
from engine.core.alerting.past import PastRecord
from engine.core.rules import Rule, Schedule
from tests.core.worlds import POLICY, START_MS, Every, World, at, full, rule, span

POLICY_WITHOUT_FLAPPING = replace(POLICY, flapping_start=1_000)


def looking(over: str = "1h", every: str = "1h", **more: Any) -> Rule:
    """A roll call over everybody that looks back."""
    return rule("week", "schedule", schedule=Schedule(ticks=Every(every), over_ms=at(over) - START_MS), **more)


def told(world: World) -> list[tuple[str, str, int, float]]:
    """What each roll call said of each member: when, who, flaps, seconds offline."""
    return [
        (span(planned.at_ms), member["id"].removeprefix("G@@@"), member["flaps"], member["downtime"])
        for planned in world.planned
        for member in planned.variables["alert"]["members"]
    ]


TABLE: list[tuple[str, list[str], list[tuple[str, str, int, float]]]] = [
    (
        "a change that reverts is a flap and no downtime",
        ["0s p1 connect A", "10m p1 tcpclean A", "10m20s p1 connect B"],
        [("1h", "p1", 1, 0), ("2h", "p1", 0, 0)],
    ),
    (
        "downtime lasts from the change to the return, the hold included",
        ["0s p1 connect A", "10m p1 tcpclean A", "25m p1 connect B"],
        [("1h", "p1", 0, 900), ("2h", "p1", 0, 0)],
    ),
    (
        "who is offline now counts up to now, and no further back than the period",
        ["0s p1 connect A", "50m p1 tcpclean A"],
        [("1h", "p1", 0, 600), ("2h", "p1", 0, 3600)],
    ),
    (
        "who flapped most comes first, then who was offline longest",
        [
            *("0s p1 connect A", "0s p2 connect A", "0s p3 connect A", "10m p3 tcpclean A", "10m10s p3 connect B"),
            "20m p2 tcpclean A",
        ],
        [
            *[("1h", "p3", 1, 0), ("1h", "p2", 0, 2400), ("1h", "p1", 0, 0)],
            *[("2h", "p2", 0, 3600), ("2h", "p1", 0, 0), ("2h", "p3", 0, 0)],
        ],
    ),
]


@pytest.mark.parametrize(("why", "story", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_a_roll_call_looks_back(why: str, story: list[str], expected: list[Any]) -> None:
    assert told(World(looking()).tell(*story).pass_to("2h")) == expected


def test_it_counts_from_when_the_first_rule_that_looks_back_is_loaded() -> None:
    world = World().tell("0s p1 connect A", "10m p1 tcpclean A").pass_to("30m")
    assert world.fleet.alerts.out.past == {}, "nothing is kept for nobody"
    world.rules = (looking(),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert told(world.pass_to("1h")) == [("1h", "p1", 0, 1800)]


def test_without_such_a_rule_everything_is_forgotten() -> None:
    world = World(looking()).tell("0s p1 connect A", "10m p1 tcpclean A", "20m p1 connect B").pass_to("1h")
    rule_, world.rules = world.rules[0], ()
    world.act(lambda fleet: fleet.use(world.matcher()))
    world.pass_to("61m")
    assert {client: record.parts for client, record in world.fleet.alerts.out.past.items()} == {"": {}, full("p1"): {}}
    world.rules = (rule_,)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert told(world.pass_to("2h"))[-1] == ("2h", "p1", 0, 0)


def test_a_forgotten_client_leaves_no_record() -> None:
    world = World(looking()).tell("0s p1 connect A", "10m p1 tcpclean A", "20m p1 connect B").pass_to("30m")
    world.act(lambda fleet: fleet.forget(full("p1"), at("30m")))
    assert world.fleet.alerts.out.past[full("p1")].parts == {}


def test_a_client_that_flaps_for_ever_needs_no_more_room_than_one_that_flaps_for_the_period() -> None:
    world = World(looking("10m", "10m"), policy=POLICY_WITHOUT_FLAPPING)
    for number in range(1_500):
        world.tell(f"{number * 2}s p1 connect c{number}", f"{number * 2 + 1}s p1 tcpclean c{number}")
    record = world.fleet.alerts.lookback._records[full("p1")]
    assert len(record.parts) <= 2 * PARTS
    assert sum(flaps for flaps, _ in record.parts.values()) <= 600


Step = tuple[int, str, str]
Change = tuple[int, bool]
"""When, and is the client up from then on?"""


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Seconds, client, and connect, tcpclean, cut (all is read back from what a store keeps) or divide (parts get another length)."""
    second, found = 0, []
    for _ in range(draw(st.integers(1, 30))):
        second += draw(st.sampled_from([1, 11, 29, 40, 200, 900]))
        what = draw(st.sampled_from(["connect", "tcpclean", "connect", "tcpclean", "cut", "divide"]))
        found.append((second, draw(st.sampled_from("ab")), what))
    return found


class KeptPast(World):
    """A world whose records are kept, and that can be begun again from them."""

    def __init__(self) -> None:
        self.past: dict[str, dict[int, list[int]]] = {}
        super().__init__(looking("28m", "10h"), policy=POLICY_WITHOUT_FLAPPING)

    def commit(self) -> None:
        """See `World`."""
        for client, record in self.fleet.alerts.out.past.items():
            self.past[client] = {number: list(numbers) for number, numbers in record.parts.items()}
        super().commit()

    def cut(self) -> None:
        """Memory is gone; states come from the journal."""
        states, clock_ms = dict(self.fleet.states), self.fleet.clock_ms
        alerts = self.fleet.alerts.open_alerts
        ticks = list(self.fleet.alerts.schedules.ticks.values())
        self.fleet = self._new_fleet()
        self.fleet.states.update(states)
        self.fleet.clock_ms = clock_ms
        past = [PastRecord(client, {n: list(two) for n, two in parts.items()}) for client, parts in self.past.items()]
        self.fleet.restore(list(alerts), [], Kept(schedules=ticks, past=[one for one in past if one.parts]))

    def divide(self, over: str) -> None:
        """Another rule looks back further."""
        self.rules = (looking(over, "10h"),)
        self.act(lambda fleet: fleet.use(self.matcher()))


PERIOD_MS = 1_680_000
SLACK_MS = 40_000
"""Two parts of the longer period: what was put into them is not divided any more."""


@settings(deadline=None, max_examples=150)
@given(stories())
def test_it_says_what_happened_but_for_the_edge_of_the_period(story: list[Step]) -> None:
    """Against all changes, written down as they came."""
    world = KeptPast().pass_to("0s")
    assert isinstance(world, KeptPast)
    changes: dict[str, list[Change]] = {"a": [], "b": []}
    for second, client, what in story:
        world.pass_to(f"{second}s")
        if what == "cut":
            world.cut()
        elif what == "divide":
            world.divide("56m" if second % 2 else "28m")
        elif not changes[client] or changes[client][-1][1] != (what == "connect"):
            changes[client].append((START_MS + second * 1_000, what == "connect"))
            ups = sum(is_up for _, is_up in changes[client])
            world.tell(f"{second}s {client} {what} {client}{ups}")
    end_ms = START_MS + (second + 60) * 1_000
    world.pass_to(f"{second + 60}s")
    for client, known in changes.items():
        flaps, offline_ms = world.fleet.alerts.lookback.of(full(client), world.state(client), end_ms, PERIOD_MS)
        least, most = (
            downtime(known, end_ms, end_ms - PERIOD_MS),
            downtime(known, end_ms, end_ms - PERIOD_MS - SLACK_MS),
        )
        assert least - SLACK_MS <= offline_ms <= most
        least, most = flapped(known, end_ms - PERIOD_MS), flapped(known, end_ms - PERIOD_MS - SLACK_MS)
        assert least <= flaps <= most


def spells(changes: list[Change], end_ms: int) -> list[tuple[int, int]]:
    """From when to when a client was not up."""
    ends = [at_ms for at_ms, _ in changes[1:]] + [end_ms]
    return [(from_ms, until_ms) for (from_ms, is_up), until_ms in zip(changes, ends, strict=False) if not is_up]


def downtime(changes: list[Change], end_ms: int, from_ms: int) -> int:
    """For how long it was offline since an instant; spells that ended within the hold are none."""
    long = [(start, end) for start, end in spells(changes, end_ms) if end - start >= 30_000]
    return sum(max(0, end - max(start, from_ms)) for start, end in long)


def flapped(changes: list[Change], from_ms: int) -> int:
    """How often it reverted since an instant to the status that had been settled."""
    short = [(start, end) for start, end in spells(changes, 1 << 60) if end - start < 30_000]
    return sum(end >= from_ms for start, end in short if start != changes[0][0])


def test_when_the_clock_is_set_what_happened_is_as_long_ago_as_before() -> None:
    world = World(looking("1h", "24h"), policy=POLICY_WITHOUT_FLAPPING)
    world.tell("0s p1 connect A", "10m p1 tcpclean A", "10m20s p1 connect B").pass_to("30m")
    world.act(lambda fleet: fleet.step(10 * 3_600_000, at("10h30m")))
    past = world.fleet.alerts.lookback
    assert past.of(full("p1"), world.state("p1"), at("11h9m"), 3_600_000) == (1, 0)
    assert past.of(full("p1"), world.state("p1"), at("11h12m"), 3_600_000) == (0, 0)
