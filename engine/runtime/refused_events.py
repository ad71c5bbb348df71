"""Events that were refused for their date alone: our own clock may be wrong, so the fleet is told of them, and they get another chance.

They lie in the quarantine like every other refused event. When the clock passes the date of one, by itself or because it was set,
those of the quarantine are offered again. Read `RefusedEvents.retry`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from engine.clock import Clock
from engine.core.events import LifecycleEvent
from engine.core.fleet import Fleet
from engine.runtime.history_codec import HistoryCodec
from engine.sources.acceptance import Malformed, accept, is_ahead_of_time, read_object
from engine.sources.base import Batch
from engine.stores.base import QuarantineRow, Reader, Store
from engine.telemetry import Event, logger

LOOK_S: Final = 1.0
"""Between two looks whether the clock has passed the date of a refused event."""

PAGE: Final = 500
"""Quarantined events that are read at once."""

log = logger(__name__)


def refused_events(rejected: Iterable[tuple[str, bytes]]) -> Iterator[LifecycleEvent]:
    """The events among (reason, raw bytes) whose only fault is their date. One whose type only its transport knew is none."""
    for reason, raw in rejected:
        if is_ahead_of_time(reason):
            try:
                yield accept(read_object(raw), None)
            except Malformed:
                continue


def recall(reader: Reader, fleet: Fleet, now_ms: int) -> None:
    """After a start: what the quarantine holds of them."""
    cursor: int | None = None
    while rows := reader.quarantine(limit=PAGE, cursor=cursor):
        cursor = rows[-1].id
        for event in refused_events((row.reason, row.raw) for row in rows):
            fleet.refused(event, now_ms)


def _answer(done: asyncio.Future[Exception | None], error: Exception | None) -> None:
    if not done.done():  # else nobody waits any more
        done.set_result(error)


class RefusedEvents:
    """Offers quarantined events again once their date is no longer in the future."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        codec: HistoryCodec,
        clock: Clock,
        max_future_ms: int,
        offer: Callable[[Batch], None],
    ) -> None:
        self._fleet, self._store, self._codec, self._clock = fleet, store, codec, clock
        self._max_future_ms, self._offer = max_future_ms, offer

    async def run(self, write: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        """Look from time to time, until cancelled; `write` does work in a transaction."""
        tried_ms = 0  # up to this date everything was offered again
        while True:
            await asyncio.sleep(LOOK_S)
            reached_ms = self._clock.now_ms() + self._max_future_ms
            tried_ms = min(tried_ms, reached_ms)  # the clock may have been put back
            if self._fleet.next_refused(tried_ms) <= reached_ms:
                count = await self.retry(write)
                tried_ms = reached_ms
                if count:
                    log.info(Event.REFUSED_ACCEPTED, events=count)

    async def retry(self, write: Callable[[Callable[[], Any]], Awaitable[Any]]) -> int:
        """Offer what the quarantine holds of them; how many were accepted."""
        count = 0
        cursor: int | None = None
        while rows := await asyncio.to_thread(self._page, cursor):
            cursor = rows[-1].id
            found = [row for row in rows if is_ahead_of_time(row.reason)]
            batch, ids = self._codec.quarantined_batch(found, self._clock.now_ms(), self._max_future_ms)
            if not ids:
                continue
            done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            batch.acknowledge = partial(_answer, done)  # called on this loop, after the commit
            self._offer(batch)
            error = await done
            if error is not None:
                raise error
            await write(lambda ids=ids: self._store.quarantine.delete(ids))  # type: ignore[misc]
            count += len(ids)
        return count

    def _page(self, cursor: int | None) -> list[QuarantineRow]:
        with self._store.reading() as reader:
            return reader.quarantine(limit=PAGE, cursor=cursor)
