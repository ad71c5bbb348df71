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
        bodies, slow, late = EventBodies(most_bytes=100), Sender(), Sender()
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
