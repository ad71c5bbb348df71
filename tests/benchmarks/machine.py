"""The machine: what it is, and what it can do at best. Every other figure is read beside these limits."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec

from tests.benchmarks.load import Load

CHUNK_BYTES = 160_000
"""Read at once: about a thousand events, the size of the engine's own batches."""

JOURNAL_BATCH = 1_000
IN_FLIGHT = 50
"""Posts at the same time: what the published aiohttp figure was measured with."""


class _Event(msgspec.Struct, gc=False):
    clientId: str
    time: int | float | str
    eventType: str
    channelId: str
    clientIp: str | None = None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _file_system(folder: Path) -> str:
    """Type of the file system that holds `folder`: a figure from tmpfs says nothing about durability."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, type_, *_rest = line.split()
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, type_
    return kind


def sync_latency_ms(folder: Path, writes: int = 200) -> tuple[float, float]:
    """Median and 99th percentile of appending 4 KiB and forcing it to the disk, in milliseconds."""
    path, taken = folder / "sync.probe", []
    with path.open("wb", buffering=0) as file:
        for _ in range(writes):
            file.write(b"x" * 4_096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - started) * 1e3)
    path.unlink()
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49], cuts[98]


def describe(folder: Path) -> list[tuple[str, str]]:
    """The hardware and software, as (name, text); `folder` is where the stores of the benchmarks lie."""
    median, worst = sync_latency_ms(folder)
    return [
        ("processor", f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores usable"),
        ("memory", f"{_memory_gib():.1f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.2f} at the start"),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("sqlite", sqlite3.sqlite_version),
        ("disk", f"{_file_system(folder)}; fdatasync of 4 KiB: median {median:.2f} ms, p99 {worst:.2f} ms"),
    ]


def _chunks(path: Path) -> Iterator[list[bytes]]:
    with path.open("rb") as file:
        while lines := file.readlines(CHUNK_BYTES):
            yield lines


def decode_only(load: Load) -> float:
    """Events a second when they are read and decoded into typed values, and dropped."""
    decoder, events = msgspec.json.Decoder(_Event), 0
    started = time.perf_counter()
    for lines in _chunks(load.path):
        events += len(decoder.decode_lines(b"".join(lines)))
    return events / (time.perf_counter() - started)


def decode_and_remember(load: Load) -> float:
    """Events a second when the last status of each client is kept in a dict as well: no order, no hold, no disk."""
    decoder, events = msgspec.json.Decoder(_Event), 0
    last: dict[str, bool] = {}
    started = time.perf_counter()
    for lines in _chunks(load.path):
        decoded = decoder.decode_lines(b"".join(lines))
        for event in decoded:
            last[event.clientId] = event.eventType == "connect"
        events += len(decoded)
    return events / (time.perf_counter() - started)


def journal_only(load: Load, folder: Path) -> float:
    """Events a second when each line becomes one row of SQLite, durable after every thousand, and nothing else is done."""
    path = folder / "journal.probe.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=20000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE journal (id INTEGER PRIMARY KEY, received_at INTEGER, event BLOB) STRICT")
        return _journal(connection, load)
    finally:
        connection.close()
        for left in folder.glob("journal.probe.sqlite*"):
            left.unlink()


def _journal(connection: sqlite3.Connection, load: Load) -> float:
    events, pending = 0, []
    started = time.perf_counter()
    for lines in _chunks(load.path):
        pending.extend(lines)
        while len(pending) >= JOURNAL_BATCH:
            batch, pending = pending[:JOURNAL_BATCH], pending[JOURNAL_BATCH:]
            events += _commit(connection, batch)
    events += _commit(connection, pending)
    return events / (time.perf_counter() - started)


def _commit(connection: sqlite3.Connection, lines: list[bytes]) -> int:
    now = time.time_ns() // 1_000_000
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO journal (received_at, event) VALUES (?, ?)", ((now, line) for line in lines))
    connection.execute("COMMIT")
    return len(lines)


async def post_bare(url: str, posts: int) -> float:
    """Posts a second of aiohttp with nothing around it: `posts` small JSON bodies, 50 in flight, one session."""
    body = {"text": "pump-0000001 is back", "client": "GID_SITE00@@@pump-0000001", "status": "online"}
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:
        numbers = iter(range(posts))

        async def work() -> None:
            for number in numbers:
                headers = {"Idempotency-Key": f"bare-{number}"}
                async with session.post(url, json=body, headers=headers) as response:
                    await response.read()

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return posts / (time.perf_counter() - started)
