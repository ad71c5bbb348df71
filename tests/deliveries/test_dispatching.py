"""The dispatcher between a real outbox file and real loopback targets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from engine.actions.base import ActionSender, BatchSender, OutboxItem
from engine.actions.log import LogSender, Written
from engine.actions.webhook.request import WebhookSender
from engine.actions.webhook.sender import SenderProcess
from engine.clock import Clock, SystemClock
from engine.core.delivery import DeliveryPolicy
from engine.delivery.dispatcher import Dispatcher
from engine.delivery.limits import Limits
from engine.delivery.window import FAIR_START
from engine.runtime.heartbeat import Heartbeat
from engine.stores.base import DeliveryRow, NewDelivery
from engine.testing import delivery
from tests.benchmarks.sink import Sink
from tests.benchmarks.webhooks import FileOutbox

QUICK = DeliveryPolicy(first_ms=20, longest_ms=40)
LIMITS = Limits(open_first_ms=30, open_longest_ms=60, drain_s=0.3, policy=QUICK)
WITHIN_S = 20.0
Senders = dict[str, ActionSender | BatchSender]


def new(key: str, url: str, path: str = "ok", **changes: Any) -> NewDelivery:
    """A due firing in a lane of its own, decided now."""
    request = {"url": f"{url}/{path}", "json": {}, "timeout_ms": 5_000}
    return delivery(key, **{"target": url, "decided_at_ms": SystemClock().now_ms(), "request": request} | changes)


class House:
    """An outbox file and the dispatcher that works on it."""

    def __init__(self, folder: Path, senders: Senders, limits: Limits = LIMITS, clock: Clock | None = None) -> None:
        self.outbox = FileOutbox(folder / "data", QUICK)
        self.dispatcher = Dispatcher(self.outbox, senders, clock or SystemClock(), limits)

    async def decide(self, *rows: NewDelivery, offer: bool = True) -> None:
        """Commit deliveries and offer them, as the engine does."""
        items = await self.outbox.add(rows)
        if offer:
            self.dispatcher.offer(items)

    async def rows(self) -> dict[str, DeliveryRow]:
        return {row.key: row for row in await asyncio.to_thread(self.outbox.rows)}

    async def until(self, reached: Callable[[dict[str, DeliveryRow]], bool]) -> dict[str, DeliveryRow]:
        """Read the outbox until it is as wanted. Raises TimeoutError."""
        async with asyncio.timeout(WITHIN_S):
            while not reached(rows := await self.rows()):
                await asyncio.sleep(0.005)  # only how often we look; nothing depends on it
        return rows


@contextlib.asynccontextmanager
async def open_house(
    folder: Path, senders: Senders | None = None, limits: Limits = LIMITS, clock: Clock | None = None
) -> AsyncIterator[House]:
    webhooks = WebhookSender({})
    house = House(folder, senders or {"webhook": webhooks}, limits, clock)
    task = asyncio.create_task(house.dispatcher.run())
    try:
        yield house
    finally:
        await house.dispatcher.stop()
        await task
        await webhooks.close()
        house.outbox.close()


def all_in(*states: str) -> Callable[[dict[str, DeliveryRow]], bool]:
    return lambda rows: all(row.state in states for row in rows.values())


def test_what_is_offered_arrives_once_with_its_key_and_is_recorded(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, open_house(tmp_path) as house:
            await house.decide(*(new(f"k{n}", sink.url) for n in range(50)))
            await house.until(all_in("delivered"))
            assert sorted(sink.keys) == sorted(f"k{n}" for n in range(50))
        assert house.dispatcher.stats.held == 0 and house.dispatcher.stats.in_flight == 0

    asyncio.run(go())


def test_what_was_due_before_the_start_is_sent(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink:
            before = House(tmp_path, {})
            await before.decide(*(new(f"k{n}", sink.url) for n in range(300)), offer=False)
            before.outbox.close()
            async with open_house(tmp_path, limits=Limits(held=40, fetched=20, policy=QUICK)) as house:
                await house.until(all_in("delivered"))
            assert len(sink.keys) == len(set(sink.keys)) == 300

    asyncio.run(go())


def test_more_than_fits_waits_in_the_outbox_and_is_sent_in_the_end(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, open_house(tmp_path, limits=Limits(held=30, fetched=10, policy=QUICK)) as house:
            most = 0
            for batch in range(10):
                await house.decide(*(new(f"{batch}-{n}", sink.url) for n in range(40)))
                most = max(most, house.dispatcher.stats.held)
            await house.until(all_in("delivered"))
            assert len(sink.keys) == len(set(sink.keys)) == 400 and most <= 30

    asyncio.run(go())


def test_a_lane_arrives_in_order_through_failures(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, open_house(tmp_path) as house:
            sink.plan = {"l03": ["500", "close"], "l07": ["500"]}
            for n in range(10):
                await house.decide(new(f"l{n:02}", sink.url, lane="one", alert="a"))
            await house.until(all_in("delivered"))
            assert list(dict.fromkeys(sink.keys)) == [f"l{n:02}" for n in range(10)]
            assert sink.keys.count("l03") == 3

    asyncio.run(go())


def test_a_target_that_hangs_delays_no_other_and_gets_no_more_than_its_share(tmp_path: Path) -> None:
    async def go() -> None:
        limits = Limits(held=200, fetched=100, per_target=4, drain_s=0.1, policy=QUICK)
        async with Sink() as slow, Sink() as good, open_house(tmp_path, limits=limits) as house:
            await house.decide(*(new(f"s{n}", slow.url, "hang") for n in range(500)))
            await slow.arrivals(4)
            await house.decide(*(new(f"g{n}", good.url) for n in range(100)))
            rows = await house.until(lambda rows: sum(row.state == "delivered" for row in rows.values()) == 100)
            assert all(row.state == "due" for key, row in rows.items() if key.startswith("s"))
            assert slow.count == slow.waiting == 4

    asyncio.run(go())


def test_so_many_targets_that_hang_that_they_fill_the_memory_delay_no_other(tmp_path: Path) -> None:
    async def go() -> None:
        limits = Limits(held=40, fetched=20, per_target=4, drain_s=0.1, policy=QUICK)
        async with Sink() as slow, Sink() as good, open_house(tmp_path, limits=limits) as house:
            await house.decide(*(new(f"s{n}", slow.url, "hang", target=f"slow-{n % 12}") for n in range(12 * 20)))
            await slow.arrivals(32)
            await house.decide(*(new(f"g{n}", good.url) for n in range(100)))
            await house.until(lambda rows: sum(row.state == "delivered" for row in rows.values()) == 100)
            assert house.dispatcher.stats.held <= 40 + FAIR_START * 13

    asyncio.run(go())


def test_the_breaker_spares_a_target_in_trouble_and_everything_arrives_when_it_is_back(tmp_path: Path) -> None:
    async def go() -> None:
        limits = Limits(per_target=2, failures_to_open=3, open_first_ms=40, open_longest_ms=80, policy=QUICK)
        async with Sink() as sink, open_house(tmp_path, limits=limits) as house:
            sink.plan = {f"k{n}": ["500"] * 2 for n in range(6)}
            await house.decide(*(new(f"k{n}", sink.url) for n in range(100)))
            await house.until(all_in("delivered"))
            assert house.dispatcher.stats.opened >= 1
            assert set(sink.keys) == {f"k{n}" for n in range(100)}

    asyncio.run(go())


def test_an_open_breaker_lets_single_probes_through_only(tmp_path: Path) -> None:
    async def go() -> None:
        limits = Limits(per_target=1, failures_to_open=2, open_first_ms=20, open_longest_ms=20, policy=QUICK)
        async with Sink() as sink, open_house(tmp_path, limits=limits) as house:
            await house.decide(*(new(f"k{n}", sink.url, "500") for n in range(50)))
            await sink.arrivals(8)
            # Two opened it; every further one was the probe of another opening.
            assert house.dispatcher.stats.opened >= 6

    asyncio.run(go())


def test_a_dead_firing_takes_its_waiting_recovery_along(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, open_house(tmp_path) as house:
            await house.decide(
                new("f", sink.url, "404", lane="one", alert="a"),
                new("r", sink.url, lane="one", alert="a", phase="recovery"),
                new("next", sink.url, lane="one", alert="b"),
            )
            rows = await house.until(all_in("delivered", "dead"))
            assert (rows["f"].state, rows["r"].state, rows["next"].state) == ("dead", "dead", "delivered")
            assert sink.keys == ["f", "next"]

    asyncio.run(go())


def test_a_crash_in_the_middle_sends_again_and_under_the_same_key(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink:
            webhooks = WebhookSender({})
            house = House(tmp_path, {"webhook": webhooks})
            task = asyncio.create_task(house.dispatcher.run())
            await house.decide(new("stuck", sink.url, "hang"), *(new(f"k{n}", sink.url) for n in range(200)))
            await sink.arrivals(50)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await webhooks.close()
            house.outbox.close()
            sink.plan = {"stuck": ["ok"]}
            async with open_house(tmp_path) as again:
                await again.until(all_in("delivered"))
            assert set(sink.keys) == {"stuck", *(f"k{n}" for n in range(200))}

    asyncio.run(go())


def test_stopping_waits_for_what_is_under_way_and_records_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, open_house(tmp_path, limits=Limits(drain_s=10)) as house:
            await house.decide(new("k", sink.url, "hang"))
            await sink.arrivals(1)
            stopping = asyncio.create_task(house.dispatcher.stop())
            await asyncio.sleep(0)
            sink.let_go()
            await stopping
            assert (await house.rows())["k"].state == "delivered"

    asyncio.run(go())


def test_an_operators_retry_and_release_are_noticed(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, open_house(tmp_path) as house:
            sink.plan = {"dead": ["404"]}
            await house.decide(new("dead", sink.url), new("held", sink.url, state="held"))
            rows = await house.until(lambda rows: rows["dead"].state == "dead")
            assert rows["held"].state == "held"
            now_ms, act = SystemClock().now_ms(), house.outbox.store.deliveries.act
            await house.outbox.change(lambda: act(rows["dead"].id, "retry", now_ms))
            await house.outbox.change(lambda: act(rows["held"].id, "release", now_ms))
            house.dispatcher.wake()
            await house.until(all_in("delivered"))

    asyncio.run(go())


def test_what_is_too_old_is_not_sent(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, open_house(tmp_path) as house:
            await house.decide(new("old", sink.url, decided_at_ms=1), new("young", sink.url))
            rows = await house.until(all_in("delivered", "dead"))
            assert rows["old"].state == "dead" and sink.keys == ["young"]

    asyncio.run(go())


def test_thousands_of_log_lines_are_written_in_order(tmp_path: Path) -> None:
    async def go() -> None:
        written: list[str] = []

        def write(items: Sequence[OutboxItem], done: Written) -> None:
            written.extend(item.request["message"] for item in items)
            done(None)

        senders: Senders = {"log": LogSender(write)}
        async with open_house(tmp_path, senders) as house:
            rows = [new(f"{n}", "log", action="log", request={"message": f"{n}"}) for n in range(4_000)]
            for at in range(0, 4_000, 1_000):
                await house.decide(*rows[at : at + 1_000])
            await house.until(all_in("delivered"))
        assert written == [f"{n}" for n in range(4_000)]

    asyncio.run(go())


def test_an_action_that_nobody_carries_out_is_dead_with_the_reason(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_house(tmp_path) as house:
            await house.decide(new("k", "smtp", action="email"))
            rows = await house.until(all_in("dead"))
            assert "email" in (rows["k"].last_error or "")

    asyncio.run(go())


@contextlib.asynccontextmanager
async def process(secrets: dict[str, str] | None = None, deny: Sequence[str] = ()) -> AsyncIterator[SenderProcess]:
    sender = SenderProcess(secrets or {}, deny)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.close()


def test_another_process_sends_with_secrets_that_stand_in_no_command_line(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, process({"pager": "s3cret-word"}) as sender:
            async with open_house(tmp_path, {"webhook": sender}) as house:
                request = {"url": f"{sink.url}/ok", "headers": {"Authorization": "\0pager\0"}, "json": {}}
                await house.decide(*(new(f"k{n}", sink.url, request=request) for n in range(200)))
                await house.until(all_in("delivered"))
            assert len(set(sink.keys)) == 200 and b"Authorization: s3cret-word" in sink.requests[0].head
            for about in ("cmdline", "environ"):
                assert b"s3cret-word" not in Path(f"/proc/{sender.pid}/{about}").read_bytes()

    asyncio.run(go())


def test_a_sending_process_that_dies_is_started_again_and_its_work_is_done(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, process() as sender, open_house(tmp_path, {"webhook": sender}) as house:
            await house.decide(new("stuck", sink.url, "hang"))
            await sink.arrivals(1)
            sink.plan = {"stuck": ["ok"]}
            assert sender.pid is not None
            os.kill(sender.pid, signal.SIGKILL)
            rows = await house.until(all_in("delivered"))
            assert rows["stuck"].attempts == 2 and sender.restarts == 1

    asyncio.run(go())


def test_the_sending_process_hands_back_what_it_had_in_stock_when_a_target_fails(tmp_path: Path) -> None:
    async def go() -> None:
        async with Sink() as sink, process() as sender, open_house(tmp_path, {"webhook": sender}) as house:
            sink.plan = {f"k{n}": ["500"] for n in range(16)}
            await house.decide(*(new(f"k{n}", sink.url) for n in range(120)))
            rows = await house.until(all_in("delivered"))
            assert all(row.attempts == 1 for key, row in rows.items() if int(key[1:]) >= 16)
        assert house.dispatcher.stats.held == house.dispatcher.stats.in_flight == 0

    asyncio.run(go())


def test_the_sending_process_ends_with_its_input() -> None:
    async def go() -> int:
        sender = SenderProcess({})
        await sender.start()
        pid = sender.pid
        assert pid is not None
        await sender.close()
        return pid

    assert not Path(f"/proc/{asyncio.run(go())}").exists()


def test_the_heart_beats_while_verdicts_flow_and_survives_whatever_is_over_there() -> None:
    async def go() -> None:
        pinged: list[str] = []

        async def post(url: str) -> None:
            pinged.append(url)
            if len(pinged) == 2:
                raise OSError("gone")

        flowing = True
        heart = Heartbeat("http://x.test/", 60_000, post, lambda: flowing)
        assert [await heart.run_once() for _ in range(3)] == [True, False, True]
        flowing = False
        assert not await heart.run_once()
        assert len(pinged) == 3 and (heart.sent, heart.failed) == (2, 1)

    asyncio.run(go())
