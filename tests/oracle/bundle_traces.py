"""Traces in which throttled alerts are released together, and whose clients come back one by one, around the pace of the lists.

Those of `traces` rarely get so far: there a client is seldom away for minutes. `scenario(seed)` is the same for the same seed.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from .bundles import INTERVAL
from .traces import START_MS, Scenario, written

CLIENTS = ["G1@@@a1", "G1@@@a2", "G1@@@b1", "G2@@@a1", "G2@@@c1", "lonely"]
LOG = {"log": {"message": "{{ alert.id }}"}}


def scenario(seed: int) -> Scenario:
    """The scenario of this seed."""
    random = Random(seed)
    tick = random.choice([1_000, 5_000, 10_000, 20_000])
    hold = tick * random.choice([0, 1, 3])
    told = [event for client in random.sample(CLIENTS, random.randint(3, 6)) for event in _life(random, tick, client)]
    told.sort(key=lambda event: event["time"])
    return Scenario(
        config={
            "version": 1,
            "data": "./data",
            "rules": "rules/",
            "inventory": "inventory.csv",
            "debounce": {"offline": written(hold), "online": written(random.choice([0, 0, tick]))},
            "flapping": {"start": random.choice([4, 6]), "stop": 2, "window": written(tick * random.choice([10, 60]))},
        },
        rules=tuple(_rule(random, tick, number) for number in range(random.randint(1, 3))),
        lines=tuple(json.dumps(event).encode() for event in told),
    )


def _life(random: Random, tick: int, client: str) -> list[dict[str, Any]]:
    """Connected, away, connected, ...: away for little, or for about as long as lists are apart."""
    at = START_MS + tick * random.randint(0, 3)
    events = []
    for number in range(random.randint(1, 5)):
        base = {"clientId": client, "channelId": f"{client[-2:]}-{number}", "clientIp": "10.1.0.7:1"}
        events.append({**base, "time": at, "eventType": "connect"})
        at += tick * random.choice([1, 2, 3, 10])
        events.append({**base, "time": at, "eventType": "tcpclean"})
        away = [tick, 5 * tick, INTERVAL - tick, INTERVAL, INTERVAL + tick, random.randrange(2 * INTERVAL)]
        at += random.choice(away)
    return events


def _rule(random: Random, tick: int, number: int) -> dict[str, Any]:
    triggers: list[Any] = [
        "offline",
        "offline",
        "online",
        ["offline", "online"],
        ["offline", "first_seen"],
        "first_seen",
    ]
    rule: dict[str, Any] = {"name": f"r{number}", "trigger": random.choice([*triggers, "flapping", "stable"])}
    throttle: dict[str, Any] = {"max": random.choice([1, 1, 2]), "per": written(tick * random.choice([2, 5, 20, 60]))}
    if by := random.choice([[], [], ["group"], ["site"]]):
        throttle["by"] = by
    rule |= {"throttle": throttle, "flapping": random.choice(["fire", "fire", "skip"])}
    rule["actions"] = [LOG]
    if rule["trigger"] not in ("first_seen", "stable") and random.random() < 0.8:
        rule["on_recovery"] = [LOG]
    return rule
