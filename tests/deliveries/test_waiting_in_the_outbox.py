"""What lies in the outbox while the dispatcher looks elsewhere: nothing of it is forgotten, nothing overtaken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from engine import testing
from engine.actions.base import Attempted, Delivered, OutboxItem, RetryLater
from engine.actions.webhook.request import WebhookSender
from engine.clock import SystemClock
from engine.core.delivery import DeliveryPolicy
from engine.delivery.dispatcher import Dispatcher
from engine.stores.base import NewDelivery
from tests.benchmarks.webhooks import FileOutbox

TARGET = "http://127.0.0.1:9"
QUICK = DeliveryPolicy(first_ms=20, longest_ms=40)
WITHIN_S = 10.0


class Scripted:
    """A sender that answers as it is told, and remembers in which order it was asked."""

    def __init__(self, answer: Callable[[OutboxItem, int], Awaitable[Attempted]]) -> None:
        self.keys: list[str] = []
        self.asked = asyncio.Event()
        self._answer = answer

    async def send(self, item: OutboxItem) -> Attempted:
        self.keys.append(item.key)
        self.asked.set()
        return await self._answer(item, self.keys.count(item.key))

    async def was_asked(self, times: int) -> None:
        """Returns once that many sends have begun."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.keys) < times:
                self.asked.clear()
                await self.asked.wait()

    async def close(self) -> None:
        """Nothing is held."""


def delivery(key: str, **changes: Any) -> NewDelivery:
    """A due firing in a lane of its own, decided now."""
    request = {"url": f"{TARGET}/", "json": {"key": key}}
    return testing.delivery(
        key, **{"target": TARGET, "decided_at_ms": SystemClock().now_ms(), "request": request} | changes
    )


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[FileOutbox]:
    outbox = FileOutbox(path, QUICK)
    try:
        yield outbox
    finally:
        outbox.close()


@contextlib.asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        await dispatcher.stop()
        await task


def test_a_retry_that_is_due_later_than_another_of_its_target_is_sent_too(tmp_path: Path) -> None:
    async def timeline() -> list[str]:
        async def answer(item: OutboxItem, time: int) -> Attempted:
            if time == 1:
                return RetryLater(reason="busy", retry_after_ms=400 if item.key == "late" else None)
            return Delivered()

        sender = Scripted(answer)
        async with opened(tmp_path / "data") as outbox:
            dispatcher = Dispatcher(outbox, {"webhook": sender}, SystemClock())
            async with running(dispatcher):
                dispatcher.offer(await outbox.add([delivery("soon"), delivery("late")]))
                await sender.was_asked(4)
        return sender.keys

    assert asyncio.run(timeline()) == ["soon", "late", "soon", "late"]


def test_after_a_restart_a_new_recovery_does_not_overtake_the_firing_that_waits_in_the_outbox(tmp_path: Path) -> None:
    async def timeline() -> list[str]:
        async def answer(item: OutboxItem, time: int) -> Attempted:
            return Delivered()

        sender = Scripted(answer)
        async with opened(tmp_path / "data") as outbox:
            await outbox.add([delivery("firing", lane="one", alert="a")])
            # Everything above was decided by a process that is gone; this one has not looked at the outbox yet.
            dispatcher = Dispatcher(outbox, {"webhook": sender}, SystemClock())
            dispatcher.offer(await outbox.add([delivery("recovery", lane="one", alert="a", phase="recovery")]))
            async with running(dispatcher):
                await sender.was_asked(2)
        return sender.keys

    assert asyncio.run(timeline()) == ["firing", "recovery"]


def test_a_rule_whose_secret_is_missing_does_not_hold_up_others_with_the_same_target(tmp_path: Path) -> None:
    async def timeline() -> int:
        arrived = asyncio.Event()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                arrived.set()
                writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        broken = {"url": f"{target}/", "headers": {"Authorization": "\0nobody\0"}, "json": {}}
        webhooks = WebhookSender({})
        async with opened(tmp_path / "data") as outbox:
            dispatcher = Dispatcher(outbox, {"webhook": webhooks}, SystemClock())
            async with running(dispatcher):
                rows = [delivery(f"broken-{n}", target=target, request=broken) for n in range(20)]
                dispatcher.offer(await outbox.add(rows))
                healthy = delivery("healthy", target=target, request={"url": f"{target}/", "json": {}})
                dispatcher.offer(await outbox.add([healthy]))
                async with asyncio.timeout(WITHIN_S):
                    await arrived.wait()
        await webhooks.close()
        server.close()
        return dispatcher.stats.opened

    assert asyncio.run(timeline()) == 0


def test_a_connection_that_never_came_about_cannot_have_brought_anything_however_long_the_timeout(
    tmp_path: Path,
) -> None:
    async def answers() -> list[Attempted]:
        with contextlib.ExitStack() as sockets:
            deaf = sockets.enter_context(socket.socket())
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            for _ in range(4):  # fill the queue of those who want to connect
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect(("127.0.0.1", port))
            webhooks = WebhookSender({})
            request = {"url": f"http://127.0.0.1:{port}/", "json": {}, "timeout_ms": 5_500}

            async def later(seconds: float) -> Attempted:
                # Clocks that are rounded to whole seconds show it at some moments of a second only.
                await asyncio.sleep(seconds)
                return await webhooks.post("key", request)

            found = await asyncio.gather(*(later(n / 8) for n in range(8)))
            await webhooks.close()
            return found

    assert [answer.may_have_arrived for answer in asyncio.run(answers()) if isinstance(answer, RetryLater)] == [
        False
    ] * 8
