"""The dispatcher's side of the outbox: it reads beside the writer, and writes in the writer's transactions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from engine.clock import Clock
from engine.core.delivery import DEAD, DEFAULT_POLICY, DeliveryPolicy, OutboxItem, Outcome
from engine.stores.base import Deliveries, DeliveryRow, Reader, Share, Waiting

T = TypeVar("T")


class OutboxStore(Protocol):
    """What the outbox needs of a store."""

    @property
    def deliveries(self) -> Deliveries:
        """The deliveries, to be written inside the writer's transaction."""
        ...

    def reading(self) -> AbstractContextManager[Reader]:
        """A reader beside the writer."""
        ...


class Outbox:
    """Deliveries that are due, and what became of them. StoreError when the store fails; the dispatcher tries again."""

    def __init__(
        self,
        store: OutboxStore,
        write: Callable[[Callable[[], Any]], Awaitable[Any]],
        clock: Clock,
        policy: DeliveryPolicy = DEFAULT_POLICY,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`write` does a piece of work inside the writer's next transaction, and returns when that has committed."""
        self._store = store
        self._write = write
        self._clock = clock
        self._policy = policy
        self._jitter = jitter

    async def waiting(self, now_ms: int) -> Waiting:
        """Which targets have something to send at `now_ms`, and when the next retry is due."""
        return await self._read(lambda reader: reader.waiting(now_ms))

    async def due(self, now_ms: int, shares: Sequence[Share]) -> Sequence[OutboxItem]:
        """What may leave at `now_ms`, at most its share for each target, a lane's earlier ones first."""
        return await self._read(lambda reader: reader.due(now_ms, shares))

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of deliveries; returns when that is committed."""
        now_ms = self._clock.now_ms()
        await self._write(lambda: self._store.deliveries.record(outcomes, now_ms, self._jitter, self._policy))

    async def dead(self, ids: Sequence[int]) -> list[DeliveryRow]:
        """Those of some deliveries that are dead."""
        return await self._read(
            lambda reader: [row for id_ in ids if (row := reader.delivery(id_)) and row.state == DEAD]
        )

    async def _read(self, question: Callable[[Reader], T]) -> T:
        """Ask in a thread, so that the event loop never waits for the disk."""
        return await asyncio.to_thread(self._answer, question)

    def _answer(self, question: Callable[[Reader], T]) -> T:
        with self._store.reading() as reader:
            return question(reader)
