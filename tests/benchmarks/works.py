"""What the engine is asked to do, each work as its users would run it; every function returns figures by name.

Rates are events a second; names that end in `_s`, `_ms`, `_us` or `_mib` carry that unit. Each function works in a fresh
folder, starts its own processes, and stops them. `rollcall` names the command of another version than the one of this environment.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.benchmarks import rule_sets
from tests.benchmarks.collector import Collector, CollectorProcess
from tests.benchmarks.engine_process import BenchmarkError, Engine, command, wait_until
from tests.benchmarks.load import GROUPS, HOLD_MS, Load

Figures = dict[str, float]

WITHIN_S = 600.0
"""The longest that one work may take before it is given up."""

POSTS = 500
PLENTY = 100_000_000
"""A burst limit that no benchmark reaches: held deliveries would not be work done."""

MIB = 2**20


def file_config(**more: Any) -> dict[str, Any]:
    """What all works that read a file configure: one followed file, the peer's hold, and no limit on deliveries."""
    return {
        "sources": [{"name": "log", "type": "file", "path": "events.jsonl", "follow": True}],
        "debounce": {"offline": f"{HOLD_MS // 1000}s", "online": "0s"},
        "deliveries": {"burst": PLENTY},
    } | more


def _appear(load: Load, folder: Path) -> float:
    """Put the events file where the running engine looks for it; returns the monotonic instant (s) of that."""
    waiting = folder / "events.waiting"
    waiting.unlink(missing_ok=True)
    waiting.hardlink_to(load.path)
    started = time.monotonic()
    waiting.rename(folder / "events.jsonl")
    return started


def read_through(engine: Engine, load: Load) -> float:
    """Let a running engine read the whole file; returns seconds until its position at the end is committed."""
    started = _appear(load, engine.folder)
    ended = engine.wait_until(
        "the committed position at the end of the file",
        lambda: engine.committed_bytes("log") >= load.size_bytes,
        within_s=WITHIN_S,
    )
    return ended - started


def cpu_figures(before: dict[str, float], after: dict[str, float], events: int) -> Figures:
    """CPU microseconds an event, one figure a thread, threads that did next to nothing left out."""
    used = {name: (seconds - before.get(name, 0.0)) * 1e6 / events for name, seconds in after.items()}
    return {f"cpu {name}_us": value for name, value in used.items() if value >= 0.05}


def from_file(load: Load, folder: Path, rules: list[rule_sets.Rule], rollcall: Path | None = None) -> Figures:
    """A running engine reads the file: history, states, alerts, log deliveries and position durable at its end."""
    with Engine.start(folder, file_config(), rules, rollcall) as engine:
        engine.wait_for("/healthz")
        before = engine.usage()
        seconds = read_through(engine, load)
        after = engine.usage()
        known = _count(engine, "SELECT count(*) FROM alerts WHERE fired_at IS NOT NULL")
    return {
        "events/s": load.events / seconds,
        "firings": known,
        "peak_mib": after.peak_engine / MIB,
    } | cpu_figures(before.cpu_s, after.cpu_s, load.events)


def _count(engine: Engine, sql: str) -> float:
    rows = engine.query(sql)
    return float(rows[0][0]) if rows else float("nan")


def with_webhooks(load: Load, folder: Path, rollcall: Path | None = None) -> Figures:
    """The same, and every client's first connect is a webhook that arrives: until the last one has."""
    with CollectorProcess() as target:
        rules = rule_sets.everyone_to(target.url)
        with Engine.start(folder, file_config(), rules, rollcall) as engine:
            engine.wait_for("/healthz")
            before = engine.usage()
            started = time.monotonic()
            read_s = read_through(engine, load)
            engine.wait_until(f"{load.clients} webhooks", lambda: target.seen()[1] >= load.clients, within_s=WITHIN_S)
            requests, keys, last = target.seen()
            after = engine.usage()
    seconds = max(last - started, read_s)
    return {
        "events/s": load.events / seconds,
        "webhooks": float(keys),
        "sent twice": float(requests - keys),
        "read_s": read_s,
        "peak_mib": after.peak_all / MIB,
    } | cpu_figures(before.cpu_s, after.cpu_s, load.events)


def storm(load: Load, folder: Path) -> Figures:
    """A whole fleet connects, drops and returns; then the engine is stopped and started again."""
    with Engine.start(folder, file_config(), rule_sets.ten()) as engine:
        engine.wait_for("/healthz")
        seconds = read_through(engine, load)
        used = engine.usage()
        stopping = time.monotonic()
    stopped_s = time.monotonic() - stopping
    restarting = time.monotonic()
    with Engine.start(folder, file_config(), rule_sets.ten()) as engine:
        ready_s = engine.wait_for("/readyz", within_s=WITHIN_S) - restarting
        again = engine.usage()
    return {
        "events/s": load.events / seconds,
        "peak_mib": used.peak_engine / MIB,
        "peak_all_mib": used.peak_all / MIB,
        "stop_s": stopped_s,
        "restart_s": ready_s,
        "restart_peak_mib": again.peak_all / MIB,
    }


def killed_storm(load: Load, folder: Path) -> Figures:
    """The same fleet, but the engine is killed at the end of the file: recovery reads what no checkpoint holds yet."""
    with Engine.start(folder, file_config(), rule_sets.ten()) as engine:
        engine.wait_for("/healthz")
        read_through(engine, load)
        engine.kill()
    restarting = time.monotonic()
    with Engine.start(folder, file_config(), rule_sets.ten()) as engine:
        return {"restart_s": engine.wait_for("/readyz", within_s=WITHIN_S) - restarting}


def replay(load: Load, folder: Path, rollcall: Path | None = None) -> Figures:
    """`rollcall replay` of the file with ten rules, every line of its result written to a file."""
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "rules.yaml").write_text(json.dumps({"version": 1, "rules": rule_sets.ten()}))
    (folder / "config.yaml").write_text(json.dumps({"version": 1, "rules": "rules/"} | file_config()))
    out = folder / "lines.jsonl"
    call = [*command(rollcall), "replay", str(load.path), "-c", "config.yaml", "--format", "jsonl", "-o", str(out)]
    started = time.monotonic()
    with (folder / "replay.log").open("wb") as log:
        process = subprocess.Popen(call, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until("the end of the replay", lambda: process.poll() is not None, within_s=WITHIN_S, alive=lambda: None)
        seconds = time.monotonic() - started
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise BenchmarkError(f"replay ended with {process.returncode}: {(folder / 'replay.log').read_text()[-500:]}")
    return {"events/s": load.events / seconds, "lines": float(out.read_bytes().count(b"\n"))}


def many_rules(load: Load, folder: Path) -> Figures:
    """A thousand rules against ten, one after the other, on the same file with the same firings."""
    few, many = folder / "ten", folder / "thousand"
    ten = from_file(load, few, rule_sets.ten())
    shutil.rmtree(few)
    thousand = from_file(load, many, rule_sets.thousand())
    return {
        "ten events/s": ten["events/s"],
        "events/s": thousand["events/s"],
        "slower %": (ten["events/s"] / thousand["events/s"] - 1) * 100,
        "firings ten": ten["firings"],
        "firings": thousand["firings"],
    }


def latency(folder: Path) -> Figures:
    """One client after another comes back over HTTP: milliseconds from sending the event to the webhook's arrival."""
    return asyncio.run(_latency(folder))


def _event(index: int, type_: str, channel: str, at_ms: int) -> dict[str, Any]:
    client = f"GID_SITE{index % GROUPS:02d}@@@pump-{index:07d}"
    return {"clientId": client, "time": at_ms, "eventType": type_, "channelId": channel, "clientIp": "10.0.0.1:5000"}


async def _latency(folder: Path) -> Figures:
    target = Collector()
    config = {
        "sources": [{"name": "push", "type": "http"}],
        "debounce": {"offline": "0s", "online": "0s"},
        "deliveries": {"burst": PLENTY},
    }
    rules = rule_sets.back_online_to(await target.listen())
    with Engine.start(folder, config, rules) as engine:
        await asyncio.to_thread(engine.wait_for, "/readyz")
        taken = await _post_and_wait(engine, target)
    target.close()
    cuts = statistics.quantiles(taken, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "slowest_ms": max(taken)}


async def _post_and_wait(engine: Engine, target: Collector) -> list[float]:
    """Make every client known and offline, then bring them back one by one; milliseconds each."""
    url, now = f"http://127.0.0.1:{engine.port}/v1/events", time.time_ns() // 1_000_000
    gone = [
        _event(i, type_, f"a{i}", now - 2_000 + late)
        for i in range(POSTS)
        for type_, late in (("connect", 0), ("tcpclean", 9))
    ]
    taken = []
    async with aiohttp.ClientSession() as session:
        await _post(session, url, gone)
        await asyncio.to_thread(engine.wait_until, "everyone offline", lambda: _offline(engine) >= POSTS, within_s=60)
        for index in range(POSTS):
            event = _event(index, "connect", f"b{index}", time.time_ns() // 1_000_000)
            started = time.monotonic()
            await _post(session, url, [event])
            await target.next_arrival(index, within_s=30)
            taken.append((list(target.arrived.values())[-1] - started) * 1e3)
    return taken


def _offline(engine: Engine) -> int:
    status, body = engine.get(f"/v1/clients?status=offline&limit={POSTS}")
    return len(json.loads(body)["items"]) if status == 200 else 0


async def _post(session: aiohttp.ClientSession, url: str, events: list[dict[str, Any]]) -> None:
    body = "\n".join(map(json.dumps, events))
    async with session.post(url, data=body, headers={"Content-Type": "application/x-ndjson"}) as answer:
        if answer.status != 202:
            raise BenchmarkError(f"POST /v1/events answered {answer.status}: {(await answer.text())[:300]}")


def outbox(posts: int, folder: Path) -> Figures:
    """`posts` due webhooks in an outbox, sent to a loopback target, beside as many bare posts of aiohttp."""
    try:
        webhooks = importlib.import_module("tests.benchmarks.webhooks")
    except ImportError as missing:
        raise BenchmarkError(f"due webhooks are not measured: {missing}") from missing
    figures: Figures = webhooks.measure(posts, folder)
    return figures
