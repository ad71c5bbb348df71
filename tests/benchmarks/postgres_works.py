"""Cells on PostgreSQL against the embedded store: one and two owners' loops, and a cold load of a large fleet.

All loops work through the same day, one after the other on the same disk, each alone on the machine; of two cells each has the clients
of every other site. The server is started here, with `fsync` and `synchronous_commit` on, and ended afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.core.presence.client_state import ClientState, state_of_row
from engine.stores.postgres.database import Database
from engine.stores.postgres.store import PostgresStore
from tests.benchmarks.engine_process import BenchmarkError
from tests.benchmarks.load import GROUPS, Load
from tests.postgres.server import PostgresServer, binaries

Figures = dict[str, float]

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "autovacuum_naptime": "30s",
}
"""What an installation would set for a machine of a few gigabytes."""

ROWS_AT_ONCE = 5_000
"""Client rows that one transaction writes before the cold load."""


def measure(day: Load, fleet: int, folder: Path) -> Figures:
    """Events a second of each loop, and seconds to load as many clients as `fleet`."""
    folder.chmod(0o711)  # the server works as another user
    halves = _halves(day, folder)
    with _server(folder) as server:
        embedded = _loops([{"store": "sqlite", "folder": str(folder / "embedded"), "events": str(day.path)}])
        one = _loops([_cell(server, server.database(), folder, "main", day.path)])
        database = server.database()
        two = _loops([_cell(server, database, folder, name, path) for name, path in halves.items()])
        load_s = _cold_load_s(server, fleet)
    return {
        "sqlite events/s": day.events / embedded,
        "one cell events/s": day.events / one,
        "two cells events/s": day.events / two,
        "load_s": load_s,
    }


def _halves(day: Load, folder: Path) -> dict[str, Path]:
    """The events of a cell each: those of every other site."""
    paths = {"even": folder / "even.jsonl", "odd": folder / "odd.jsonl"}
    marks = [(b"GID_SITE%02d" % number, number % 2) for number in range(GROUPS)]
    odd = {mark for mark, rest in marks if rest}
    with day.path.open("rb") as lines, paths["even"].open("wb") as even, paths["odd"].open("wb") as other:
        for line in lines:
            place = line.index(b"GID_SITE")
            (other if line[place : place + 10] in odd else even).write(line)
    return paths


@contextmanager
def _server(folder: Path) -> Iterator[PostgresServer]:
    if binaries() is None:
        raise BenchmarkError("PostgreSQL is not installed")
    for parent in (folder, *folder.parents):
        if os.getuid() == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    server = PostgresServer.create(on=folder, **SETTINGS)
    try:
        yield server
    finally:
        server.close()


def _cell(server: PostgresServer, database: str, folder: Path, name: str, events: Path) -> dict[str, Any]:
    dsn = server.dsn(database)
    return {"store": "postgres", "folder": str(folder / name), "dsn": dsn, "cell": name, "events": str(events)}


def _loops(wanted: Sequence[dict[str, Any]]) -> float:
    """Seconds from the common start of some loops until the last of them has ended."""
    call = [sys.executable, "-m", "tests.benchmarks.durable_loop"]
    loops = [
        subprocess.Popen([*call, json.dumps(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for one in wanted
    ]
    try:
        for loop in loops:
            _said(loop, "ready")
        started = time.perf_counter()
        for loop in loops:
            assert loop.stdin is not None
            loop.stdin.write("go\n")
            loop.stdin.flush()
        for loop in loops:
            _said(loop, "{")
        return time.perf_counter() - started
    finally:
        for loop in loops:
            loop.kill()
            loop.communicate()


def _said(loop: subprocess.Popen[str], beginning: str) -> None:
    assert loop.stdout is not None
    line = loop.stdout.readline()
    if not line.startswith(beginning):
        raise BenchmarkError(f"a loop ended early, with {loop.wait()}")


def _cold_load_s(server: PostgresServer, fleet: int) -> float:
    """Seconds until the states of a whole fleet are in the memory of a replica that starts."""
    database = Database(dsn=server.dsn(server.database()))
    store = PostgresStore.open(database).own()
    for first in range(0, fleet, ROWS_AT_ONCE):
        with store.transaction():
            store.clients.write(_state(number) for number in range(first, min(first + ROWS_AT_ONCE, fleet)))
    store.close()
    started = time.perf_counter()
    store = PostgresStore.open(database)
    try:
        found = len(store.clients.load())
    finally:
        store.close()
    if found != fleet:
        raise BenchmarkError(f"{found} of {fleet} clients were loaded")
    return time.perf_counter() - started


def _state(number: int) -> tuple[str, ClientState]:
    """A client that is online for a while."""
    channel = (f"channel-{number}", 1_000, None, None)
    row = (channel, 1, 1, 1_001, 1_000, 1_002, None, 0, (1_000,), 0, (), "10.0.0.1:5", number)
    return f"GID_SITE{number % GROUPS:02d}@@@pump-{number:07d}", state_of_row(row)
