"""Where the AMQP library gets its bytes: from a connection whose frames `FrameGuard` has judged. Read `GuardedTransport`."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

from aiormq.connection import TransportFactory
from yarl import URL

from engine.sources.amqp.frames import HEAD_BYTES, BadFrame, FrameGuard

YIELD_AFTER: Final = 256
"""Frames in a row after which others have their turn, when there is always a next one."""


class GuardedReader:
    """What the library needs of a stream: a part of a frame, when the whole of it has been judged."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._guard = FrameGuard(asyncio.get_running_loop().time)
        self._judged = b""
        self._at = 0
        self._frames = 0
        self.broken: BadFrame | None = None  # how the broker broke the protocol

    def at_eof(self) -> bool:
        """Whether nothing is left and nothing more comes."""
        return self._at >= len(self._judged) and self._reader.at_eof()

    async def read(self, size: int = -1) -> bytes:
        """Nothing: the library reads a rest only of what is no frame."""
        return b""

    async def readexactly(self, size: int) -> bytes:
        """The next bytes, which are of one frame. BadFrame when the broker breaks the protocol."""
        while self._at >= len(self._judged):
            try:
                self._judged, self._at = await self._next(), 0
            except BadFrame as broken:
                self.broken = broken
                raise
        part = self._judged[self._at : self._at + size]
        self._at += size
        return part

    async def _next(self) -> bytes:
        self._frames += 1
        if self._frames % YIELD_AFTER == 0:
            await asyncio.sleep(0)
        head = await self._reader.readexactly(HEAD_BYTES)
        return self._guard.pass_on(head, await self._reader.readexactly(self._guard.length_of(head) + 1))


class GuardedTransport(TransportFactory):
    """Opens one connection. `context`: TLS, or None."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        """Nothing is opened yet."""
        self._context = context
        self._writer: asyncio.StreamWriter | None = None
        self.reader: GuardedReader | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[Any, asyncio.StreamWriter]:
        """A connection to the address; OSError when there is none."""
        reader, self._writer = await asyncio.open_connection(url.host, url.port, ssl=self._context)
        self.reader = GuardedReader(reader)
        return self.reader, self._writer

    @property
    def broken(self) -> BadFrame | None:
        """How the broker broke the protocol; None: it did not."""
        return self.reader.broken if self.reader is not None else None

    def abort(self) -> None:
        """Close the connection now, whatever is under way."""
        if self._writer is not None:
            self._writer.transport.abort()
