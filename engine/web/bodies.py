"""Request bodies, read within limits. Read `EventBodies`."""

from __future__ import annotations

from fastapi import Request

from engine.errors import Overloaded, TooLarge

MAX_ACT_BYTES = 64 * 1024
"""The body of an act of operators: a few names and a comment."""

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""One body of events."""

MAX_READING_BYTES = 4 * MAX_EVENT_BYTES
"""All bodies of events that are being read at one time."""


async def read_body(request: Request, most_bytes: int) -> bytes:
    """A whole body. TooLarge for one of more than `most_bytes`."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most_bytes:
            raise TooLarge(f"the body is larger than {most_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


class EventBodies:
    """Bodies of events, limited together: many slow senders of large bodies must not fill the memory."""

    def __init__(self, most_bytes: int = MAX_READING_BYTES) -> None:
        self._most_bytes = most_bytes
        self.bytes = 0  # of all bodies that are being read now

    async def read(self, request: Request) -> bytes:
        """One body. TooLarge for one that is too large, Overloaded while too much is being read."""
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                self.bytes += len(part)
                if size > MAX_EVENT_BYTES:
                    raise TooLarge(
                        f"the body is larger than {MAX_EVENT_BYTES} bytes; send the events in several requests"
                    )
                if self.bytes > self._most_bytes:
                    raise Overloaded("too many requests with events at the same time; try again later")
                parts.append(part)
            return b"".join(parts)
        finally:
            self.bytes -= size
