"""The benchmarks' own webhook target counts what arrives, however the bytes are cut."""

from __future__ import annotations

import asyncio

import pytest

from tests.benchmarks.collector import ANSWER, Collector

REQUEST = b"POST /hook HTTP/1.1\r\nHost: x\r\nIdempotency-Key: %b\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("size", [1, 7, 60, 1_000])
def test_requests_are_counted_however_they_are_cut(size: int) -> None:
    async def run() -> tuple[Collector, bytes]:
        collector = Collector()
        url = await collector.listen()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        sent = REQUEST % b"a" + REQUEST % b"b" + REQUEST % b"a"
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await writer.drain()
        answers = await reader.readexactly(3 * len(ANSWER))
        writer.close()
        collector.close()
        return collector, answers

    collector, answers = asyncio.run(run())
    assert answers == 3 * ANSWER
    assert list(collector.arrived) == [b"a", b"b"]
    assert collector.requests == 3


def test_an_arrival_wakes_the_one_who_waits_for_it() -> None:
    async def run() -> int:
        collector = Collector()
        waiting = asyncio.create_task(collector.next_arrival(0, within_s=10))
        await asyncio.sleep(0)
        collector.take(b"POST / HTTP/1.1\r\nIdempotency-Key: k", b"")
        await waiting
        return len(collector.arrived)

    assert asyncio.run(run()) == 1
