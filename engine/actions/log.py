"""Writes messages into the engine's own log: the action that needs no network, and the newcomer's first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from engine.actions.base import Answer, Delivered, Done, OutboxItem, Outcome

Write = Callable[[OutboxItem, str], None]
"""Takes the delivery and its message; must not block."""

DELIVERED = Delivered()


class LogSender:
    """Hands every message to `write`, in order, and calls it delivered."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.prefetch = 256  # nobody is waited for, so nothing is gained by taking few

    async def send(self, item: OutboxItem) -> Answer:
        """Write one message."""
        self._write(item, item.request["message"])
        return DELIVERED

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Write messages; `done` is called before this returns."""
        for item in items:
            self._write(item, item.request["message"])
        now_ms = time.time_ns() // 1_000_000
        done([Outcome(id=item.id, answer=DELIVERED, attempted_at_ms=now_ms) for item in items])

    async def close(self) -> None:
        """Nothing is held."""
