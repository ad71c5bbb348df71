"""Random scenario files for `rollcall test`: what a trace cannot say, which is what operators do and what queries answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.compare.fleets import HOUR, MINUTE, Story
from tests.compare.rule_sets import MATCHES, Rule, settings

MAX_FUTURE_MS = 60_000
"""An event dated further ahead of its reception makes a scenario file invalid."""

LATEST_MS = 60_000
"""So long after the last event an act or an answer may come: a hold of six ticks of ten seconds."""

NEVER_SEEN = ("G9@@@ghost", "G1@@@a9")


def scenario_file(random: Random, stories: Sequence[Story], rules: Sequence[Rule]) -> dict[str, Any]:
    """One test a story, all by the rules in `rules/`; every other one can ask for a client's status."""
    tests = [_test(random, story, rules, number) for number, story in enumerate(stories)]
    return {
        "version": 1,
        "rules": "../rules",
        "config": settings(random, stories[0].grid),
        "inventory": "../inventory.csv",
        "tests": tests,
    }


def _test(random: Random, story: Story, rules: Sequence[Rule], number: int) -> dict[str, Any]:
    start_ms = min([story.start_ms, *(received for received, _, _ in story.arrivals)])
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start_ms)
    span_ms = story.start_ms + story.span_ms - start_ms
    test: dict[str, Any] = {
        "name": f"test {number}",
        "start": start.isoformat(),
        "events": [
            _row(start_ms, received, event) for received, _, event in story.arrivals if _is_possible(received, event)
        ],
        "acts": [_act(random, story, rules, start_ms) for _ in range(random.choice([0, 1, 2, 4]))],
    }
    if number % 2:
        test["answers"] = _answers(random, story, start_ms)
    if random.random() < 0.5:
        test["until"] = _offset(span_ms + LATEST_MS + random.choice([0, MINUTE, 5 * HOUR]))
    if random.random() < 0.3:
        names = [rule["name"] for rule in rules]
        expected = [{"rule": random.choice(names), "phase": "firing"}, {"action": "log", "state": None}]
        test["expect"] = random.choice([[], expected])
        test["alerts"] = random.choice(
            [[], [{"rule": random.choice(names), "state": "firing"}, {"reason": "throttle"}]]
        )
    return test


def _is_possible(received: int, event: dict[str, Any]) -> bool:
    return bool(event["time"] <= received + MAX_FUTURE_MS)


def _offset(ms: int) -> str:
    return f"-{-ms}ms" if ms < 0 else f"{ms}ms"


def _row(start_ms: int, received: int, event: dict[str, Any]) -> str:
    words = [f"{_offset(event['time'] - start_ms)}/{_offset(received - start_ms)}", json.dumps(event["clientId"])]
    words += [event["eventType"], json.dumps(event["channelId"])]
    return " ".join([*words, json.dumps(event["clientIp"])] if "clientIp" in event else words)


def _moment(random: Random, story: Story, start_ms: int) -> str:
    """An instant at which something happens in a story, or a hold or a tick later: deadlines meet there."""
    received = random.choice(story.arrivals)[0] if story.arrivals else start_ms
    return _offset(received - start_ms + random.choice([0, 0, story.grid.hold, story.grid.tick, 1]))


def _act(random: Random, story: Story, rules: Sequence[Rule], start_ms: int) -> dict[str, Any]:
    act: dict[str, Any] = {"at": _moment(random, story, start_ms)}
    if random.random() < 0.6:
        match = random.choice([*MATCHES, {"client": random.choice(story.clients)}])
        ticks = _offset(story.grid.tick * random.randint(1, 12))
        act["silence"] = {"match": match, "for": random.choice([ticks, ticks, "1m", "20m", "6h"])}
        if random.random() < 0.5:
            act["silence"] |= {"author": "eve", "comment": "works on the pumps"}
    else:
        act["ack"] = f"{random.choice(rules)['name']} {random.choice(story.clients)}"
    return act


def _answers(random: Random, story: Story, start_ms: int) -> list[dict[str, Any]]:
    clients = [client for client in (*story.clients, *NEVER_SEEN) if random.random() < 0.7]
    return [
        {
            "at": random.choice(["0s", _moment(random, story, start_ms)]),
            "client": client,
            "connections": random.choice([0, 0, 0, 1, 1, 2, -1, None]),
        }
        for client in clients
        for _ in range(random.choice([1, 1, 2, 3]))
    ]
