"""Batches that were offered and are not committed yet: what failed is offered again, and what is committed is let go."""

from __future__ import annotations

import asyncio
import gc
import weakref

from engine.sources.base import Batch
from engine.sources.offer_window import OfferWindow


def a_batch(number: int) -> Batch:
    return Batch(source="log", received_at_ms=number, events=[], raw=[])


class Engine:
    """Takes batches, and acknowledges when the test says so."""

    def __init__(self) -> None:
        self.taken: list[Batch] = []

    async def offer(self, batch: Batch) -> None:
        self.taken.append(batch)

    async def acknowledge(self, place: int, failure: Exception | None = None) -> None:
        answer = self.taken[place].acknowledge
        assert answer is not None
        answer(failure)
        await asyncio.sleep(0)  # the answer comes through the loop


def test_what_failed_is_offered_again_in_its_order_before_anything_new() -> None:
    async def go() -> list[int]:
        engine, window = Engine(), OfferWindow[int](3)
        for number in (1, 2):
            await window.offer(engine.offer, a_batch(number), number)
        await engine.acknowledge(0, OSError("full"))
        assert window.failure is None  # the second is not decided yet
        await engine.acknowledge(1, OSError("full"))
        assert isinstance(window.failure, OSError)
        await window.offer_again(engine.offer)
        for place in (2, 3):
            await engine.acknowledge(place)
        assert window.take_committed() == [1, 2] and not window
        return [one.received_at_ms for one in engine.taken]

    assert asyncio.run(go()) == [1, 2, 1, 2]


def test_a_committed_batch_leaves_the_memory_at_once_without_the_garbage_collector() -> None:
    class Tracked(list[bytes]):
        """A list that can be watched."""

    async def go() -> bool:
        engine, window = Engine(), OfferWindow[None](1)
        lines = Tracked([b"{}"])
        watched = weakref.ref(lines)
        await window.offer(engine.offer, Batch(source="log", received_at_ms=1, events=[], raw=lines), None)
        del lines
        await engine.acknowledge(0)
        window.take_committed()
        engine.taken.clear()
        await asyncio.sleep(0)
        return watched() is None

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(go())
    finally:
        gc.enable()
