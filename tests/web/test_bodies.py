"""All bodies that are being read at one time are limited together, however slowly their senders are."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from engine.errors import Overloaded
from engine.web.bodies import EventBodies


class Sender:
    """A request whose parts arrive when the test says so."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[Message] = asyncio.Queue()
        self.request = Request({"type": "http", "method": "POST", "headers": []}, self._parts.get)

    def send(self, part: bytes, *, more: bool = True) -> None:
        self._parts.put_nowait({"type": "http.request", "body": part, "more_body": more})


def test_one_sender_too_many_is_asked_to_come_back_and_the_others_go_on() -> None:
    async def go() -> None:
        bodies, slow, late = EventBodies(most_bytes=100, free_bytes=0), Sender(), Sender()
        slow.send(b"a" * 60)
        reading = asyncio.create_task(bodies.read(slow.request))
        while bodies.bytes < 60:
            await asyncio.sleep(0)
        late.send(b"b" * 60)
        with pytest.raises(Overloaded):
            await bodies.read(late.request)
        slow.send(b"a" * 30, more=False)
        assert await reading == b"a" * 90
        assert bodies.bytes == 0

    asyncio.run(go())


def test_the_slowest_of_the_large_bodies_gives_way_to_one_that_arrives() -> None:
    async def go() -> None:
        bodies, slow, prompt = EventBodies(most_bytes=100, free_bytes=0, young_s=0), Sender(), Sender()
        slow.send(b"a" * 60)
        reading = asyncio.create_task(bodies.read(slow.request))
        while bodies.bytes < 60:
            await asyncio.sleep(0)
        prompt.send(b"b" * 60, more=False)
        assert await bodies.read(prompt.request) == b"b" * 60
        with pytest.raises(Overloaded, match="too slowly"):
            await reading
        assert bodies.bytes == 0

    asyncio.run(go())


def test_a_small_body_is_read_however_many_large_ones_are_unfinished() -> None:
    async def go() -> None:
        bodies, small = EventBodies(most_bytes=100, free_bytes=10), Sender()
        large = [Sender() for _ in range(4)]
        readings = []
        for sender in large:
            sender.send(b"a" * 35)
            readings.append(asyncio.create_task(bodies.read(sender.request)))
        while bodies.bytes < 100:
            await asyncio.sleep(0)
        small.send(b"b" * 10, more=False)
        assert await bodies.read(small.request) == b"b" * 10
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)
        assert bodies.bytes == 0

    asyncio.run(go())


def test_a_request_that_is_cancelled_by_others_stays_cancelled() -> None:
    async def go() -> None:
        bodies, sender = EventBodies(), Sender()
        sender.send(b"a")
        reading = asyncio.create_task(bodies.read(sender.request))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(go())
