"""What a store keeps of silences, groups, bundles, outages, schedules, bursts and reminders is enough to go on as if nothing had been.

The store here is a dictionary of rows: each value is taken apart into what its docstring says a store keeps and made anew from
that, so nothing else can survive. Lines after a cut, or after a commit that failed, must be the same as without, instant by instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.core.alerting.escalation import Escalation, SentStep
from engine.core.alerting.grouping import Group
from engine.core.alerting.outages import Outage
from engine.core.alerting.past import PastRecord
from engine.core.alerting.rate_limit import Burst
from engine.core.alerting.schedules import Tick
from engine.core.alerting.silences import Silence
from engine.core.events import LifecycleEvent
from engine.core.rules import Action, Grouping, Match, Parent, QuorumTerms, Rule, Schedule
from engine.core.rules import OutageTerms as Terms
from engine.core.times import FOREVER
from tests.core.worlds import POLICY, START_MS, Every, Hours, World, rule, step

NOTIFY = Action(kind="notify", spec={"receiver": "pager"})
STEPS = (step("22s", told="first"), step("60s", told="second", recovery=True))

PAST = Action(kind="log", spec={"message": "{{ alert.members }}"})

RULES = (
    rule("muted", "offline", mute=Hours(("1m", "3m"), ("5m", "6m")), recovery=True),
    rule("active", "online", active=Hours(("2m", "4m"), ("7m", "8m")), throttle=(1, "90s")),
    rule("again", "offline", repeat_ms=50_000, recovery=True),
    rule("told-again", "offline", mute=Hours(("0s", "150s")), repeat_ms=70_000, recovery=True),
    rule("minor", "offline", inhibited_by=("restless", "gone"), flapping_skip=False, recovery=True),
    rule("restless", "flapping", recovery=True),
    rule("gone", "outage", outage=Terms(at_least=2, within_ms=40_000), recovery=True, repeat_ms=60_000),
    rule("large", "outage", outage=Terms(at_least=3, by=(), within_ms=90_000, inhibit=False), mute=Hours(("2m", "4m"))),
    rule("few", "offline", throttle=(1, "80s"), recovery=True, inhibited_by=("large",)),
    rule("grouped", "offline", grouping=Grouping(wait_ms=20_000, interval_ms=60_000), repeat_ms=100_000, recovery=True),
    rule("new", "first_seen", grouping=Grouping(wait_ms=20_000, interval_ms=60_000)),
    rule(
        "roll", "schedule", schedule=Schedule(ticks=Every("2m3s")), condition=lambda seen: seen["status"] == "offline"
    ),
    rule("climbs", "offline", actions=(NOTIFY,), escalate=STEPS, recovery=True, mute=Hours(("100s", "140s"))),
    rule(
        "climbs-together",
        "offline",
        actions=(NOTIFY,),
        escalate=STEPS,
        grouping=Grouping(wait_ms=10_000, interval_ms=45_000),
    ),
    rule("climbs-outage", "outage", outage=Terms(at_least=2, within_ms=40_000, inhibit=False), escalate=STEPS),
    rule("pair", "quorum", quorum=QuorumTerms(down=2), for_="30s", recovery=True, repeat_ms=45_000),
    rule("most", "quorum", quorum=QuorumTerms(by=(), percent=60), recovery=True, inhibited_by=("large",)),
    rule("child", "offline", "online", parents=(Parent(rule="pair", equal=("group",)),), recovery=True),
    rule(
        "orphan", "offline", parents=(Parent(rule="restless", equal=("group",)), Parent(rule="gone", equal=("group",)))
    ),
    rule("past", "schedule", schedule=Schedule(ticks=Every("2m3s"), over_ms=240_000), actions=(PAST,)),
)
GROUPS = {"a": "G", "b": "G", "c": "G", "d": "H"}


KEPT = (
    *(
        "id",
        "name",
        "rule",
        "client",
        "source",
        "trigger",
        "state",
        "started_at_ms",
        "due_at_ms",
        "transition",
        "reason",
    ),
    *("fired_at_ms", "notified", "notification_id", "detail", "throttle_key", "key", "group", "acknowledged"),
    *("acknowledged_by", "remind_at_ms", "verified", "until"),
)
"""What a store keeps of an alert."""


def _escalation(*row: Any) -> Escalation:
    id_, rule_name, from_ms, ladder, reached_ms, is_stopped, is_held, freed_ms, sent = row
    steps = [SentStep(*step) for step in sent]
    return Escalation(id_, rule_name, from_ms, ladder, reached_ms, is_stopped, is_held, freed_ms, steps)


class Rows:
    """A store: the values of `Output` as rows."""

    def __init__(self) -> None:
        self.alerts: dict[str, dict[str, Any]] = {}
        self.throttles: dict[tuple[str, str], list[int]] = {}
        self.groups: dict[str, tuple[Any, ...]] = {}
        self.outages: dict[str, tuple[Any, ...]] = {}
        self.members: dict[tuple[str, str], int] = {}
        self.silences: dict[str, Silence] = {}
        self.schedules: dict[str, int] = {}
        self.bursts: dict[str, tuple[Any, ...]] = {}
        self.escalations: dict[str, tuple[Any, ...]] = {}
        self.past: dict[str, dict[int, list[int]]] = {}

    def write(self, out: Output) -> None:
        """Keep what changed."""
        for name, alert in out.alerts.items():
            self.alerts.pop(name, None)
            if alert.open:
                self.alerts[name] = {key: getattr(alert, key) for key in KEPT}
        for key, throttled in out.throttles.items():
            self.throttles[key] = list(throttled.firings)
        for name, group in out.groups.items():
            self.groups[name] = (group.rule, group.key, group.first_ms, group.sent_at_ms, list(group.sent),
                                 list(group.passing), group.passed, group.remind_at_ms, group.name, group.is_bundle, list(group.ended))  # fmt: skip
            if group.is_closed:
                del self.groups[name]
        self.members |= out.members
        for name, outage in out.outages.items():
            self.outages[name] = (outage.name, outage.rule, outage.key, outage.earliest_ms,
                                  outage.quiet_since_ms, outage.peak)  # fmt: skip
            if outage.is_over:
                del self.outages[name]
                self.members = {pair: down for pair, down in self.members.items() if pair[0] != name}
        self.silences |= out.silences
        for client, record in out.past.items():
            self.past[client] = {number: list(numbers) for number, numbers in record.parts.items()}
            if not record.parts:
                del self.past[client]
        self.schedules |= {name: tick.at_ms for name, tick in out.schedules.items()}
        self.bursts |= {
            name: (name, list(burst.times), burst.held, burst.is_announced) for name, burst in out.bursts.items()
        }
        for id_, escalation in out.escalations.items():
            sent = [(step.actions, step.after_ms, step.at_ms, step.ladder) for step in escalation.sent]
            self.escalations[id_] = (id_, escalation.rule, escalation.from_ms, escalation.ladder, escalation.reached_ms,
                                     escalation.is_stopped, escalation.is_held, escalation.freed_ms, sent)  # fmt: skip
            if escalation.is_over:
                del self.escalations[id_]

    def read(self) -> tuple[list[Alert], list[Throttled], Kept]:
        """What `restore` takes, made anew."""
        kept = Kept(
            groups=[Group(*row) for row in self.groups.values()],
            outages=[Outage(*row) for row in self.outages.values()],
            members=[(name, client, standing) for (name, client), standing in self.members.items()],
            silences=self.silences.values(),
            schedules=[Tick(*row) for row in self.schedules.items()],
            bursts=[Burst(*row) for row in self.bursts.values()],
            escalations=[_escalation(*row) for row in self.escalations.values()],
            past=[
                PastRecord(client, {number: list(numbers) for number, numbers in parts.items()})
                for client, parts in self.past.items()
            ],
        )
        alerts = [Alert(**fields) for fields in self.alerts.values()]
        alerts.sort(key=lambda alert: (alert.started_at_ms, alert.name))  # oldest first
        return alerts, [Throttled(*key, list(firings)) for key, firings in self.throttles.items() if firings], kept


class RowWorld(World):
    """A world that can be cut, and whose commits can fail."""

    def __init__(self, rules: Sequence[Rule] = RULES, flapping_start: int = 6) -> None:
        super().__init__(*rules, policy=replace(POLICY, offline_ms=10_000, flapping_start=flapping_start), burst=14)
        self.rows = Rows()

    def cut(self) -> None:
        """Memory is gone; states come from the journal, everything else from the rows, and time goes on at once: it is no pause."""
        states, clock, era = dict(self.fleet.states), self.fleet.clock_ms, self.fleet.alerts.open_alerts.era
        self.fleet = self._new_fleet()
        self.fleet.alerts.open_alerts.era = era
        self.fleet.states.update(states)
        self.fleet.clock_ms = clock
        self.fleet.restore(*self.rows.read())
        self.turn(clock, lambda fleet: None)

    def turn(self, to_ms: int, do: Any, *, fails: bool = False) -> None:
        """One transaction."""
        if fails:
            self.fleet.begin()
            self.fleet.advance(to_ms, to_ms)
            do(self.fleet)
            self.fleet.rollback()
            self.fleet.restore(*self.rows.read())
        self.fleet.begin()
        self.fleet.advance(to_ms, to_ms)
        do(self.fleet)
        self.rows.write(self.fleet.alerts.out)
        self.commit()


PLANNED_RULES = ("*a*",)
PLANNED_MS = 15_151
"""A planned silence is of rules that have an `a` in their name, and begins so much later."""


@dataclass(frozen=True)
class Turn:
    """What happens, when (ms after the start), and what befalls the engine."""

    at_ms: int
    what: str  # connect, tcpclean, silence, plan, expire, ack
    client: str
    channel: str
    befalls: str


@st.composite
def stories(draw: st.DrawFn) -> list[Turn]:
    """Up to two dozen turns over about ten minutes; no two deadlines of different clients meet in one instant."""
    found, second = [], 0
    channels = dict.fromkeys(GROUPS, 0)
    for number in range(draw(st.integers(1, 24))):
        second += draw(st.sampled_from([1, 3, 5, 11, 20, 31]))
        client = draw(st.sampled_from("abcd"))
        what = draw(st.sampled_from(["connect", "connect", *3 * ["tcpclean"], "silence", "plan", "expire", "ack"]))
        channels[client] += what == "connect"
        at_ms = second * 1_000 + 7 * number + 101 * "abcd".index(client)
        befalls = draw(st.sampled_from(["", "cut", "fails"]))
        found.append(Turn(at_ms, what, client, f"{client}{channels[client]}", befalls))
    return sorted(found, key=lambda turn: turn.at_ms)


def act(turn: Turn, now_ms: int) -> Any:
    """The turn as something done to a fleet."""
    client = f"{GROUPS[turn.client]}@@@{turn.client}"
    if turn.what == "silence":
        match = Match(device=(turn.client,)) if turn.client != "d" else Match()
        silence = Silence(id=turn.client, match=match, from_ms=now_ms, until_ms=now_ms + 77_777)
        return lambda fleet: fleet.silence(silence, now_ms)
    if turn.what == "plan":
        later = Silence(
            id=f"{turn.at_ms}",
            match=Match(device=(turn.client,)) if turn.client != "d" else Match(),
            rules=PLANNED_RULES,
            from_ms=now_ms + PLANNED_MS,
            until_ms=now_ms + PLANNED_MS + 55_555,
            planned=True,
        )
        return lambda fleet: fleet.silence(later, now_ms)
    if turn.what == "expire":
        return lambda fleet: fleet.expire_silence(turn.client, now_ms)
    if turn.what == "ack":
        return lambda fleet: fleet.acknowledge(now_ms, client=client, by="kim")
    told = LifecycleEvent(client, turn.what, now_ms, turn.channel, "10.0.0.1:1")
    return lambda fleet: fleet.apply([told], now_ms, now_ms)


def played(story: list[Turn], *, troubled: bool, rules: Sequence[Rule] = RULES, flapping_start: int = 6) -> list[str]:
    """Every line of a story, those of one instant sorted, and those who are told together."""
    world = RowWorld(rules, flapping_start)
    for turn in story:
        now_ms = START_MS + turn.at_ms
        if troubled and turn.befalls == "cut" and world.fleet.clock_ms:
            world.cut()
        world.turn(now_ms, act(turn, now_ms), fails=troubled and turn.befalls == "fails")
    if troubled:
        world.cut()
    while (due := world.fleet.next_due(running_on=True)) < FOREVER:
        world.turn(due, lambda fleet: None)
        if troubled and len(world.lines) % 3 == 0:
            world.cut()
    told = [" ".join("+".join(sorted(word.split("+"))) for word in line.split()) for line in world.story]
    for planned in world.planned:
        if planned.rule.name == "past":
            members = planned.variables["alert"]["members"]
            told += [f"{planned.at_ms} {one['id']} {one['flaps']} {one['downtime']}" for one in members]
    return sorted(told)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(stories())
def test_whatever_befalls_the_engine_the_lines_are_the_same(story: list[Turn]) -> None:
    assert played(story, troubled=True) == played(story, troubled=False)


STORY = [
    Turn(0, "connect", "a", "a1", ""),
    Turn(107, "connect", "b", "b1", ""),
    Turn(203, "connect", "c", "c1", ""),
    Turn(20_011, "tcpclean", "a", "a1", ""),
    Turn(25_017, "tcpclean", "b", "b1", ""),
    Turn(26_023, "silence", "b", "", ""),
    Turn(61_031, "ack", "a", "", ""),
    Turn(80_037, "plan", "c", "", ""),
    Turn(95_041, "tcpclean", "c", "c1", ""),
    Turn(150_053, "connect", "a", "a2", ""),
    Turn(155_061, "expire", "b", "", ""),
    Turn(165_067, "ack", "c", "", ""),
    Turn(260_071, "connect", "b", "b2", ""),
    Turn(340_083, "connect", "c", "c2", ""),
]
"""Outages, windows, silences, groups, bundles, reminders and a roll call: something is under way at every turn."""


@pytest.mark.parametrize("befalls", ["cut", "fails"])
@pytest.mark.parametrize("place", range(len(STORY)))
def test_trouble_at_every_turn(place: int, befalls: str) -> None:
    story = [replace(turn, befalls=befalls) if number == place else turn for number, turn in enumerate(STORY)]
    assert played(story, troubled=True) == played(STORY, troubled=False)


def test_the_story_has_everything_in_it() -> None:
    told = played(STORY, troubled=False)
    words = {word for line in told for word in line.split()}
    assert {
        "mute",
        "silence",
        "inhibited",
        "reminder",
        "recovery",
        "muted",
        "gone",
        "grouped",
        "roll",
        "new",
        "climbs",
        "escalation",
        "acknowledged",
    } <= words


def test_rows_of_what_is_over_are_gone() -> None:
    world = RowWorld()
    for turn in STORY:
        now_ms = START_MS + turn.at_ms
        world.turn(now_ms, act(turn, now_ms))
    world.turn(START_MS + 7_200_000, lambda fleet: fleet.alerts.purge(START_MS + 7_200_000))
    assert {row["rule"] for row in world.rows.alerts.values()} == {"active", "child"}  # they are online
    assert {row[0] for row in world.rows.groups.values()} == {"active", "child"}  # in bundles
    assert (world.rows.outages, world.rows.members, world.rows.escalations) == ({}, {}, {})
