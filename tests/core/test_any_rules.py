"""What holds of every set of rules and every story: firings, recoveries, silences, windows, inhibitors, and the end.

The rule sets are small and random; the stories, and the store that the engine is restored from, are those of `test_kept`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import AlertLine
from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.rules import Grouping, Parent, QuorumTerms, Rule
from engine.core.rules import OutageTerms as Terms
from engine.core.times import FOREVER
from tests.core.test_kept import GROUPS, PLANNED_MS, RowWorld, Turn, act, played, stories
from tests.core.worlds import START_MS, Hours, rule

SILENCE_MS = 77_777  # as `act` makes them
FLAPPING_START = 3
WINDOWS: Sequence[tuple[tuple[str, str], ...]] = ((("0s", "40s"),), (("1m", "2m"), ("3m", "5m")), (("90s", "100s"),))
LASTING: Sequence[tuple[str, ...]] = (("offline",), ("online",), ("flapping",), ("duplicate",), ("offline", "online"))
OVER_AT_ONCE: Sequence[tuple[str, ...]] = (("first_seen",), ("stable",))


@st.composite
def rule_sets(draw: st.DrawFn) -> tuple[Rule, ...]:
    """Up to five rules; each is inhibited by earlier ones only, so nothing goes round in circles."""
    found: list[Rule] = []
    for number in range(draw(st.integers(1, 5))):
        more: dict[str, Any] = {"recovery": True, "shadow": draw(st.sampled_from([False, False, False, True]))}
        if draw(st.booleans()):
            more["mute"] = Hours(*draw(st.sampled_from(WINDOWS)))
        if draw(st.booleans()):
            more["repeat_ms"] = draw(st.sampled_from([30_000, 70_000]))
        lasting = [other.name for other in found if other.triggers not in OVER_AT_ONCE]
        if draw(st.booleans()) and lasting:
            more["inhibited_by"] = tuple(sorted({draw(st.sampled_from(lasting)) for _ in range(2)}))
        if draw(st.integers(0, 2)) == 0 and lasting:
            more["parents"] = (Parent(rule=draw(st.sampled_from(lasting)), equal=("group",)),)
        if draw(st.integers(0, 4)) == 0:
            by = draw(st.sampled_from([("group",), ()]))
            terms = draw(st.sampled_from([QuorumTerms(by=by, down=2), QuorumTerms(by=by, percent=60)]))
            found.append(rule(f"r{number}", "quorum", quorum=terms, for_=draw(st.sampled_from(["0s", "50s"])), **more))
            continue
        if draw(st.integers(0, 3)) == 0:
            more["outage"] = Terms(
                at_least=draw(st.integers(2, 3)),
                by=draw(st.sampled_from([("group",), ()])),
                percent=draw(st.sampled_from([0, 0, 50])),
                within_ms=draw(st.sampled_from([20_000, 60_000])),
                recover_within_ms=draw(st.sampled_from([50_000, 900_000])),
                inhibit=draw(st.booleans()),
            )
            found.append(rule(f"r{number}", "outage", **more))
            continue
        triggers = draw(st.sampled_from([*LASTING, *LASTING, *OVER_AT_ONCE]))
        if triggers[0] in ("offline", "online"):
            more["for_"] = draw(st.sampled_from(["0s", "0s", "15s", "50s"]))
        told = draw(st.sampled_from(["alone", "alone", "throttled", "by client", "grouped"]))
        if told == "throttled":
            more["throttle"] = (draw(st.integers(1, 2)), "80s")
        elif told == "by client":
            more["throttle"] = (1, "50s", "client")
        elif told == "grouped":
            more["grouping"] = Grouping(wait_ms=draw(st.sampled_from([0, 20_000])), interval_ms=60_000)
        more["flapping_skip"] = draw(st.booleans())
        found.append(rule(f"r{number}", *triggers, **more))
    return tuple(found)


@dataclass
class Told:
    """A story that has been told to its end, with the silences that were in force: client, from, until; and those that were planned."""

    rules: dict[str, Rule]
    world: RowWorld
    silences: list[tuple[str, int, int]] = field(default_factory=list)
    planned: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def steps(self) -> list[AlertLine]:
        return [line for line in self.world.lines if isinstance(line, AlertLine)]

    def firing(self, name: str, client: str) -> Iterator[tuple[int, int]]:
        """From when to when a rule's alerts about a client fired."""
        since = None
        for line in self.steps:
            if (line.rule, line.client) != (name, client):
                continue
            if line.state == "firing":
                since = line.at_ms
            elif since is not None:  # resolved, or held back before its group was told
                yield since, line.at_ms
                since = None
        if since is not None:
            yield since, FOREVER


def told(story: list[Turn], rules: tuple[Rule, ...]) -> Told:
    """The story, and the clock run on."""
    found = Told({each.name: each for each in rules}, RowWorld(rules, FLAPPING_START))
    on: dict[str, int] = {}
    for turn in story:
        now_ms = START_MS + turn.at_ms
        found.world.turn(now_ms, act(turn, now_ms))
        if turn.what in ("silence", "expire") and turn.client in on:  # a second one takes the first one's place
            from_ms = on.pop(turn.client)
            found.silences.append((turn.client, from_ms, min(now_ms, from_ms + SILENCE_MS)))
        if turn.what == "plan":
            from_ms = now_ms + PLANNED_MS
            found.planned.append((turn.client, from_ms, from_ms + 55_555))
        if turn.what == "silence":
            on[turn.client] = now_ms
    found.silences += [(client, from_ms, from_ms + SILENCE_MS) for client, from_ms in on.items()]
    found.world.run_on()
    return found


often = settings(
    max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


@often
@given(stories(), rule_sets())
def test_every_alert_fires_before_it_resolves_and_once(story: list[Turn], rules: tuple[Rule, ...]) -> None:
    fires: dict[tuple[str, str], bool] = {}
    by_name = {each.name: each for each in rules}
    for line in told(story, rules).steps:
        if line.client is None:
            continue
        about = line.rule, line.client
        if line.state == "firing":
            assert not fires.get(about), line.at_ms
        elif line.state == "resolved":
            assert fires.get(about), line.at_ms
        else:
            # Nothing is pending or suppressed beside what fires; only a group's may be held back before they were told.
            assert not fires.get(about) or by_name[line.rule].grouping, (line.state, line.at_ms)
        fires[about] = line.state == "firing"


@often
@given(stories(), rule_sets())
def test_a_recovery_goes_to_whoever_got_the_firing_and_once(story: list[Turn], rules: tuple[Rule, ...]) -> None:
    owed: set[tuple[str, str]] = set()  # rule, and client, key or bundle: who has got a firing and no recovery yet
    outages: dict[str, int] = {}
    seen: set[str] = set()
    for line in told(story, rules).world.lines:
        if not isinstance(line, PlannedDelivery):
            continue
        assert line.key not in seen, "two deliveries have one key"
        seen.add(line.key)
        if line.phase == "summary":  # a long story reaches `deliveries.burst`
            continue
        name = line.rule.name
        if {"outage", "quorum"} & set(line.rule.triggers):  # several of one key may go on at once
            outages[name] = outages.get(name, 0) + {"firing": 1, "recovery": -1}.get(line.phase, 0)
            assert outages[name] >= 0
            continue
        grouped = line.rule.grouping is not None
        is_listed = line.client is None  # a group or a bundle: its next list is a firing too
        about = str(line.group_key) if grouped else line.alert if is_listed else line.client or ""
        if line.phase == "firing":
            assert is_listed or (name, about) not in owed or line.rule.triggers in OVER_AT_ONCE
            owed.add((name, about))
        else:
            assert (name, about) in owed, (line.phase, line.at_ms)
            if line.phase == "recovery":
                owed.remove((name, about))


@often
@given(stories(), rule_sets())
def test_nothing_fires_and_nobody_is_reminded_behind_a_closed_gate(story: list[Turn], rules: tuple[Rule, ...]) -> None:
    found = told(story, rules)
    told_of = [line for line in found.world.lines if isinstance(line, PlannedDelivery) and line.phase == "reminder"]
    moments = [(line.rule, line.client, line.at_ms) for line in found.steps if line.state == "firing"]
    moments += [(line.rule.name, line.client, line.at_ms) for line in told_of]
    for name, client, at_ms in moments:
        its = found.rules[name]
        assert its.mute is None or not its.mute.covers(at_ms), (name, client, at_ms)
        if client is None:
            continue
        of_its_rule = found.silences + (found.planned if "a" in name else [])
        for covered, from_ms, until_ms in of_its_rule:
            if covered == "d" or client.endswith(f"@@@{covered}"):  # d's silence is about everybody
                assert not from_ms < at_ms < until_ms, (name, client, at_ms)
        for other in its.inhibited_by:
            if its.shadow or not found.rules[other].shadow:
                for since_ms, until_ms in found.firing(other, client):
                    assert not since_ms < at_ms < until_ms, (name, other, client, at_ms)
        for parent in its.parents:
            if its.shadow or not found.rules[parent.rule].shadow:
                for device, group in GROUPS.items():
                    if group == client.partition("@@@")[0]:
                        for since_ms, until_ms in found.firing(parent.rule, f"{group}@@@{device}"):
                            assert not since_ms < at_ms < until_ms, (name, parent, client, at_ms)


@often
@given(stories(), rule_sets())
def test_what_is_open_in_the_end_is_what_is_the_case(story: list[Turn], rules: tuple[Rule, ...]) -> None:
    found = told(story, rules)
    last = {(line.rule, line.client): line.state for line in found.steps}
    for name in GROUPS:
        client = f"{GROUPS[name]}@@@{name}"
        status = found.world.status(client)
        for each in rules:
            state = last.get((each.name, client))
            if each.triggers in (("offline",), ("online",)) and state == "firing":
                assert status == each.triggers[0]
            if each.triggers == ("offline",) and status == "offline":
                assert state in ("firing", "suppressed")
            if each.triggers[0] in ("flapping", "first_seen", "stable"):
                assert state != "firing"  # the clock has run on until everybody was calm


@often
@given(stories(), rule_sets())
def test_whatever_befalls_the_engine_under_any_rules_the_lines_are_the_same(
    story: list[Turn], rules: tuple[Rule, ...]
) -> None:
    troubled = played(story, troubled=True, rules=rules, flapping_start=FLAPPING_START)
    assert troubled == played(story, troubled=False, rules=rules, flapping_start=FLAPPING_START)
