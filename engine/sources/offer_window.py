"""Batches that a source has offered and that are not committed yet; those that failed are offered again, in their order.

For sources that can be read again: their position must never pass a batch that is not committed. The engine fails every later
batch of a source after a failed one, so when the oldest batch has failed and all others are decided, everything that failed
is offered again before anything new. A source that has nothing else to do meanwhile calls `next_commit`; one that does calls
`take_committed`, `failure` and `offer_again` after each `wake`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

from engine.sources.base import Batch, Offer

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Decision:
    """Whether a batch was committed.

    It does not know the batch: a batch whose acknowledgement leads back to it would stay in memory until the garbage collector
    finds the cycle.
    """

    is_made: bool = False
    failure: Exception | None = None


class _Offered(NamedTuple, Generic[T]):
    """One batch, what the source keeps with it, and the decision about it."""

    batch: Batch
    origin: T
    decision: _Decision


class OfferWindow(Generic[T]):
    """At most `size` batches at a time, each with what the source wants back when it is committed (`origin`).

    Everything is called on the event loop of the source; the engine may acknowledge from any thread. `wake` is called on the
    loop after each verdict.
    """

    def __init__(self, size: int, wake: Callable[[], None] = lambda: None) -> None:
        self._size = size
        self._wake = wake
        self._decided = asyncio.Event()
        self._offered: deque[_Offered[T]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether the next batch has to wait."""
        return len(self._offered) >= self._size

    def __bool__(self) -> bool:
        """Whether any batch is not committed yet."""
        return bool(self._offered)

    async def offer(self, offer: Offer, batch: Batch, origin: T) -> None:
        """Offer a batch, and keep it until it is committed."""
        loop, decision = asyncio.get_running_loop(), _Decision()

        def decide(failure: Exception | None) -> None:
            decision.is_made, decision.failure = True, failure
            self._decided.set()
            self._wake()

        def acknowledge(failure: Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(decide, failure)

        entry = _Offered(replace(batch, acknowledge=acknowledge), origin, decision)
        self._offered.append(entry)
        await offer(entry.batch)

    async def next_commit(self, offer: Offer, pause_s: Callable[[Exception], float]) -> None:
        """Wait until the oldest batch is committed, offering again what failed.

        `pause_s` is called with each failure and returns how many seconds to wait before offering again.
        """
        while not self.take_committed():
            failure = self.failure
            if failure is None:
                self._decided.clear()
                await self._decided.wait()
            else:
                await asyncio.sleep(pause_s(failure))
                await self.offer_again(offer)

    def take_committed(self) -> list[T]:
        """Forget the oldest batches as far as they are committed; what was kept with them, oldest first."""
        committed = []
        while self._offered and _is_committed(self._offered[0].decision):
            committed.append(self._offered.popleft().origin)
        return committed

    @property
    def failure(self) -> Exception | None:
        """Why the oldest batch was not committed, once every batch is decided; None: wait, or nothing failed."""
        if self._offered and all(entry.decision.is_made for entry in self._offered):
            return self._offered[0].decision.failure
        return None

    async def offer_again(self, offer: Offer) -> None:
        """Offer all that failed once more, in their order. To be called after a pause when there is a `failure`."""
        failed = [entry for entry in self._offered if entry.decision.failure is not None]
        self._offered.clear()
        for entry in failed:
            await self.offer(offer, entry.batch, entry.origin)


def _is_committed(decision: _Decision) -> bool:
    return decision.is_made and decision.failure is None
