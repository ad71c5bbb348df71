"""The engine's outages against `outage_oracle`, over random traces, with restarts and failed commits in between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import AlertLine
from engine.core.events import LifecycleEvent
from engine.core.rules import OutageTerms, Rule
from engine.core.times import FOREVER
from tests.core.outage_oracle import Client, Oracle, Step
from tests.core.test_kept import RowWorld
from tests.core.worlds import POLICY, START_MS, full, rule

SITES = dict.fromkeys("abcdef", "north") | dict.fromkeys("ghi", "south") | {"j": ""}
FLAPPING = (3, 1, 60_000)
SITE: tuple[str, ...] = ("site",)
KEYS: tuple[tuple[tuple[str, ...], ...], ...] = ((SITE,), ((),), (SITE, ()), (SITE, ()), ((), SITE))
"""What the outage rules go by; () is everybody."""


@dataclass(frozen=True)
class Turn:
    """A client comes or goes: when that occurred, when it is learned (ms after the start), and what befalls the engine then."""

    occurred_ms: int
    at_ms: int
    client: str
    up: bool
    channel: str
    befalls: str


def story_of(seed: int) -> list[Turn]:
    """Everybody connects; then phases in which most go, or come, or some do both. No two deadlines meet in one instant.

    Drawn from a seed and not from Hypothesis, whose stories are short and calm.
    """
    chance, second, falling, client = Random(seed), 0, True, "a"
    up, channels, last = dict.fromkeys(SITES, True), dict.fromkeys(SITES, 0), dict.fromkeys(SITES, 0)
    found = []
    for place, name in enumerate(SITES):
        found.append(Turn(place * 101, place * 101, name, True, f"{name}0", ""))
        last[name] = place * 101
    for number in range(chance.randrange(10, 60)):
        second += chance.choice([1, 1, 1, 2, 2, 3, 4, 9, 11, 16, 31])
        falling ^= chance.random() < 0.12
        if chance.random() > 0.25:  # else the same one again
            client = chance.choice([name for name in SITES if up[name] == falling] or sorted(SITES))
        at_ms = second * 1_000 + 7 * number + 101 * sorted(SITES).index(client)
        occurred_ms = max(last[client] + 1_500, at_ms - chance.choice([0, 0, 0, 4_000, 25_000]))
        if occurred_ms > at_ms:
            continue
        up[client] = not up[client]
        channels[client] += up[client]
        last[client] = occurred_ms
        befalls = chance.choice(["", "", "", "cut", "fails"])
        found.append(Turn(occurred_ms, at_ms, client, up[client], f"{client}{channels[client]}", befalls))
    return sorted(found, key=lambda turn: turn.at_ms)


@st.composite
def rule_sets(draw: st.DrawFn) -> tuple[Rule, ...]:
    """One or two outage rules, the second perhaps inhibited by the first, and what is said of single clients; inhibitors first."""
    found: list[Rule] = []
    keys: tuple[tuple[str, ...], ...] = draw(st.sampled_from(KEYS))
    for name, by in zip(("big", "small"), keys, strict=False):
        terms = OutageTerms(
            by=by,
            at_least=draw(st.integers(1, 3)),
            percent=draw(st.sampled_from([0, 0, 20, 40, 50, 100])),
            within_ms=draw(st.sampled_from([15_000, 40_000])),
            recover_within_ms=draw(st.sampled_from([20_000, 120_000])),
            inhibit=draw(st.sampled_from([True, True, False])),
        )
        is_named = bool(found) and draw(st.integers(0, 1)) == 1
        inhibited_by = ("big",) if is_named else ()
        found.append(rule(name, "outage", outage=terms, inhibited_by=inhibited_by))
    names = tuple(each.name for each in found)
    found.append(rule("dark", "offline", flapping_skip=False))
    found.append(rule("quiet", "offline", flapping_skip=False, inhibited_by=names[:1]))
    found.append(rule("up", "online", flapping_skip=False))
    found.append(rule("restless", "flapping", inhibited_by=draw(st.sampled_from([(), names[-1:]]))))
    return tuple(found)


class Watched(RowWorld):
    """A world whose clients have a site."""

    def __init__(self, rules: tuple[Rule, ...], holds: tuple[int, int]) -> None:
        super().__init__(rules)
        self._attributes = {full(client): {"site": site} for client, site in SITES.items()}
        self.policy = replace(POLICY, offline_ms=holds[0], online_ms=holds[1], flapping_start=FLAPPING[0])
        self.fleet = self._new_fleet()

    @property
    def steps(self) -> list[Step]:
        """Every step of an alert, those of one instant sorted."""
        return sorted(
            (
                line.at_ms,
                line.rule,
                line.client or ",".join((line.key or {}).values()),
                line.state,
                line.reason or "",
            )
            for line in self.lines
            if isinstance(line, AlertLine)
        )

    @property
    def outages(self) -> list[Any]:
        """Every outage that goes on: its rule, who is down, how many ever joined, and the peak."""
        going_on = self.fleet.alerts.inhibitors.outages.values()
        return sorted((one.rule, sorted(one.offline_members()), one.total, one.peak) for one in going_on)


def outages_of(oracle: Oracle) -> list[Any]:
    """The same of the oracle."""
    going_on = oracle.outages
    return sorted((one.rule.name, sorted(c.id for c in one.down), len(one.ever), one.peak) for one in going_on)


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(st.integers(0, 1 << 40), rule_sets(), st.sampled_from([(10_000, 0), (10_000, 0), (10_000, 4_000)]))
def test_outages_are_what_looking_at_everybody_says(seed: int, rules: tuple[Rule, ...], holds: tuple[int, int]) -> None:
    story = story_of(seed)
    world = Watched(rules, holds)
    clients = [Client(id=full(client), key={"site": site}) for client, site in SITES.items()]
    oracle = Oracle(rules, clients, holds=holds, flapping=FLAPPING)
    for turn in story:
        at_ms, occurred_ms = START_MS + turn.at_ms, START_MS + turn.occurred_ms
        if turn.befalls == "cut":
            world.cut()
        kind = "connect" if turn.up else "tcpclean"
        told = LifecycleEvent(full(turn.client), kind, occurred_ms, turn.channel, "10.0.0.1:1")
        world.turn(
            at_ms,
            lambda fleet, told=told, at_ms=at_ms: fleet.apply([told], at_ms, at_ms),
            fails=turn.befalls == "fails",
        )
        oracle.event(at_ms, full(turn.client), occurred_ms, up=turn.up)
        assert world.outages == outages_of(oracle)
    world.cut()
    while (due := world.fleet.next_due(running_on=True)) < FOREVER:
        world.turn(due, lambda fleet: None)
    oracle.run(None)
    assert world.steps == sorted(oracle.steps)
