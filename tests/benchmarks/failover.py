"""A broker failover over a whole fleet, with the rules an ops team would have: one incident and a handful of deliveries.

Everyone connects, everyone is dropped within a minute, 99.6 % are back within five. All of that takes as long as it takes the
wall clock, divided by `SPEED`: the hold and the outage's `within` with it. The events are posted, as a gateway would.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import requests

from engine.core.history import SETTLED
from tests.benchmarks.engine_process import BenchmarkError, Engine

Figures = dict[str, float]

SPEED = 6
HOLD_S = 30 / SPEED
DROP_S = 60 / SPEED
BACK_S = 300 / SPEED
LOST = 0.004
"""Of the fleet: those who never come back."""

BATCH_S = 0.05
"""What a gateway collects before it posts."""

MOST = 1_500
"""Events of one post."""

WITHIN_S = 300.0
MIB = 2**20


class Told(ThreadingHTTPServer):
    """A webhook target in this process, which remembers the bodies by their keys; few of them come."""

    def __init__(self) -> None:
        self.bodies: dict[str, Any] = {}
        self.requests = 0
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.requests += 1
                told.bodies.setdefault(self.headers["Idempotency-Key"], body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def of(self, kind: str) -> list[Any]:
        """What was told of one kind."""
        return [body for body in list(self.bodies.values()) if body["kind"] == kind]


def rules(url: str) -> list[dict[str, Any]]:
    """An outage of a region instead of its clients; who goes alone is told alone, and who is back."""

    def hook(kind: str, text: str) -> list[dict[str, Any]]:
        return [{"webhook": {"url": url, "json": {"kind": kind, "text": text}}}]

    many = "{{ alert.count }} of {{ alert.total }} down"
    back = "{{ alert.back }} of {{ alert.total }} back"
    alone = "{{ alert.count }} offline"
    outage = {
        "by": ["region"],
        "at_least": 20,
        "percent": 10,
        "within": f"{round(60_000 / SPEED)}ms",
        "inhibit": True,
    }
    return [
        {
            "name": "failover",
            "trigger": "outage",
            "outage": outage,
            "actions": hook("outage", many),
            "on_recovery": hook("over", back),
        },
        {
            "name": "gone",
            "trigger": "offline",
            "flapping": "fire",
            "actions": hook("gone", alone),
            "on_recovery": hook("returned", "{{ client.id }} is back"),
        },
        {
            "name": "welcome-back",
            "trigger": "online",
            "flapping": "fire",
            "actions": hook("online", "{{ client.id }}"),
        },
    ]


def line(index: int, kind: str, channel: str, at_ms: int) -> str:
    """One event of a client, as the broker writes it."""
    return (
        f'{{"clientId":"GID_SITE{index % 50:02d}@@@pump-{index:07d}","time":{at_ms},"eventType":"{kind}",'
        f'"channelId":"{channel}{index}","clientIp":"10.0.0.1:5000"}}'
    )


def plan(clients: int, seed: int = 1) -> list[tuple[float, int, str, str]]:
    """(seconds after the drop began, client, kind, channel), in order; about the last `LOST` nothing but the drop."""
    rng = random.Random(seed)
    lost = round(clients * LOST)
    found: list[tuple[float, int, str, str]] = []
    for index in range(clients):
        gone_s = rng.uniform(0, DROP_S)
        found.append((gone_s, index, "tcpclean", "a"))
        if index >= lost:
            found.append((rng.uniform(max(gone_s, HOLD_S), BACK_S), index, "connect", "b"))
    return sorted(found)


def batches(
    steps: list[tuple[float, int, str, str]],
) -> Iterator[tuple[float, list[tuple[int, str, str]]]]:
    """What is posted together, and when (seconds after the drop began)."""
    start = 0
    while start < len(steps):
        end, until_s = start, steps[start][0] + BATCH_S
        while end < len(steps) and steps[end][0] < until_s and end - start < MOST:
            end += 1
        yield steps[end - 1][0], [step[1:] for step in steps[start:end]]
        start = end


def post(engine: Engine, lines: list[str]) -> None:
    """Post these events, again while the queue is full. Raises BenchmarkError when they are refused."""
    url, headers = (
        f"http://127.0.0.1:{engine.port}/v1/events",
        {"Content-Type": "application/x-ndjson"},
    )
    while True:
        answer = requests.post(url, "\n".join(lines), headers=headers, timeout=60)
        if answer.status_code == 202:
            return
        if answer.status_code != 429:
            raise BenchmarkError(f"POST /v1/events answered {answer.status_code}: {answer.text[:300]}")
        time.sleep(float(answer.headers.get("Retry-After", "1")))


def connect(engine: Engine, clients: int) -> None:
    """Every client connects."""
    for start in range(0, clients, MOST):
        now_ms = time.time_ns() // 1_000_000
        post(
            engine,
            [line(index, "connect", "a", now_ms) for index in range(start, min(clients, start + MOST))],
        )


class Commits:
    """When each journal row became visible to others (epoch ms), asked every few milliseconds."""

    def __init__(self, engine: Engine) -> None:
        self._path = engine.folder / "data" / "rollcall.sqlite3"
        self._seen: list[tuple[int, int]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None)
        newest = 0
        while not self._stopped.wait(0.005):
            (found,) = connection.execute("SELECT max(id) FROM journal").fetchone()
            if found is not None and found > newest:
                newest = found
                self._seen.append((found, time.time_ns() // 1_000_000))
        connection.close()

    def lateness(self) -> list[float]:
        """Of each offline hold that ended: from the instant at which it was over until that was durable, in milliseconds."""
        self._stopped.set()
        self._thread.join()
        late: list[float] = []
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None)
        first = self._seen[0][0]
        for before, (row, seen_ms) in zip([first, *[row for row, _ in self._seen]], self._seen, strict=False):
            found = connection.execute("SELECT facts FROM journal WHERE id > ? AND id <= ?", (before, row))
            for (packed,) in found:
                late += [float(seen_ms - fact[3]) for fact in msgspec.msgpack.decode(packed) if fact[1] == SETTLED]
        connection.close()
        return late


def feed(engine: Engine, steps: list[tuple[float, int, str, str]]) -> float:
    """Post the steps when they are due; how many seconds the latest of them was late."""
    started, behind = time.monotonic(), 0.0
    for at_s, some in batches(steps):
        if (wait_s := started + at_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        behind = max(behind, -wait_s)
        now_ms = time.time_ns() // 1_000_000
        post(engine, [line(index, kind, channel, now_ms) for index, kind, channel in some])
    return behind


def run(clients: int, folder: Path) -> Figures:
    """The failover from its first drop until the last alert has been told."""
    told = Told()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inventory.csv").write_text("client,region\n*,eu-1\n")
    config = {
        "sources": [{"name": "push", "type": "http"}],
        "debounce": {"offline": f"{round(HOLD_S * 1000)}ms", "online": "0s"},
        "inventory": "inventory.csv",
    }
    try:
        with Engine.start(folder, config, rules(told.url)) as engine:
            engine.wait_for("/readyz")
            connect(engine, clients)
            steps = plan(clients)
            commits = Commits(engine)
            behind = feed(engine, steps)
            engine.wait_until(
                "the end of the outage",
                lambda: bool(told.of("gone")),
                within_s=WITHIN_S,
            )
            used, late = engine.usage(), commits.lateness()
            incidents = engine.query("SELECT count(*) FROM alerts WHERE rule = 'failover' AND fired_at IS NOT NULL")[0][
                0
            ]
            deliveries = engine.query("SELECT count(*) FROM deliveries")[0][0]
    finally:
        told.shutdown()
        told.server_close()
    return {
        "events": float(len(steps)),
        "incidents": float(incidents),
        "deliveries": float(deliveries),
        "sent twice": float(told.requests - len(told.bodies)),
        "still down, told together": float(told.of("gone")[0]["text"].split()[0]),
        "verdict p50_ms": statistics.median(late),
        "verdict p99_ms": statistics.quantiles(late, n=100)[98],
        "feeder behind_s": behind,
        "peak_all_mib": used.peak_all / MIB,
    }
