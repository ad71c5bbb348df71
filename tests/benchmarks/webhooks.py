"""10,000 due webhooks: ours, from rows in a SQLite outbox to rows recorded as delivered, beside bare aiohttp posts.

    python -m tests.benchmarks.webhooks [--posts N] [--rounds N] [--in-process]

The two alternate, on one machine, against one loopback target in a process of its own; only the ratio means something.
"""

from __future__ import annotations

import argparse
import asyncio
import random
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
from engine.core.delivery import DEFAULT_POLICY, DeliveryPolicy, OutboxItem
from engine.delivery.dispatcher import Dispatcher
from engine.delivery.outbox import Outbox
from engine.stores.base import DeliveryRow, NewDelivery
from engine.stores.sqlite.store import SqliteStore
from tests.benchmarks.machine import post_bare
from tests.benchmarks.sink import SinkProcess

T = TypeVar("T")


class FileOutbox(Outbox):
    """The outbox of a store in a folder, behind one writing thread, each write a durable commit of its own."""

    def __init__(self, folder: Path, policy: DeliveryPolicy = DEFAULT_POLICY) -> None:
        self.store = SqliteStore.open(folder)
        self._writer = ThreadPoolExecutor(1)
        super().__init__(self.store, self.change, SystemClock(), policy, random.Random(1).random)

    async def change(self, work: Callable[[], T]) -> T:
        """Do `work` in one transaction on the writing thread."""

        def within() -> T:
            with self.store.transaction():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._writer, within)

    async def add(self, rows: Sequence[NewDelivery]) -> list[OutboxItem]:
        """Commit deliveries; what may leave at once."""
        return await self.change(lambda: self.store.deliveries.add(rows))

    def rows(self) -> list[DeliveryRow]:
        """Every delivery, newest first."""
        with self.store.reading() as reader:
            return reader.deliveries(limit=100_000)

    def close(self) -> None:
        """Give the store back."""
        self._writer.shutdown()
        self.store.close()


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
    outbox = FileOutbox(folder / f"outbox-{time.monotonic_ns()}")
    rows = deliveries(url, posts, SystemClock().now_ms())
    await outbox.add(rows)
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
