"""A sweep through a large fleet at the highest rate: how much of the budget it uses, and what a call costs.

The stand-in of the status query has a process of its own and takes 20 ms for an answer. The share is of calls as the one who
is asked sees them, from the first to the last.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from tests.benchmarks.engine_process import BenchmarkError, Engine
from tests.status.standin import StandIn

Figures = dict[str, float]

RATE, LATENCY_S = 300, 0.02
LOOK_S = 0.5
AT_ONCE = 1_000
WITHIN_S = 600.0


def _serve(pipe: Connection, clients: int) -> None:
    with StandIn(latency_s=LATENCY_S, truth=dict.fromkeys(_names(clients), 1)) as standin:
        pipe.send(standin.port)
        pipe.recv()
        instants = sorted(call.at_s for call in standin.calls)
        pipe.send((len(instants), instants[-1] - instants[0], standin.most_in_a_second()))


@contextmanager
def _standing_in(clients: int) -> Iterator[tuple[StandIn, Connection]]:
    """The keys and address of a stand-in in another process, and how to ask it what came: (calls, seconds, most in one)."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(its, clients), daemon=True)
    process.start()
    try:
        yield StandIn(port=ours.recv()), ours
    finally:
        process.kill()
        process.join()


def _names(clients: int) -> list[str]:
    return [f"GID_SWEEP@@@d{number:06}" for number in range(clients)]


def measure(clients: int, folder: Path) -> Figures:
    """One sweep of so many clients through the service."""
    with _standing_in(clients) as (standin, pipe):
        keys = standin.keys
        for name in ("access_key", "secret"):
            (folder / name).write_text(keys[name])
        status = {"provider": "route", "endpoint": standin.url, "instance": standin.instance, "rate": RATE}
        status |= {name: {"file": name} for name in ("access_key", "secret")}
        config: dict[str, Any] = {"sources": [{"name": "push", "type": "http"}], "status": status}
        with Engine.start(folder, config, []) as engine:
            engine.wait_for("/readyz")
            _connect(engine, clients)
            before = engine.usage().cpu_total_s
            found = _swept(engine)
            used_s = engine.usage().cpu_total_s - before
        if (found["asked"], found["agreed"]) != (clients, clients):
            raise BenchmarkError(f"the sweep did not find what is true: {found}")
        pipe.send(None)
        calls, seconds, most = pipe.recv()
    rate = (calls - 1) / seconds
    return {"calls/s": rate, "of the rate %": 100 * rate / RATE, "most/s": most, "cpu call_us": used_s / calls * 1e6}


def _connect(engine: Engine, clients: int) -> None:
    names, at_ms = _names(clients), time.time_ns() // 1_000_000 - 10_000
    for start in range(0, clients, AT_ONCE):
        lines = [
            json.dumps({"clientId": name, "time": at_ms, "eventType": "connect", "channelId": f"c{name[-6:]}"})
            for name in names[start : start + AT_ONCE]
        ]
        answer = requests.post(
            f"http://127.0.0.1:{engine.port}/v1/events",
            "\n".join(lines),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=30,
        )
        answer.raise_for_status()


def _swept(engine: Engine) -> dict[str, Any]:
    url = f"http://127.0.0.1:{engine.port}/v1/reconciliations"
    begun = requests.post(url, json={}, timeout=30)
    begun.raise_for_status()
    number, until = begun.json()["id"], time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        engine.must_live()
        found: dict[str, Any] = requests.get(f"{url}/{number}", timeout=30).json()
        if found["finished_at"] is not None:
            return found
        time.sleep(LOOK_S)
    raise BenchmarkError(f"the sweep did not end within {WITHIN_S:.0f} s")
