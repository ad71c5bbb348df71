"""Posted events: answered after the commit, bounded, and honest about what silence means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from engine.errors import ClockSuspect, Overloaded, TooLarge
from engine.sources.base import Batch
from engine.sources.http import Accepted, HttpSource

NOW = 1_767_225_600_000
NDJSON = "application/x-ndjson"


def line(number: int = 0, at_ms: int = NOW) -> bytes:
    """The JSON of one event whose channel is its number."""
    event = {"clientId": "G@@@d", "time": at_ms, "eventType": "connect", "channelId": str(number)}
    return json.dumps(event).encode()


class Engine:
    """A clock to set, a source, and the place where it puts its batches."""

    def __init__(self, **kwargs: Any) -> None:
        self.now_ms = NOW
        self.source = HttpSource(name="push", now_ms=lambda: self.now_ms, **kwargs)
        self.offered: asyncio.Queue[Batch] = asyncio.Queue()
        self.verdict: Exception | None = None
        self.answers = True

    async def offer(self, batch: Batch) -> None:
        self.offered.put_nowait(batch)
        if self.answers:
            acknowledge(batch, self.verdict)

    def caught_up_after(self, passed_ms: int) -> int | None:
        """How far the source is caught up some time later, told as milliseconds after the start."""
        caught_up = self.source.caught_up_to(NOW + passed_ms)
        return None if caught_up is None else caught_up - NOW


def acknowledge(batch: Batch, verdict: Exception | None = None) -> None:
    assert batch.acknowledge is not None
    batch.acknowledge(verdict)


def running(engine: Engine, story: Coroutine[Any, Any, None]) -> None:
    """Let a story happen while the source runs."""

    async def go() -> None:
        serving = asyncio.create_task(engine.source.run(engine.offer, None))
        await asyncio.sleep(0)  # one turn of the loop, so that it has started
        try:
            await asyncio.wait_for(story, 10)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(go())


async def posted(engine: Engine, body: bytes, content_type: str = NDJSON) -> Accepted:
    return await engine.source.accept(body, content_type)


def test_an_event_is_answered_only_after_its_commit() -> None:
    engine = Engine()
    engine.answers = False

    async def story() -> None:
        answer = asyncio.create_task(posted(engine, line()))
        batch = await engine.offered.get()
        assert not answer.done()
        assert batch.position is None
        acknowledge(batch)
        assert await answer == Accepted(1, [])

    running(engine, story())


def test_a_body_of_many_lines_waits_for_every_one_of_its_batches() -> None:
    engine = Engine()
    engine.answers = False

    async def story() -> None:
        answer = asyncio.create_task(posted(engine, b"\n".join(line(n) for n in range(2300))))
        batches = [await engine.offered.get() for _ in range(3)]
        assert [len(batch.events) for batch in batches] == [1000, 1000, 300]
        for batch in batches:
            assert not answer.done()
            acknowledge(batch)
        assert (await answer).accepted == 2300

    running(engine, story())


def test_a_failed_commit_is_the_answer_and_the_same_body_can_be_posted_again() -> None:
    engine = Engine()

    async def story() -> None:
        engine.verdict = OSError("disk full")
        with pytest.raises(OSError, match="disk full"):
            await posted(engine, line())
        engine.verdict = None
        assert (await posted(engine, line())).accepted == 1

    running(engine, story())


def test_malformed_lines_are_rejected_by_number_and_the_others_count() -> None:
    engine = Engine()

    async def story() -> None:
        answer = await posted(engine, line() + b"\n\nnonsense\n" + line(1) + b"\n")
        assert answer.accepted == 2
        assert [rejection.line for rejection in answer.rejected] == [3]
        batch = engine.offered.get_nowait()
        assert len(batch.rejected) == 1

    running(engine, story())


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_one_event_over_several_lines_is_one_event(content_type: str) -> None:
    engine = Engine()

    async def story() -> None:
        pretty = json.dumps(json.loads(line()), indent=2).encode()
        assert await posted(engine, pretty, content_type) == Accepted(1, [])
        (raw,) = engine.offered.get_nowait().raw
        assert b"\n" not in raw

    running(engine, story())


def test_lines_labelled_as_json_are_still_lines() -> None:
    engine = Engine()

    async def story() -> None:
        assert (await posted(engine, line(1) + b"\n" + line(2), "application/json")).accepted == 2

    running(engine, story())


def test_an_empty_body_has_nothing_in_it() -> None:
    engine = Engine()

    async def story() -> None:
        assert await posted(engine, b" \n") == Accepted(0, [])

    running(engine, story())


def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    engine = Engine(max_body_bytes=len(line()))

    async def story() -> None:
        assert (await posted(engine, line())).accepted == 1
        with pytest.raises(TooLarge):
            await posted(engine, line() + b" ")

    running(engine, story())


def test_what_waits_is_bounded_and_room_comes_back_with_the_commit() -> None:
    engine = Engine(max_waiting_events=2)
    engine.answers = False

    async def story() -> None:
        waiting = asyncio.create_task(posted(engine, line(1) + b"\n" + line(2)))
        batch = await engine.offered.get()
        with pytest.raises(Overloaded) as refusal:
            await posted(engine, line(3))
        assert refusal.value.retry_after_s >= 1
        acknowledge(batch)
        await waiting
        engine.answers = True
        assert (await posted(engine, line(3))).accepted == 1
        assert engine.source.health(NOW).lag == 0

    running(engine, story())


def test_nothing_is_taken_before_it_runs_or_after() -> None:
    engine = Engine()
    with pytest.raises(Overloaded):
        asyncio.run(posted(engine, line()))

    async def story() -> None:
        assert engine.source.health(NOW).connected

    running(engine, story())
    assert not engine.source.health(NOW).connected
    assert engine.source.caught_up_to(NOW + 99_999) is None
    with pytest.raises(Overloaded):
        asyncio.run(posted(engine, line()))


def test_who_waits_when_it_stops_is_told_to_come_back() -> None:
    async def go() -> None:
        engine = Engine()
        stuck = asyncio.Event()

        async def never(batch: Batch) -> None:
            stuck.set()
            await asyncio.Event().wait()

        serving = asyncio.create_task(engine.source.run(never, None))
        await asyncio.sleep(0)
        answers = [asyncio.create_task(posted(engine, line(n))) for n in range(3)]
        await stuck.wait()
        serving.cancel()
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Overloaded] * 3

    asyncio.run(asyncio.wait_for(go(), 10))


def test_mostly_future_events_make_our_clock_the_suspect_and_none_is_taken() -> None:
    engine = Engine(grace_ms=0)

    async def story() -> None:
        ahead = [line(n, NOW + 60_001) for n in range(11)]
        with pytest.raises(ClockSuspect):
            await posted(engine, b"\n".join(ahead + [line(n) for n in range(9)]))
        assert engine.offered.empty()
        assert "clock" in engine.source.health(NOW).detail
        assert engine.caught_up_after(59_999) == 0
        assert (await posted(engine, b"\n".join([line()] * 10 + ahead[:10]))).accepted == 10
        assert "clock" not in engine.source.health(NOW).detail

    running(engine, story())


def test_silence_means_nothing_before_the_grace_after_a_start_is_over() -> None:
    engine = Engine(grace_ms=30_000)

    async def story() -> None:
        assert engine.caught_up_after(29_999) is None
        assert engine.caught_up_after(30_000) == 30_000

    running(engine, story())


def test_old_news_stop_the_clock_of_silence_for_as_long_as_a_feed_may_lag() -> None:
    engine = Engine(grace_ms=0, max_lag_ms=60_000)

    async def story() -> None:
        await posted(engine, line(1, NOW - 60_000))
        assert engine.caught_up_after(5) == 5
        engine.now_ms = NOW + 10
        await posted(engine, line(2, NOW - 90_000) + b"\n" + line(3, NOW - 59_990))  # the newest one counts
        assert engine.caught_up_after(20) == 20
        await posted(engine, line(4, NOW - 59_991) + b"\n" + line(5, NOW - 90_000))
        assert engine.caught_up_after(60_009) == 10
        assert engine.caught_up_after(60_010) == 60_010

    running(engine, story())


def test_what_is_not_committed_yet_has_not_been_read() -> None:
    engine = Engine(grace_ms=0)
    engine.answers = False

    async def story() -> None:
        answer = asyncio.create_task(posted(engine, line()))
        batch = await engine.offered.get()
        assert engine.caught_up_after(500) == 0
        acknowledge(batch)
        await answer
        assert engine.caught_up_after(500) == 500

    running(engine, story())
