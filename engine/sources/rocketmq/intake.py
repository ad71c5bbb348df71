"""The queue between the threads that pull and the loop that makes batches, limited in messages and bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from engine.sources.base import MAX_BATCH_EVENTS, Gap
from engine.sources.rocketmq.pipe import QueueName
from engine.sources.rocketmq.positions import QueuePlace

MAX_WAITING_MESSAGES: Final = 8 * MAX_BATCH_EVENTS
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may have been pulled and not yet handed over, all queues of a source together; one pull more a queue at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueChunk:
    """What one pull brought, with the place after it. Without messages it only moves the place, or reports a gap."""

    queue: QueueName
    place: QueuePlace
    bodies: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    gap: Gap | None = None


class Intake:
    """Chunks in the order in which they were pulled. `put` is called by readers, `take` by the loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called after each `put`, in the thread of the reader."""
        self._wake = wake
        self._chunks: deque[tuple[QueueChunk, int]] = deque()
        self._messages = self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def put(self, chunk: QueueChunk) -> bool:
        """Add a chunk, after waiting for room. False when the queue was closed: the chunk was not added."""
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

    def take(self, at_most: int = MAX_BATCH_EVENTS) -> list[QueueChunk]:
        """The oldest chunks with at most so many messages together; one that is larger comes alone."""
        found: list[QueueChunk] = []
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
        """Take no more chunks; readers that wait for room return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
