"""The lease of a replica that shares its store: nothing leaves once it is over, neither from the engine nor from the process that sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from engine.actions.base import Delivered, OutboxItem, Outcome, Untried
from engine.actions.webhook.request import WebhookSender
from engine.actions.webhook.sender import SenderProcess
from engine.clock import SystemClock, running_ms
from engine.delivery.dispatcher import Dispatcher
from tests.benchmarks.sink import Sink
from tests.benchmarks.webhooks import FileOutbox
from tests.deliveries.test_dispatching import LIMITS, QUICK, WITHIN_S, all_in, new

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
