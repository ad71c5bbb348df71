"""Between the threads that pull and the loop that hands over: a queue of chunks with a limit in messages and bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from engine.sources.base import MAX_BATCH_EVENTS, Gap
from engine.sources.rocketmq.binding import QueueName
from engine.sources.rocketmq.positions import Place

MAX_WAITING_MESSAGES: Final = 8 * MAX_BATCH_EVENTS
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may have been pulled and not yet handed over, all queues of a source together; one pull more a queue at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one pull brought, with the place after it. Without messages it only moves the place, or tells of a gap."""

    queue: QueueName
    place: Place
    bodies: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    gap: Gap | None = None


class Intake:
    """Chunks in the order in which they were pulled. `put` is called by readers, `take` by the loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` tells the loop, from any thread, that something is there."""
        self._wake = wake
        self._chunks: deque[tuple[Chunk, int]] = deque()
        self._messages = self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def put(self, chunk: Chunk) -> bool:
        """Add a chunk, after waiting for room; False: it was closed meanwhile, and the chunk is not in it."""
        size = sum(map(len, chunk.bodies))
        with self._changed:
            while not self._closed and (self._messages >= MAX_WAITING_MESSAGES or self._bytes >= MAX_WAITING_BYTES):
                self._changed.wait()
            if self._closed:
                return False
            self._chunks.append((chunk, size))
            self._messages += len(chunk.bodies)
            self._bytes += size
        self._wake()
        return True

    def take(self, at_most: int = MAX_BATCH_EVENTS) -> list[Chunk]:
        """The oldest chunks with at most so many messages together; one that is larger comes alone."""
        found: list[Chunk] = []
        messages = 0
        with self._changed:
            while self._chunks and (not found or messages + len(self._chunks[0][0].bodies) <= at_most):
                chunk, size = self._chunks.popleft()
                messages += len(chunk.bodies)
                self._bytes -= size
                found.append(chunk)
            self._messages -= messages
            self._changed.notify_all()
        return found

    def __len__(self) -> int:
        """How many messages wait."""
        return self._messages

    def __bool__(self) -> bool:
        """Whether anything waits, messages or not."""
        return bool(self._chunks)

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
