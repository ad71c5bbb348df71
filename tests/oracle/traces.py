"""Traces that try to tell two readings of the rules apart: few clients, few channels, times on a coarse grid.

On a coarse grid equal instants, deadlines that meet events, and differences of exactly a skew, a hold or a window are common
rather than rare. `scenario(seed)` is one configuration folder and one trace; the same seed always gives the same one.

Kept out, because no answer is right: a channel that connects twice at different times, a goodbye dated more than a skew
before its own connect, more channels than a client's state may hold.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import yaml

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
CHANNELS_AT_MOST = 24  # well inside what a client's state may hold
MAX_FUTURE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A configuration folder and a trace, as values; `lines` are the trace's lines without their line ends."""

    config: dict[str, Any]
    rules: tuple[dict[str, Any], ...]
    lines: tuple[bytes, ...]

    def write(self, folder: Path) -> None:
        """Write `config.yaml`, `rules/`, `inventory.csv` and `events.jsonl`."""
        (folder / "rules").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        (folder / "rules" / "rules.yaml").write_text(
            yaml.safe_dump({"version": 1, "rules": list(self.rules)}, sort_keys=False)
        )
        (folder / "inventory.csv").write_text("client,site\nG1@@@a*,north\nG2@@@*,south\n")
        (folder / "events.jsonl").write_bytes(self.trace)

    @property
    def trace(self) -> bytes:
        """The bytes of `events.jsonl`."""
        return b"".join(line + b"\n" for line in self.lines)

    def without_rule(self, index: int) -> Scenario:
        """The same with one rule less."""
        return replace(self, rules=self.rules[:index] + self.rules[index + 1 :])

    def with_lines(self, lines: tuple[bytes, ...]) -> Scenario:
        """The same with another trace."""
        return replace(self, lines=lines)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a scenario's times are made of, milliseconds."""

    tick: int
    skew: int
    hold: int  # of offline
    window: int  # of flapping


def grid_of(random: Random) -> Grid:
    """A tick, and a skew, a hold and a window that are multiples of it."""
    tick = random.choice([500, 1000, 5000, 10_000])
    return Grid(
        tick=tick,
        skew=random.choice([0, tick, tick, 2 * tick]),
        hold=tick * random.choice([0, 1, 2, 3, 6]),
        window=tick * random.choice([6, 10, 20, 40]),
    )


def scenario(seed: int) -> Scenario:
    """The scenario of this seed."""
    random = Random(seed)
    grid = grid_of(random)
    clients = random.sample(
        ["G1@@@a1", "G1@@@a2", "G1@@@b1", "G2@@@a1", "G2@@@c1", "lonely"], random.choice([1, 2, 3, 3, 4, 5])
    )
    told: list[tuple[int, int, dict[str, Any]]] = []  # (received, tie, event)
    for client in clients:
        told += arrivals(random, grid, life(random, grid, client))
    told.sort(key=lambda arrival: arrival[:2])
    lines = [line_of(random, grid, received, event) for received, _, event in told]
    return Scenario(
        config=_config(random, grid),
        rules=tuple(_rule(random, grid, number) for number in range(random.randint(1, 5))),
        lines=tuple(disturbed(random, grid, lines)),
    )


def written(ms: int) -> str:
    """A duration as people write it."""
    return f"{ms // 1000}s" if ms % 1000 == 0 else f"{ms}ms"


def _config(random: Random, grid: Grid) -> dict[str, Any]:
    stop = random.choice([1, 2, 2, 3])
    debounce: dict[str, Any] = {
        "offline": written(grid.hold),
        "online": written(random.choice([0, 0, 0, grid.tick, grid.hold])),
    }
    if random.random() < 0.25:
        override = {"match": {"group": "G2"}, "offline": written(grid.tick * random.randint(0, 4))}
        debounce["overrides"] = [override]
    return {
        "version": 1,
        "data": "./data",
        "rules": "rules/",
        "inventory": "inventory.csv",
        "resolver": {"clock_skew": written(grid.skew)},
        "debounce": debounce,
        "flapping": {"start": stop + random.randint(1, 3), "stop": stop, "window": written(grid.window)},
    }


# What the broker saw of one client: (time, event).


def life(random: Random, grid: Grid, client: str) -> list[dict[str, Any]]:
    """The events of one client, as the broker would tell them: sessions, a storm, takeovers, or anything at all."""
    style = random.choice(["sessions", "sessions", "storm", "soup", "soup", "twins"])
    channels = random.randint(1, 4) if style == "soup" else random.randint(2, 10)
    at = START_MS + grid.tick * random.randint(0, 10)
    ip = random.choice(["10.1.0.7:4711", "10.2.0.7:1", None])
    events: list[dict[str, Any]] = []
    for number in range(min(channels, CHANNELS_AT_MOST)):
        base = {"clientId": client, "channelId": f"{client[-2:]}-{number}", **({"clientIp": ip} if ip else {})}
        length = grid.tick * _length(random, grid, style)
        end = at + length
        events.append({**base, "time": at, "eventType": "connect"})
        if random.random() < 0.4:
            goodbye = random.choice([end, end, end - min(grid.tick, length), at - grid.skew, end + grid.tick])
            events.append({**base, "time": goodbye, "eventType": "disconnect"})
        if random.random() < 0.85:
            early = random.choice([at - grid.skew, at - grid.skew - 1, at])
            events.append({**base, "time": early if random.random() < 0.06 else end, "eventType": "tcpclean"})
        at = _next_start(random, grid, style, at, end)
    return events


def _length(random: Random, grid: Grid, style: str) -> int:
    if style == "storm":
        return random.randint(0, 2)
    if style == "sessions":
        return random.choice([1, 2, grid.hold // grid.tick, grid.window // grid.tick, random.randint(1, 60)])
    return random.randint(0, 12)


def _next_start(random: Random, grid: Grid, style: str, start: int, end: int) -> int:
    if style == "storm":
        return end + grid.tick * random.randint(0, 2)
    if style == "soup":
        return START_MS + grid.tick * random.randint(0, 20)
    near = [start, start + grid.skew, start + grid.skew + 1, start + grid.tick, end - grid.tick]
    after = [end, end, end + 1, end + grid.skew, end + grid.hold, end + grid.hold - 1, end + grid.hold + grid.tick]
    if style == "twins":
        return max(start, random.choice(near))
    return max(start, random.choice(near + 2 * after + [end + grid.window]))


# How the news travelled: loss, duplicates, delay.


def arrivals(random: Random, grid: Grid, events: list[dict[str, Any]]) -> list[tuple[int, int, dict[str, Any]]]:
    """When each event arrives, if at all and how often: (received, order within that instant, event)."""
    lossy = random.choice([0, 0, 0.1])
    doubling = random.choice([0, 0.1, 0.4])
    delays = random.choice(
        [[0], [0], [0, 0, 0, grid.tick], [0, grid.tick, grid.hold, grid.window], [0, 1, -1, 2 * grid.tick]]
    )
    shuffled = random.random() < 0.5
    told = []
    for number, event in enumerate(events):
        if random.random() < lossy:
            continue
        for _ in range(2 if random.random() < doubling else 1):
            tie = random.randint(0, 1000) if shuffled else number
            told.append((event["time"] + random.choice(delays), tie, event))
    return told


def line_of(random: Random, grid: Grid, received: int, event: dict[str, Any]) -> bytes:
    """One line of a trace, in one of the spellings that brokers use."""
    told = dict(event)
    time = told["time"]
    if received != time or random.random() < 0.7:
        told["received_at"] = received + (random.choice([-grid.tick, -1]) if random.random() < 0.04 else 0)
    spelling = random.random()
    if spelling < 0.1:
        told["time"] = str(time)
    elif spelling < 0.2 and time % 1000 == 0:
        told["time"] = time // 1000
    if random.random() < 0.05:
        told["remark"] = "x" * random.randint(0, 900)
    return json.dumps(told).encode()


def disturbed(random: Random, grid: Grid, lines: list[bytes]) -> list[bytes]:
    """The lines, some of them in another order, with malformed ones among them."""
    if random.random() < 0.25:  # neighbours change places: received times go back
        for _ in range(3):
            i = random.randrange(len(lines)) if lines else 0
            lines[i : i + 2] = reversed(lines[i : i + 2])
    if random.random() < 0.3:
        for _ in range(random.randint(1, 4)):
            lines.insert(random.randint(0, len(lines)), _malformed(random))
    return lines


def _malformed(random: Random) -> bytes:
    good = {
        "clientId": "G1@@@a1",
        "time": START_MS,
        "eventType": "connect",
        "channelId": "bad",
        "received_at": START_MS,
    }
    wrong: list[dict[str, Any]] = [
        {"clientId": None},
        {"clientId": ""},
        {"clientId": ["G1@@@a1"]},
        {"clientId": "G1@@@" + "é" * 126},
        {"clientId": "G1@@@a\n1"},
        {"channelId": 7},
        {"channelId": ""},
        {"channelId": "c" * 65},
        {"channelId": "c\x7f"},
        {"clientIp": 7},
        {"clientIp": "1" * 65},
        {"eventType": "Connect"},
        {"eventType": ""},
        {"eventType": None},
        {"time": None},
        {"time": True},
        {"time": ""},
        {"time": "soon"},
        {"time": [1]},
        {"time": START_MS + MAX_FUTURE_MS + 1},
        {"time": float("nan")},
        {"time": float("inf")},
    ]
    key = random.choice(["clientId", "channelId", "eventType", "time"])
    lacking = {name: value for name, value in good.items() if name != key}
    whole = json.dumps(good).encode()
    return random.choice(
        [
            json.dumps({**good, **random.choice(wrong)}).encode(),
            json.dumps({**good, **random.choice(wrong)}).encode(),
            json.dumps(lacking).encode(),
            b"[]",
            b"7",
            b"null",
            b'"text"',
            b"{not json",
            whole[:-1],
            whole + b"}",
            whole.replace(b"a1", b"a\xff"),
            json.dumps({**good, "remark": "x" * 70_000}).encode(),
        ]
    )


# Rules.


def _rule(random: Random, grid: Grid, number: int) -> dict[str, Any]:
    lasting = ["offline", "online", ["offline", "online"]]
    first = ["first_seen", ["first_seen", "offline"], ["first_seen", "online"], ["offline", "online", "first_seen"]]
    trigger = random.choice([*lasting, *lasting, *first, "flapping", "stable", "duplicate"])
    rule: dict[str, Any] = {"name": f"r{number}", "trigger": trigger}
    if trigger in lasting and random.random() < 0.5:
        after = random.choice([grid.hold, grid.hold + grid.tick, 2 * grid.hold, grid.hold // 2, grid.window])
        rule["for"] = written(max(after, grid.tick))
    if random.random() < 0.25:
        rule["match"] = random.choice(
            [
                {"group": "G1"},
                {"device": ["a*", "c?"]},
                {"client": "re:G[12]@@@a[0-9]"},
                {"client": "*@@@*1"},
                {"ip": "10.1.0.0/16"},
                {"attributes": {"site": ["north", "nowhere"]}},
                {"group": "G*", "device": "?1"},
            ]
        )
    if trigger in lasting and random.random() < 0.15:
        rule["condition"] = random.choice(
            ["graceful", "not graceful", "flaps > 0", "not flapping", "client.attributes.site == 'north'"]
        )
    if random.random() < 0.5:
        per = grid.tick * random.choice([1, 2, 4, 10, 30])
        rule["throttle"] = {"max": random.choice([1, 1, 2, 3]), "per": written(per)}
        if by := random.choice([[], ["client"], ["group"], ["site"], ["group", "site"]]):
            rule["throttle"]["by"] = by
    if random.random() < 0.3:
        rule["flapping"] = random.choice(["fire", "skip"])
    if random.random() < 0.1:
        rule["shadow"] = True
    log, hook = {"log": {"message": "{{ alert.id }}"}}, {"webhook": {"url": "http://127.0.0.1:9/hook", "json": {}}}
    rule["actions"] = random.choice([[log], [log], [hook], [log, hook]])
    if random.random() < 0.5 and trigger not in ("first_seen", "stable"):  # those are over at once
        rule["on_recovery"] = random.choice([[log], [hook, log]])
    return rule
