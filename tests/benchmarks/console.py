"""The console and the HTTP API beside a large, busy fleet: how long each address takes, and what readers cost the events.

A million clients, a tenth of them with an alert that came and went, a twentieth of these still offline. Then events come in over HTTP
at a fixed pace for a while, twice: nobody reads, and one address after another is asked for, several a second. Read `run`.
"""

from __future__ import annotations

import http.client
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.benchmarks.engine_process import BenchmarkError, Engine
from tests.benchmarks.load import EPOCH_MS, LINE

Figures = dict[str, float]

PACE = 20_000
"""Events a second that are sent while it is measured."""

BODY = 1_000
"""Events of one request."""

MEASURED_S = 60.0
"""How long each of the two measurements takes, and as many rounds through the addresses as the readers need for `ROUNDS`."""

ROUNDS = 12
"""How often each address is asked for at least."""

READ_EVERY_S = 0.1
"""From the start of one request of the readers to that of the next: ten a second, as dozens of open pages cause them."""

STAY_OFFLINE = 20
"""One in so many of the clients that had an alert is offline when it is measured."""

WITHIN_S = 900.0

RULES = [
    {
        "name": "gone",
        "trigger": "offline",
        "severity": "critical",
        "actions": [{"log": {"message": "{{ client.id }} is offline"}}],
    }
]

PAGES = ("/", "/clients", "/clients?q=0123", "/clients?status=offline", "/alerts", "/deliveries", "/silences", "/rules", "/sources", "/sweeps", "/quality", "/about")  # fmt: skip
"""Pages of the console; those that do not exist are left out."""

LISTS = (
    "/v1/clients", "/v1/clients?status=offline", "/v1/clients?status=unknown", "/v1/clients?group=GID_SITE07", "/v1/clients?match=device%3D*99",
    "/v1/alerts", "/v1/alerts?state=firing", "/v1/alerts?state=resolved&rule=gone", "/v1/alerts?state=suppressed", "/v1/alerts?rule=none",
    "/v1/deliveries", "/v1/deliveries?state=delivered", "/v1/deliveries?state=dead", "/v1/deliveries?rule=none", "/v1/silences", "/v1/rules",
    "/v1/sources", "/v1/quality", "/v1/quarantine", "/v1/reconciliations", "/v1/fleet/curve", "/v1/fleet/verdicts", "/readyz", "/metrics",
)  # fmt: skip
"""Lists and numbers of the API."""


def client_of(index: int) -> bytes:
    """A client; its group is one of fifty."""
    return b"GID_SITE%02d@@@pump-%07d" % (index % 50, index)


def write_fleet(path: Path, clients: int, gone: int) -> int:
    """All connect, then the first `gone` of them disconnect; bytes written."""
    with path.open("wb", buffering=1 << 20) as out:
        for index in range(clients):
            out.write(LINE % (client_of(index), EPOCH_MS + index, b"connect", b"%032x" % index, b"10.0.0.1:4711"))
        for index in range(gone):
            at_ms = EPOCH_MS + clients + index
            out.write(LINE % (client_of(index), at_ms, b"tcpclean", b"%032x" % index, b"10.0.0.1:4711"))
    return path.stat().st_size


# Events, in a process of their own


def _events(clients: range, turn: int) -> Iterator[bytes]:
    """Each client is taken over by a new connection: its status does not change."""
    now_ms = time.time_ns() // 1_000_000
    for index in clients:
        new, old = b"%030x%02x" % (index, turn & 255), b"%030x%02x" % (index, (turn - 1) & 255)
        yield LINE % (client_of(index), now_ms, b"connect", new, b"10.0.0.1:4711")
        yield LINE % (client_of(index), now_ms, b"tcpclean", old, b"10.0.0.1:4711")


def _send(port: int, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _keep_sending(port: int, first: int, last: int, told: Connection) -> None:
    """Send `PACE` events a second, as far as they are accepted, until told to stop; then say how many were, in how many seconds."""
    sent, turn, began = 0, 1, time.monotonic()
    at = first
    while not told.poll():
        due_s = began + sent / PACE - time.monotonic()
        if due_s > 0:
            time.sleep(due_s)
        if at + BODY // 2 > last:
            at, turn = first, turn + 1
        status, _ = _send(port, b"".join(_events(range(at, at + BODY // 2), turn)))
        if status == 202:
            sent += BODY
            at += BODY // 2
        else:
            time.sleep(0.05)
    told.send((sent, time.monotonic() - began))


def _while_events_come(engine: Engine, clients: range, work: Callable[[], None]) -> tuple[float, float]:
    """Do something while events come in; (events accepted a second, CPU microseconds of the engine an event)."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    sender = context.Process(target=_keep_sending, args=(engine.port, clients.start, clients.stop, theirs), daemon=True)
    sender.start()
    before = engine.usage().cpu_total_s
    try:
        work()
    finally:
        ours.send("stop")
    count, seconds = ours.recv()
    used_s = engine.usage().cpu_total_s - before
    sender.join(30)
    if not count:
        raise BenchmarkError("no event was accepted")
    return count / seconds, used_s * 1e6 / count


# Readers


def _addresses(engine: Engine) -> list[str]:
    """Every page and list that there is, and one of each kind of thing."""
    offline = client_of(0).decode()
    id_, number = (
        engine.query("SELECT id FROM alerts LIMIT 1")[0][0],
        engine.query("SELECT max(id) FROM deliveries")[0][0],
    )
    client = quote(offline, safe="")
    one = [
        f"/client?id={client}", f"/alert/{id_}", f"/delivery/{number}", "/rule/gone",
        f"/v1/clients/{client}", f"/v1/clients/{client}/status", f"/v1/clients/{client}/timeline", f"/v1/clients/{client}/explanation",
        f"/v1/alerts/{id_}", f"/v1/alerts?client={client}", f"/v1/deliveries/{number}", f"/v1/deliveries?client={client}", f"/v1/deliveries?alert={id_}",
        f"/v1/rules/gone/why-not?client={client}",
    ]  # fmt: skip
    return [address for address in (*PAGES, *LISTS, *one) if engine.get(address)[0] != 404]


def _read(engine: Engine, addresses: list[str], for_s: float, taken: dict[str, list[float]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=60)
    began, turns = time.monotonic(), 0
    while turns < ROUNDS or time.monotonic() < began + for_s:
        turns += 1
        for address in addresses:
            started = time.monotonic()
            connection.request("GET", address)
            answer = connection.getresponse()
            answer.read()
            if answer.status >= 400:
                raise BenchmarkError(f"{address} was answered with {answer.status}")
            took_s = time.monotonic() - started
            taken.setdefault(address, []).append(took_s * 1000)
            time.sleep(max(0.0, READ_EVERY_S - took_s))
    connection.close()


def _kind(address: str) -> str:
    """An address as the figures name it, without what is different in each run."""
    path = re.sub(r"/[0-9a-f]{20,}|/\d+$", "/N", address)
    return re.sub(r"GID_SITE00%40%40%40pump-0000000", "ID", re.sub(r"=[0-9a-f]{20,}", "=N", path))


def run(clients: int, folder: Path) -> Figures:
    """Milliseconds of each address (median, and 99 of a hundred), and what the readers cost the events."""
    gone = clients // 10
    config: dict[str, Any] = {
        "sources": [
            {"name": "log", "type": "file", "path": "events.jsonl", "follow": True},
            {"name": "push", "type": "http"},
        ],
        "debounce": {"offline": "0s", "online": "0s"},
        "deliveries": {"burst": 100_000_000},
        "log": {"level": "warning"},
    }
    size = write_fleet(folder / "events.jsonl", clients, gone)
    with Engine.start(folder, config, RULES) as engine:
        engine.wait_for("/readyz", within_s=WITHIN_S)
        read = lambda: engine.committed_bytes("log") >= size  # noqa: E731
        engine.wait_until("the fleet in the store", read, within_s=WITHIN_S)
        _until(
            engine, "alerts of those that are gone", "SELECT count(*) FROM deliveries WHERE state = 'delivered'", gone
        )
        now_ms = time.time_ns() // 1_000_000
        back = [index for index in range(gone) if index % STAY_OFFLINE]
        for start in range(0, len(back), BODY):
            some = back[start : start + BODY]
            lines = (LINE % (client_of(i), now_ms, b"connect", b"%030xff" % i, b"10.0.0.1:4711") for i in some)
            if _send(engine.port, b"".join(lines))[0] != 202:
                raise BenchmarkError("the clients could not come back")
        _until(
            engine, "the end of their alerts", "SELECT count(*) FROM alerts WHERE resolved_at IS NOT NULL", len(back)
        )

        addresses, others = _addresses(engine), range(gone, clients)
        taken: dict[str, list[float]] = {}
        alone, alone_us = _while_events_come(engine, others, lambda: time.sleep(MEASURED_S))
        beside, beside_us = _while_events_come(engine, others, lambda: _read(engine, addresses, MEASURED_S, taken))
        again, again_us = _while_events_come(engine, others, lambda: time.sleep(MEASURED_S / 2))
    alone, alone_us = (2 * alone + again) / 3, (2 * alone_us + again_us) / 3
    figures = {
        "events/s, nobody reads": alone,
        "events/s, beside readers": beside,
        "events lost %": 100 * (1 - beside / alone),
        "cpu engine alone_us": alone_us,
        "cpu engine beside_us": beside_us,
    }
    for address, times in sorted(taken.items()):
        figures[f"{_kind(address)} median_ms"] = statistics.median(times)
        figures[f"{_kind(address)} p99_ms"] = sorted(times)[(len(times) - 1) * 99 // 100]
    figures["slowest median_ms"] = max(statistics.median(times) for times in taken.values())
    figures["slowest p99_ms"] = max(sorted(times)[(len(times) - 1) * 99 // 100] for times in taken.values())
    return figures


def _until(engine: Engine, what: str, count: str, wanted: int) -> None:
    engine.wait_until(what, lambda: bool(rows := engine.query(count)) and rows[0][0] >= wanted, within_s=WITHIN_S)
