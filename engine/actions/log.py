"""Writes messages into the engine's own log: the action that needs no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from engine.actions.base import Answer, Delivered, Done, OutboxItem, Outcome

Write = Callable[[Sequence[OutboxItem]], None]
"""Writes the `message` of each delivery's request, in order; must not block."""

DELIVERED = Delivered()


class LogSender:
    """Passes messages to `write`, many at once; each is delivered when it is written."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.prefetch = 256  # writing does not wait, so many can be taken at once

    async def send(self, item: OutboxItem) -> Answer:
        """Write one message."""
        self._write([item])
        return DELIVERED

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Write messages; `done` is called before this returns."""
        self._write(items)
        now_ms = time.time_ns() // 1_000_000
        done([Outcome(id=item.id, answer=DELIVERED, attempted_at_ms=now_ms) for item in items])

    async def close(self) -> None:
        """Nothing to close."""
