"""Request bodies, read within limits. Read `EventBodies`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from engine.errors import Overloaded, TooLarge
from engine.web.content_encoding import decompressed, encoding_of

MAX_ACT_BYTES = 64 * 1024
"""The body of an act of operators: a few names and a comment."""

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""One body of events."""

MAX_READING_BYTES = 4 * MAX_EVENT_BYTES
"""All bodies of events that are being read at one time, without the first `FREE_BYTES` of each."""

FREE_BYTES = 128 * 1024
"""The beginning of each body, for which there is always room: the number of connections bounds it."""

YOUNG_S = 2.0
"""Seconds for which a body does not make room for others."""


async def read_body(request: Request, most_bytes: int) -> bytes:
    """A whole body. TooLarge for one of more than `most_bytes`."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most_bytes:
            raise TooLarge(f"the body is larger than {most_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


@dataclass(slots=True, eq=False)
class _Reading:
    """One body on its way."""

    task: asyncio.Task[Any] | None
    since_s: float
    counted: int = 0
    gave_way: bool = False


class EventBodies:
    """Bodies of events, limited together: slow senders of large bodies must neither fill the memory nor keep the others out.

    What counts is what has arrived. When there is no room, the body that has been arriving for the longest gives way.
    """

    def __init__(
        self, most_bytes: int = MAX_READING_BYTES, free_bytes: int = FREE_BYTES, young_s: float = YOUNG_S
    ) -> None:
        self._most_bytes, self._free_bytes, self._young_s = most_bytes, free_bytes, young_s
        self._readings: dict[_Reading, None] = {}  # those with more than the free bytes, oldest first
        self.bytes = 0  # that count, of all bodies that are being read now

    async def read(self, request: Request) -> bytes:
        """One body, decompressed.

        Raises:
            TooLarge: it is too large, as it arrives or decompressed.
            Overloaded: it has to give way.
            BadQuestion: it is not compressed as it says.
            HTTPException: it is compressed in a way that is not known.
        """
        encoding = encoding_of(request.headers.getlist("content-encoding"))
        parts, size = [], 0
        reading = _Reading(asyncio.current_task(), time.monotonic())
        try:
            async for part in request.stream():
                size += len(part)
                if size > MAX_EVENT_BYTES:
                    raise TooLarge(
                        f"the body is larger than {MAX_EVENT_BYTES} bytes; send the events in several requests"
                    )
                if size > self._free_bytes:
                    self._count(reading, size - self._free_bytes)
                parts.append(part)
            body = b"".join(parts)
            return body if encoding is None else await self._decompressed(body, encoding, reading)
        except asyncio.CancelledError:
            if not reading.gave_way or reading.task is None:
                raise
            reading.task.uncancel()
            raise Overloaded("the body arrived too slowly while others waited; send it again, in parts") from None
        finally:
            self._release(reading)

    async def _decompressed(self, body: bytes, encoding: str, reading: _Reading) -> bytes:
        parts, size, pieces = [], 0, decompressed(body, encoding)
        while piece := await asyncio.to_thread(next, pieces, b""):
            size += len(piece)
            if size > MAX_EVENT_BYTES:
                raise TooLarge(
                    f"the body is larger than {MAX_EVENT_BYTES} bytes when decompressed; send the events in several requests"
                )
            if len(body) + size > self._free_bytes:
                self._count(reading, len(body) + size - self._free_bytes)
            parts.append(piece)
        return b"".join(parts)

    def _count(self, reading: _Reading, size: int) -> None:
        """Count what a body holds now. Overloaded when there is no room and no slower body."""
        self._readings[reading] = None
        self.bytes += size - reading.counted
        reading.counted = size
        while self.bytes > self._most_bytes:
            slowest = min(self._readings, key=lambda one: one.since_s)
            if slowest is reading or slowest.task is None or time.monotonic() - slowest.since_s < self._young_s:
                raise Overloaded("too many requests with events at the same time; try again later")
            slowest.gave_way = True
            slowest.task.cancel()
            self._release(slowest)

    def _release(self, reading: _Reading) -> None:
        self._readings.pop(reading, None)
        self.bytes -= reading.counted
        reading.counted = 0
