"""What the log says about deliveries: each dead one, until there are many; an outbox that fails; a sender that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.actions.base import Answer, OutboxItem, Rejected
from engine.clock import EngineClock, SystemClock
from engine.core.delivery import Delivered, DeliveryPolicy, RetryLater
from engine.delivery.dead_log import DETAILED, MAX_TARGETS, WINDOW_MS, DeadDeliveryLog
from engine.delivery.limits import Limits
from engine.errors import StoreError
from engine.stores.base import NewDelivery
from engine.telemetry import Event
from tests.deliveries.test_dispatching import LIMITS, all_in, new, open_house
from tests.written_log import WrittenLog

TARGET = "http://pager.test:80"


class Answers:
    """A sender that gives every delivery the same answer, or raises."""

    def __init__(self, answer: Answer | Exception) -> None:
        self._answer = answer

    async def send(self, item: OutboxItem) -> Answer:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def close(self) -> None:
        """Nothing is held."""


class Clock(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms


def run(
    folder: Path, answer: Answer | Exception, *rows: NewDelivery, limits: Limits = LIMITS, ends: str = "dead"
) -> None:
    """Send deliveries until they have ended."""

    async def go() -> None:
        async with open_house(folder, {"webhook": Answers(answer)}, limits) as house:
            await house.decide(*rows)
            await house.until(all_in(ends))

    asyncio.run(go())


def test_a_rejected_delivery_is_logged_with_what_it_was_and_why(tmp_path: Path, log: WrittenLog) -> None:
    run(tmp_path, Rejected(reason="HTTP 404"), new("a", TARGET))
    line = log.line(Event.DELIVERY_DEAD)
    assert line["level"] == "error" and line["delivery"] > 0
    facts = {name: line[name] for name in ("rule", "client", "target", "action", "phase", "attempts", "error")}
    assert facts == {
        "rule": "dark", "client": "G@@@a", "target": TARGET, "action": "webhook", "phase": "firing", "attempts": 1,
        "error": "HTTP 404",
    }  # fmt: skip


def test_a_delivery_that_was_retried_until_its_deadline_is_logged_and_a_retry_is_not(
    tmp_path: Path, log: WrittenLog
) -> None:
    # Long enough for the first attempt on a busy machine.
    quick = DeliveryPolicy(max_age_ms=1_500, first_ms=300, longest_ms=300)
    limits = Limits(failures_to_open=100, policy=quick)

    async def go() -> None:
        async with open_house(tmp_path, {"webhook": Answers(RetryLater(reason="HTTP 503"))}, limits) as house:
            house.outbox._policy = quick
            await house.decide(new("a", TARGET))
            rows = await house.until(all_in("dead"))
            assert rows["a"].attempts >= 1

    asyncio.run(go())
    assert "HTTP 503" in log.line(Event.DELIVERY_DEAD)["error"]


def test_a_delivery_that_is_too_old_when_its_turn_comes_is_logged(tmp_path: Path, log: WrittenLog) -> None:
    old_ms = SystemClock().now_ms() - 48 * 3_600_000
    run(tmp_path, Delivered(), new("a", TARGET, decided_at_ms=old_ms))
    assert "too old" in log.line(Event.DELIVERY_DEAD)["error"]


def test_a_delivered_one_is_not_logged(tmp_path: Path, log: WrittenLog) -> None:
    run(tmp_path, Delivered(), new("a", TARGET), ends="delivered")
    assert log.text == ""


def test_a_storm_of_dead_deliveries_is_a_few_lines_and_a_count(tmp_path: Path, log: WrittenLog) -> None:
    run(tmp_path, Rejected(reason="HTTP 410"), *(new(f"k{n}", TARGET) for n in range(300)))
    *detailed, counted = log.lines(Event.DELIVERY_DEAD)
    assert len(detailed) == DETAILED and all("rule" in line for line in detailed)
    assert (counted["target"], counted["more"], counted["error"]) == (TARGET, 300 - DETAILED, "HTTP 410")


def note(dead: DeadDeliveryLog, target: str = TARGET) -> None:
    dead.note(new("a", target), error="HTTP 410", attempts=1)


def test_the_count_is_written_when_its_time_is_over_and_then_lines_come_in_full_again(log: WrittenLog) -> None:
    clock = Clock()
    dead = DeadDeliveryLog(clock)
    for _ in range(DETAILED + 3):
        note(dead)
    clock.at_ms = WINDOW_MS - 1
    dead.flush()
    assert len(log.lines(Event.DELIVERY_DEAD)) == DETAILED
    clock.at_ms = WINDOW_MS
    dead.flush()
    assert log.lines(Event.DELIVERY_DEAD)[-1]["more"] == 3
    note(dead)
    assert log.lines(Event.DELIVERY_DEAD)[-1]["rule"] == "dark"
    dead.flush(all_targets=True)
    assert len(log.lines(Event.DELIVERY_DEAD)) == DETAILED + 2  # nothing more was counted


def test_each_target_is_counted_by_itself_and_no_more_than_so_many(log: WrittenLog) -> None:
    dead = DeadDeliveryLog(Clock())
    for number in range(MAX_TARGETS + 100):
        note(dead, f"http://{number}.test:80")
    assert len(log.lines(Event.DELIVERY_DEAD)) == MAX_TARGETS + 100
    assert len(dead._counts) == MAX_TARGETS


def test_a_sender_that_raises_is_logged_with_its_delivery(tmp_path: Path, log: WrittenLog) -> None:
    async def go() -> None:
        async with open_house(tmp_path, {"webhook": Answers(ZeroDivisionError("oh"))}) as house:
            await house.decide(new("a", TARGET))
            await house.until(lambda rows: rows["a"].attempts >= 1)

    asyncio.run(go())
    line = log.lines(Event.SENDER_FAILED)[0]
    assert (line["action"], line["rule"], line["error"]) == ("webhook", "dark", "ZeroDivisionError('oh')")
    assert line["where"].startswith("test_delivery_log.py:")


def failing(times: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, failing so many times first."""
    left = times

    async def call(*arguments: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise StoreError("the disk is full")
        return await work(*arguments)

    return call


def test_an_outbox_that_fails_is_logged_once_and_again_when_it_works(
    tmp_path: Path, log: WrittenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.delivery.dispatcher.STORE_RETRY_S", 0.001)

    async def go() -> None:
        async with open_house(tmp_path, {"webhook": Answers(Delivered())}) as house:
            house.outbox.record = failing(3, house.outbox.record)  # type: ignore[method-assign]
            await house.decide(new("a", TARGET))
            await house.until(all_in("delivered"))

    asyncio.run(go())
    assert log.line(Event.OUTBOX_UNAVAILABLE)["error"] == "the disk is full"
    assert len(log.lines(Event.OUTBOX_RECOVERED)) == 1


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
def test_the_outbox_fails_for_as_long_as_it_does_whatever_is_done_to_the_clock(
    tmp_path: Path, log: WrittenLog, step_ms: int
) -> None:
    async def go() -> None:
        clock = EngineClock()
        async with open_house(tmp_path, {"webhook": Answers(Delivered())}, clock=clock) as house:
            house.outbox.record = failing(1_000, house.outbox.record)  # type: ignore[method-assign]
            before_ms = clock.now_ms()
            await house.decide(new("a", TARGET))
            async with asyncio.timeout(20):
                while house.dispatcher.health().trouble is None:
                    await asyncio.sleep(0.005)  # only how often we look
            clock.take(step_ms)
            assert before_ms + step_ms <= house.dispatcher.health().since_ms <= clock.now_ms()

    asyncio.run(go())


def test_results_that_cannot_be_stored_before_the_stop_are_logged(tmp_path: Path, log: WrittenLog) -> None:
    async def go() -> None:
        async with open_house(tmp_path, {"webhook": Answers(Delivered())}) as house:
            house.outbox.record = failing(1_000, house.outbox.record)  # type: ignore[method-assign]
            await house.decide(new("a", TARGET))
            async with asyncio.timeout(20):
                while not house.dispatcher.stats.store_errors:
                    await asyncio.sleep(0.005)  # only how often we look

    asyncio.run(go())
    line = log.line(Event.RESULTS_UNRECORDED)
    assert (line["deliveries"], line["error"]) == (1, "the disk is full")
