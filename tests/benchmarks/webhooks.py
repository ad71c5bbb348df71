"""10,000 due webhooks: ours, from rows in a SQLite outbox to rows recorded as delivered, beside bare aiohttp posts.

    python -m tests.benchmarks.webhooks [--posts N] [--rounds N] [--in-process]

The two alternate, on one machine, against one loopback target in a process of its own; only the ratio means something.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from engine.actions.base import ActionSender, BatchSender
from engine.actions.webhook.request import WebhookSender
from engine.actions.webhook.sender import SenderProcess
from engine.clock import SystemClock
from engine.core.delivery import DEFAULT_POLICY, OutboxItem, Outcome, Policy
from engine.delivery.dispatcher import Dispatcher
from engine.stores.base import DeliveryRow, NewDelivery, Share, Waiting
from engine.stores.sqlite import delivery_rows
from tests.benchmarks.machine import post_bare
from tests.benchmarks.sink import SinkProcess

T = TypeVar("T")


class FileOutbox:
    """The SQLite outbox behind one writing and one reading thread, each write a durable commit of its own."""

    def __init__(self, path: Path, policy: Policy = DEFAULT_POLICY) -> None:
        self._policy = policy
        self._writer, self._reader = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.write = self._connect(path)
        self._read = self._connect(path)
        self._random = random.Random(1)

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=20000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def create(self) -> None:
        """Make the table."""
        delivery_rows.create(self.write)

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction on the writing thread."""

        def within() -> T:
            self.write.execute("BEGIN IMMEDIATE")
            try:
                result = work(self.write)
            except BaseException:
                self.write.execute("ROLLBACK")
                raise
            self.write.execute("COMMIT")
            return result

        return await asyncio.get_running_loop().run_in_executor(self._writer, within)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` on the reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work, self._read)

    async def waiting(self, now_ms: int) -> Waiting:
        return await self.read(lambda conn: delivery_rows.waiting(conn, now_ms))

    async def due(self, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
        return await self.read(lambda conn: delivery_rows.due(conn, now_ms, shares))

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        now_ms = SystemClock().now_ms()
        await self.change(lambda conn: delivery_rows.record(conn, outcomes, now_ms, self._random.random, self._policy))

    async def dead(self, ids: Sequence[int]) -> list[DeliveryRow]:
        rows = await self.read(lambda conn: [delivery_rows.get(conn, id_) for id_ in ids])
        return [row for row in rows if row is not None and row.state == "dead"]

    def close(self) -> None:
        """Close both connections."""
        self._writer.shutdown()
        self._reader.shutdown()
        self.write.close()
        self._read.close()


def deliveries(url: str, count: int, now_ms: int) -> list[NewDelivery]:
    """`count` firings of as many clients, due."""
    return [
        NewDelivery(
            key=f"{number:024x}",
            rule="pump-offline",
            client=(client := f"GID_SITE00@@@pump-{number:07}"),
            group_key=None,
            clients=None,
            alert=f"{number:016x}",
            action="webhook",
            target=url,
            lane=f"pump-offline\0{client}\0{url}",
            phase="firing",
            state="due",
            decided_at_ms=now_ms,
            request={
                "method": "POST",
                "url": f"{url}/ok",
                "headers": {},
                "json": {"text": f"pump-{number:07} is back", "client": client, "status": "online"},
                "timeout_ms": 10_000,
                "ok": [],
                "sign": None,
            },
        )
        for number in range(count)
    ]


async def post_ours(url: str, posts: int, folder: Path, *, in_process: bool = False) -> float:
    """Deliveries a second, from due rows in a file to all recorded as delivered."""
    outbox = FileOutbox(folder / f"outbox-{time.monotonic_ns()}.sqlite")
    outbox.create()
    rows = deliveries(url, posts, SystemClock().now_ms())
    await outbox.change(lambda conn: delivery_rows.insert(conn, rows))
    sender: WebhookSender | SenderProcess = WebhookSender({}) if in_process else SenderProcess({})
    if isinstance(sender, SenderProcess):
        await sender.start()
        await sender.ready()
    senders: dict[str, ActionSender | BatchSender] = {"webhook": sender}
    dispatcher = Dispatcher(outbox, senders, SystemClock())
    started = time.perf_counter()
    running = asyncio.create_task(dispatcher.run())
    while dispatcher.stats.delivered < posts:
        await asyncio.sleep(0.005)
    took = time.perf_counter() - started
    await dispatcher.stop()
    await running
    await sender.close()
    outbox.close()
    return posts / took


def measure(posts: int, folder: Path) -> dict[str, float]:
    """Deliveries a second, ours and bare, one directly after the other against the same target."""
    with SinkProcess() as sink:
        bare = asyncio.run(post_bare(f"{sink.url}/ok", posts))
        ours = asyncio.run(post_ours(sink.url, posts, folder))
    return {"webhooks/s": ours, "bare posts/s": bare}


def run(posts: int, rounds: int, in_process: bool) -> float:
    """Print every round and return the median ratio."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder, SinkProcess() as sink:
        for _ in range(rounds):
            bare = asyncio.run(post_bare(f"{sink.url}/ok", posts))
            ours = asyncio.run(post_ours(sink.url, posts, Path(folder), in_process=in_process))
            ratios.append(ours / bare)
            print(f"bare aiohttp {bare:8.0f}/s   ours {ours:8.0f}/s   ratio {ours / bare:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")
    return statistics.median(ratios)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-process", action="store_true")
    given = parser.parse_args()
    run(given.posts, given.rounds, given.in_process)
