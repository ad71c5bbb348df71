"""What a scenario sees is what a replay of the same events prints; and how expectations are held against it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.core.times import duration_text
from engine.replay.scenarios.diff import TimelineEntry, compare
from engine.replay.scenarios.file import load_scenarios
from engine.replay.scenarios.runner import INPUTS, ScenarioRunner
from engine.replay.scenarios.scenario import Expected
from engine.sources.wire import decode_replay_lines
from tests.oracle.running import replay_in_process
from tests.oracle.traces import START_MS, scenario
from tests.replay.writing import write

EARLY_MS = START_MS - 86_400_000  # traces reach a little before their start
EARLY = "2025-12-31T00:00:00Z"


def rows(trace: bytes) -> list[str]:
    """The accepted events of a trace, as a scenario writes them."""
    found = decode_replay_lines(trace, 60_000)
    told = []
    for (client, kind, occurred_ms, channel, ip), received_ms in zip(found.events, found.received, strict=True):
        when = duration_text(occurred_ms - EARLY_MS)
        if received_ms is not None:
            when += f"/{duration_text(received_ms - EARLY_MS)}"
        told.append(f"{when} {client} {kind} {channel} {ip}".strip())
    return told


def expectations(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that a replay printed of deliveries and alerts, as expectations."""
    named = {"at", "rule", "client", "clients", "action", "phase", "key", "state", "reason", "request"}
    deliveries = [line for line in lines if line["type"] == "delivery"]
    alerts = [line for line in lines if line["type"] == "alert" and line["state"] != "pending"]
    chosen = ([{name: line[name] for name in line if name in named} for line in some] for some in (deliveries, alerts))
    return dict(zip(("expect", "alerts"), chosen, strict=True))


@given(seed=st.integers(0, 1_000_000))
def test_a_scenario_sees_what_a_replay_of_the_same_events_prints(seed: int) -> None:
    trial = scenario(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trial.write(folder)
        printed = [json.loads(line) for line in replay_in_process(folder).splitlines()]
        lines = [line for line in printed if line["type"] not in {"rejected", "summary"}]
        told = {"name": "trace", "start": EARLY, "events": rows(trial.trace), **expectations(lines)}
        config = {key: trial.config[key] for key in ("resolver", "debounce", "flapping")}
        content = {"version": 1, "rules": "rules", "config": config, "inventory": "inventory.csv", "tests": [told]}
        file = folder / "trace.test.yaml"
        file.write_text(json.dumps(content))
        loaded = load_scenarios(file)
        outcome = ScenarioRunner(loaded).run(loaded.scenarios[0])
    assert [dict(seen.line) for seen in outcome.timeline if seen.line["type"] not in INPUTS] == lines
    assert outcome.passed
    assert len(outcome.comparisons) == len(told["expect"]) + len(told["alerts"])


answers = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["G1@@@a1", "G1@@@a2", "G2@@@a1", "lonely"]), st.integers(-1, 2)),
    min_size=1,
    max_size=8,
)


@given(seed=st.integers(0, 1_000_000), said=answers, failure=st.sampled_from(["send", "hold"]))
def test_with_any_answers_a_scenario_ends_and_its_clock_never_goes_back(
    seed: int, said: list[tuple[int, str, int]], failure: str
) -> None:
    trial = scenario(seed)
    entries = [
        {"at": duration_text(86_400_000 + at * 1_000), "client": client, "connections": connections}
        for at, client, connections in said
    ]
    told = {"name": "asked", "start": EARLY, "events": rows(trial.trace), "answers": entries}
    config = {key: trial.config[key] for key in ("resolver", "debounce", "flapping")}
    content = {"version": 1, "rules": "rules", "config": config, "inventory": "inventory.csv", "tests": [told]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trial.write(folder)
        file = folder / "asked.test.yaml"
        file.write_text(json.dumps(content))
        loaded = load_scenarios(file)
    rules = tuple(replace(rule, verify=True, verify_failure=failure) for rule in loaded.rules)
    outcome = ScenarioRunner(replace(loaded, rules=rules)).run(loaded.scenarios[0])
    instants = [seen.at_ms for seen in outcome.timeline]
    assert instants == sorted(instants)


def test_the_configured_guard_against_bursts_holds_deliveries(tmp_path: Path) -> None:
    rule = {"name": "seen", "trigger": "first_seen", "actions": [{"log": {"message": "{{ client.id }}"}}]}
    events = [f"0s G@@@p{n} connect A" for n in range(4)]
    told = [{"client": f"G@@@p{n}", "state": None if n < 2 else "held"} for n in range(4)]
    told.insert(3, {"phase": "summary"})
    test = {"name": "burst", "events": events, "expect": told, "until": "30s"}
    file = load_scenarios(write(tmp_path, test, rules=[rule], config={"deliveries": {"burst": 2}}))
    outcome = ScenarioRunner(file).run(file.scenarios[0])
    assert outcome.passed, outcome.comparisons


# Expectations


def seen(at_ms: int, **line: Any) -> TimelineEntry:
    return TimelineEntry(at_ms=at_ms, line={"type": "delivery", **line})


def wanted(at_ms: int | None = None, **keys: Any) -> Expected:
    return Expected(keys=keys, at_ms=at_ms, where="expect[0]", line=1)


def why(expected: Expected, found: TimelineEntry) -> list[str]:
    """How one thing differs from one expectation."""
    return [reason for pair in compare([expected], [found], 0) for reason in pair.why]


def test_only_the_keys_that_are_given_are_compared_at_any_depth() -> None:
    request = {"method": "POST", "json": {"a": 1, "b": [{"c": True, "d": 2}], "e": None}}
    found = seen(5_000, rule="r", client="c", request=request)
    assert why(wanted(5_000), found) == []
    assert why(wanted(request={"json": {"b": [{"c": True}], "e": None}}), found) == []
    assert why(wanted(rule="r", request={"json": {"a": 2}}), found) == ["request.json.a: expected 2, saw 1"]
    assert why(wanted(rule="r", request={"json": {"x": 2}}), found) == ["request.json.x: expected 2, there is none"]
    assert why(wanted(rule="r", request={"json": {"b": []}}), found) == [
        'request.json.b: expected [], saw [{"c": true, "d": 2}]'
    ]
    assert why(wanted(rule="r", request={"json": {"b": [{"c": 1}]}}), found) == [
        "request.json.b[0].c: expected 1, saw true"
    ]
    assert why(wanted(rule="r", request={"json": {"a": True}}), found) == ["request.json.a: expected true, saw 1"]
    assert why(wanted(rule="r", state=None), found) == []
    assert why(wanted(rule="r", state="shadow"), found) == ["state: expected shadow, there is none"]


def test_a_key_is_what_a_delivery_is_about_or_its_name() -> None:
    found = seen(0, rule="r", key="0192", group_key={"group": "G", "site": "north"}, clients=["b", "a"])
    assert why(wanted(key={"group": "G"}, clients=["a", "b"]), found) == []
    assert why(wanted(key="0192"), found) == []
    assert why(wanted(rule="r", key={"group": "H"}), found) == ["key.group: expected H, saw G"]
    assert why(wanted(rule="r", clients=["a"]), found) == ['clients: expected ["a"], saw ["a", "b"]']


def test_differences_are_reported_of_the_pair_that_belongs_together() -> None:
    names = "abcde"
    found = [seen(n * 1000, rule="r", client=name) for n, name in enumerate(names)]
    hoped = [wanted(n * 1000, rule="r", client=name) for n, name in enumerate(names) if name != "b"]
    pairs = compare(hoped, found, 0)
    assert [(pair.expected is None, pair.seen) for pair in pairs if pair.why] == [(True, 1)]
    hoped[1] = wanted(2001, rule="r", client="c")
    assert [pair.why for pair in compare(hoped, found, 0) if pair.why and pair.expected] == [
        ("at: expected 2s1ms, saw 2s",)
    ]


def test_order_counts() -> None:
    found = [seen(0, client="a"), seen(0, client="b")]
    assert any(pair.why for pair in compare([wanted(client="b"), wanted(client="a")], found, 0))


entries = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=8)


@given(expected=entries, found=entries)
def test_lists_agree_exactly_when_they_are_the_same(
    expected: list[tuple[int, str]], found: list[tuple[int, str]]
) -> None:
    pairs = compare(
        [wanted(at, client=client) for at, client in expected], [seen(at, client=client) for at, client in found], 0
    )
    assert (not any(pair.why for pair in pairs)) == (expected == found)
    assert [pair.seen for pair in pairs if pair.seen is not None] == list(range(len(found)))
    assert sum(pair.expected is not None for pair in pairs) == len(expected)
