"""The lease of a replica that shares its store: nothing leaves once it is over, neither from the engine nor from the process that sends."""

from __future__ import annotations

import asyncio
import os
import queue
import ssl
from collections.abc import Sequence
from pathlib import Path

from engine.actions.base import Delivered, OutboxItem, Outcome, Untried
from engine.actions.webhook.connection_setup import ConnectionSetup
from engine.actions.webhook.request import WebhookSender
from engine.actions.webhook.sender import SenderProcess
from engine.clock import SystemClock, running_ms
from engine.delivery.dispatcher import Dispatcher
from engine.log_output import LogOutput
from engine.telemetry import NOT_WANTED
from tests.benchmarks.sink import Sink
from tests.benchmarks.webhooks import FileOutbox
from tests.deliveries.test_dispatching import LIMITS, QUICK, WITHIN_S, all_in, new
from tests.mail.post_office import certificate_for

HOUR_S = 3_600.0


def item(number: int, url: str) -> OutboxItem:
    request = {"url": f"{url}/ok", "json": {}, "timeout_ms": 5_000}
    return OutboxItem(
        id=number, key=f"k{number}", rule="r", action="webhook", target=url, lane=str(number), phase="firing",
        decided_at_ms=SystemClock().now_ms(), request=request, attempts=0, alert="a",
    )  # fmt: skip


def test_the_process_that_sends_hands_back_what_it_has_when_the_lease_is_over() -> None:
    async def go() -> None:
        until_s = running_ms() / 1000 + HOUR_S
        outcomes: list[Outcome] = []
        arrived = asyncio.Event()

        def done(some: Sequence[Outcome]) -> None:
            outcomes.extend(some)
            arrived.set()

        async def sent(process: SenderProcess, items: Sequence[OutboxItem]) -> list[Outcome]:
            outcomes.clear()
            process.submit(items, done)
            async with asyncio.timeout(WITHIN_S):
                while len(outcomes) < len(items):
                    arrived.clear()
                    await arrived.wait()
            return list(outcomes)

        async with Sink() as sink:
            process = SenderProcess({}, send_until_s=lambda: until_s)
            await process.start()
            held = await sent(process, [item(number, sink.url) for number in range(3)])
            assert all(isinstance(one.answer, Delivered) for one in held)
            until_s = running_ms() / 1000 - 1
            process.tell_lease()
            back = await sent(process, [item(number, sink.url) for number in range(3, 40)])
            assert {type(one.answer) for one in back} == {Untried} and len(sink.keys) == 3
            until_s = running_ms() / 1000 + HOUR_S
            again = await sent(process, [item(number, sink.url) for number in range(3, 40)])
            assert {type(one.answer) for one in again} == {Delivered} and len(set(sink.keys)) == 40
            await process.close()

    asyncio.run(go())


def test_a_webhook_whose_lease_ends_while_it_gets_its_connection_is_not_sent(tmp_path: Path) -> None:
    """The connection is there, and stays for what may leave later."""
    both, certificate = certificate_for(tmp_path)
    requests: list[bytes] = []

    async def go() -> None:
        may_send, handshakes = True, 0

        def shaking_hands(*_: object) -> None:
            nonlocal may_send, handshakes
            may_send, handshakes = False, handshakes + 1

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := await reader.readuntil(b"\r\n\r\n"):
                requests.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(both)
        context.sni_callback = shaking_hands
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sender = WebhookSender({}, connections={"": ConnectionSetup(ca=str(certificate))}, may_send=lambda: may_send)
        assert await sender.send(item(1, url)) == Untried() and handshakes == 1
        assert await sender.send(item(1, url)) == Untried() and requests == []
        may_send = True
        assert await sender.send(item(1, url)) == Delivered()
        assert (len(requests), handshakes) == (1, 1)
        await sender.close()
        server.close()

    asyncio.run(go())


def test_the_dispatcher_keeps_what_is_due_until_something_may_leave_again(tmp_path: Path) -> None:
    async def go() -> None:
        may_send = False
        asked = asyncio.Event()

        def may() -> bool:
            asked.set()
            return may_send

        outbox, webhooks = FileOutbox(tmp_path / "data", QUICK), WebhookSender({})
        dispatcher = Dispatcher(outbox, {"webhook": webhooks}, SystemClock(), LIMITS, may_send=may)
        task = asyncio.create_task(dispatcher.run())
        async with Sink() as sink:
            dispatcher.offer(await outbox.add([new(f"k{number}", sink.url) for number in range(20)]))
            async with asyncio.timeout(WITHIN_S):
                for _ in range(3):  # it asks again and again
                    asked.clear()
                    await asked.wait()
                assert sink.keys == [] and dispatcher.stats.sent == 0
                may_send = True
                while not all_in("delivered")({row.key: row for row in await asyncio.to_thread(outbox.rows)}):
                    await asyncio.sleep(0.005)  # only how often we look
            assert len(sink.keys) == 20
        await dispatcher.stop()
        await task
        await webhooks.close()
        outbox.close()

    asyncio.run(go())


def test_a_line_that_waited_for_the_log_is_not_written_when_the_lease_is_over() -> None:
    reader, writer = os.pipe()
    told: queue.Queue[str | None] = queue.Queue()
    may_send = True
    with open(writer, "w") as stream, open(reader, "rb", buffering=0) as read:
        log = LogOutput(stream)
        log.write("x" * 500_000)  # more than a pipe holds: the thread that writes is stuck
        log.write("late", told.put, lambda: may_send)
        may_send = False
        seen = b""
        while len(seen) <= 500_000:
            seen += read.read(65_536)
        assert told.get(timeout=WITHIN_S) == NOT_WANTED
        may_send = True
        log.write("later", told.put, lambda: may_send)
        assert told.get(timeout=WITHIN_S) is None
        assert read.read(100) == b"later\n" and log.lost == 0 and log.trouble() is None
