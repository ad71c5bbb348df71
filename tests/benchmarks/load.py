"""Synthetic lifecycle events for the benchmarks: the same arguments always write the same file.

`write_day` is an ordinary, nasty day: sessions, short flaps, silent and graceful ends, takeovers whose old close comes late,
duplicates, reordering, and a broker failover in the middle. `write_storm` is one drop and return of a whole large fleet.
Both write one event a line, in the order of arrival, as the broker words them.
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

EPOCH_MS = 1_767_225_600_000
"""Event times start here, 2026-01-01T00:00:00Z: well in the past, as in any backlog that is read from a file."""

HOLD_MS = 10_000
"""Gaps are measured in this debounce hold: at most half of it (a flap) or at least twice of it (really offline)."""

GROUPS = 50
"""Groups `GID_SITE00` to `GID_SITE49`; the rule sets of the benchmarks match on them."""

KINDS = ("pump", "pump", "pump", "valve", "valve", "valve", "cam", "cam", "meter", "meter")
"""Device names start with one of these: three in ten are pumps, three valves, two cameras, two meters."""

FAILOVER_AT_MS = 6 * HOLD_MS
MEAN_SESSION_MS = 3 * HOLD_MS
LATE_SHARE, DUPLICATE_SHARE, MAX_LATE_MS = 0.03, 0.02, 3_000.0
SURPLUS = 1.12
"""Events generated for each one asked for, so that the file still ends in full activity when it is cut to size."""

LINE = b'{"clientId":"%b","time":"%d","eventType":"%b","channelId":"%b","clientIp":"%b"}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A written file: where it is and what is in it."""

    path: Path
    events: int
    clients: int
    size_bytes: int


@dataclass(slots=True)
class _Step:
    """One event of a scenario, `after_ms` its start; `late` is the chance that it is delivered late."""

    after_ms: float
    type: bytes
    channel: int  # 0 the old one, 1 one in between, 2 the new one
    late: float = LATE_SHARE


Scenario = Callable[[random.Random], tuple[list[_Step], float]]
"""What happens to one client that is online: the events, and the time it takes in ms. It ends online on channel 2."""


def _goodbye(rng: random.Random, share: float) -> list[_Step]:
    """The old channel ends: its close, for a `share` of the cases announced by a disconnect."""
    if rng.random() >= share:
        return [_Step(0, b"tcpclean", 0)]
    return [_Step(0, b"disconnect", 0), _Step(rng.uniform(2, 50), b"tcpclean", 0)]


def _dark(rng: random.Random) -> tuple[list[_Step], float]:
    """Really offline for a while: to be reported."""
    away = rng.uniform(2.0, 2.5) * HOLD_MS
    return [*_goodbye(rng, 0.5), _Step(away, b"connect", 2)], away


def _flap(rng: random.Random) -> tuple[list[_Step], float]:
    """Back within the hold: not to be reported."""
    away = rng.uniform(0.02, 0.5) * HOLD_MS + 60
    return [*_goodbye(rng, 0.3), _Step(away, b"connect", 2)], away


def _stillborn(rng: random.Random) -> tuple[list[_Step], float]:
    """Back within the hold on a session that dies at once; its close often arrives before its own connect."""
    back = 0.6 * HOLD_MS
    dead = back + rng.uniform(200, 2_000)
    away = dead + rng.uniform(2.0, 2.5) * HOLD_MS
    steps = [_Step(0, b"tcpclean", 0), _Step(back, b"connect", 1, 0.3), _Step(dead, b"tcpclean", 1)]
    return [*steps, _Step(away, b"connect", 2)], away


def _restarting(rng: random.Random) -> tuple[list[_Step], float]:
    """Two takeovers in a row, the closes of the older two late; the first connect often arrives after the second."""
    second = rng.uniform(100, 1_000)
    steps = [_Step(0, b"connect", 1, 0.3), _Step(second, b"connect", 2)]
    closes = [_Step(second + rng.uniform(20, 500), b"tcpclean", channel) for channel in (0, 1)]
    return [*steps, *closes], second + 1_100


def _takeover(rng: random.Random) -> tuple[list[_Step], float]:
    """The new connection first, the old one's close afterwards: never offline."""
    return [_Step(0, b"connect", 2), _Step(rng.uniform(50, 1_000), b"tcpclean", 0)], 1_100


def _failover(rng: random.Random) -> tuple[list[_Step], float]:
    """The broker drops everyone within a second: most come back soon, a third in the stale order, 5 % stay away long."""
    drop, kind = rng.uniform(0, 1_000), rng.random()
    if kind < 0.32:
        back = drop + rng.uniform(0.02, 0.3) * HOLD_MS
        return [_Step(back, b"connect", 2), _Step(back + rng.uniform(50, 1_000), b"tcpclean", 0)], back + 1_100
    back = drop + (rng.uniform(0.02, 0.5) if kind < 0.95 else rng.uniform(2.0, 3.0)) * HOLD_MS
    return [_Step(drop, b"tcpclean", 0), _Step(back, b"connect", 2)], back + 1_100


SCENARIOS: tuple[tuple[float, Scenario], ...] = (  # (cumulative share, what happens)
    (0.30, _dark),
    (0.60, _flap),
    (0.68, _stillborn),
    (0.76, _restarting),
    (1.00, _takeover),
)


def _channel(rng: random.Random) -> bytes:
    return b"%032x" % rng.getrandbits(128)


def _client(index: int) -> bytes:
    return b"GID_SITE%02d@@@%b-%07d" % (index % GROUPS, KINDS[index // GROUPS % len(KINDS)].encode(), index)


def _ip(bits: int) -> bytes:
    return b"10.%d.%d.%d:%d" % (bits & 255, bits >> 8 & 255, bits >> 16 & 255, 1_024 + (bits >> 24 & 32_767))


def _pick(rng: random.Random) -> Scenario:
    chance = rng.random()
    return next(scenario for share, scenario in SCENARIOS if chance < share)


def _life(rng: random.Random, index: int, events: float) -> Iterator[tuple[float, bytes]]:
    """One client's events as (arrival in ms, line) until there are `events` of them; not yet in order of arrival."""
    client, ip = _client(index), _ip(rng.getrandbits(39))
    channels = [b"", b"", _channel(rng)]
    at = rng.uniform(0, HOLD_MS)
    written, failed_over = 0, False
    steps: list[_Step] = [_Step(0, b"connect", 2)]
    lasts = 0.0
    while True:
        for step in steps:
            line = LINE % (client, EPOCH_MS + int(at + step.after_ms), step.type, channels[step.channel], ip)
            arrival = at + step.after_ms + rng.uniform(5, 50)
            if rng.random() < step.late:
                arrival += rng.uniform(500, MAX_LATE_MS)
            yield arrival, line
            written += 1
            if rng.random() < DUPLICATE_SHARE:
                yield arrival + rng.uniform(1, 2_000), line
                written += 1
        if written >= events:
            return
        at += lasts + 100 + MEAN_SESSION_MS * rng.uniform(0.2, 1.8)
        channels = [channels[2], _channel(rng), _channel(rng)]
        if not failed_over and at >= FAILOVER_AT_MS - 2.6 * HOLD_MS:
            failed_over, at = True, max(at, float(FAILOVER_AT_MS))
            steps, lasts = _failover(rng)
        else:
            steps, lasts = _pick(rng)(rng)


def write_day(path: Path, *, events: int, clients: int, seed: int = 1) -> Load:
    """Write exactly `events` events of `clients` clients, every one of which connects at least once.

    Needs at least 3 events a client to be of any use; a million takes about 15 s and 500 MiB.
    """
    rng = random.Random(seed)
    each = events / clients * SURPLUS
    arrivals = [arrival for index in range(clients) for arrival in _life(rng, index, each)]
    arrivals.sort()
    with path.open("wb") as file:
        file.writelines(line for _, line in arrivals[:events])
    return Load(path=path, events=min(events, len(arrivals)), clients=clients, size_bytes=path.stat().st_size)


def _mixed(value: int) -> int:
    """128 well-mixed bits of a small number: a million channels without keeping one of them in memory."""
    mixed = (value + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 & (1 << 128) - 1
    return (mixed ^ mixed >> 61) * 0xDA942042E4DD58B5D1342543DE82EF95 & (1 << 128) - 1


def _storm_line(index: int, at_ms: int, type_: bytes, channel: int, seed: int) -> bytes:
    name = b"%032x" % _mixed(index << 33 | channel << 32 | seed)
    return LINE % (_client(index), EPOCH_MS + at_ms, type_, name, _ip(_mixed(index) & (1 << 39) - 1))


def _shuffled(rng: random.Random, clients: int, within_ms: float, from_ms: float) -> array[int]:
    """Each client at a random instant, sorted: instant in the upper bits, client in the lower 32."""
    instants = (int(from_ms + rng.random() * within_ms) << 32 | index for index in range(clients))
    return array("q", sorted(instants))


def write_storm(path: Path, *, clients: int, seed: int = 1) -> Load:
    """Write three events a client: everyone connects, everyone is dropped within a second, everyone returns within four.

    Those who return before the storm has reached their old connection are in the stale order, about one in eight.
    """
    rng = random.Random(seed)
    first = ((key, b"connect", 0) for key in _shuffled(rng, clients, 60_000, 0))
    drops = ((key, b"tcpclean", 0) for key in _shuffled(rng, clients, 1_000, 90_000))
    backs = ((key, b"connect", 1) for key in _shuffled(rng, clients, 4_000, 90_050))
    with path.open("wb") as file:
        for key, type_, channel in heapq.merge(first, drops, backs):
            file.write(_storm_line(key & 0xFFFFFFFF, key >> 32, type_, channel, seed))
    return Load(path=path, events=3 * clients, clients=clients, size_bytes=path.stat().st_size)
