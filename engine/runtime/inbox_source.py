"""What replicas have taken over HTTP, as a source of the cell's owner. Read `InboxSource.run`.

A batch deletes its rows in the transaction that has its effect, so each is applied once. The events are checked again by the owner's
clock: the replica that took them may show another time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from engine.core.events import Rejection
from engine.errors import StoreError
from engine.sources.base import MAX_BATCH_EVENTS, Batch, Offer, SourceHealth
from engine.sources.push_feed import LATE, PushFeed
from engine.sources.wire import decode_lines
from engine.stores.posted import PostedRow

ROWS_AT_ONCE: Final = 256
"""Rows of the inbox that are read at once: one row is the body of one request, or a thousand of its events."""

LOOK_S: Final = 0.5
"""How long it waits for the bell before it looks by itself."""

RETRY_S: Final = 1.0
"""Pause after the inbox could not be read."""


class WaitingEvents(Protocol):
    """The inbox as it is read."""

    def waiting(self, limit: int, beside: Sequence[int]) -> list[PostedRow]:
        """Rows that wait, oldest first, without those whose numbers are given. StoreError."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


class InboxSource:
    """Reads the inbox of a cell until it is cancelled. `ring` it, from any thread, when something was posted."""

    type = "http"

    def __init__(
        self,
        *,
        name: str,
        inbox: Callable[[], WaitingEvents],
        delete: Callable[[Sequence[PostedRow]], None],
        now_ms: Callable[[], int],
        max_future_ms: int = 60_000,
        max_lag_ms: int = 60_000,
        grace_ms: int = 30_000,
        shifted_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """`inbox`: opens it; `delete`: inside the owner's transaction, these rows have had their effect. The others as of `HttpSource`."""
        self.name = name
        self._open, self._delete, self._now_ms = inbox, delete, now_ms
        self._max_future_ms = max_future_ms
        self._new_feed = partial(PushFeed, max_lag_ms=max_lag_ms, grace_ms=grace_ms, shifted_ms=shifted_ms)
        self._feed = self._new_feed()
        self._read_to_ms: int | None = None  # everything that was in the inbox at this instant has been read
        self._reading: dict[int, int] = {}  # rows that are offered and not committed: when they were read
        self._last_event_at_ms: int | None = None
        self._trouble: str | None = None
        self._rung = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def ring(self) -> None:
        """Something was posted."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._rung.set)

    async def run(self, offer: Offer, position: str | None) -> None:
        """Offer what waits, again and again. The position is not needed: what was applied is gone from the inbox."""
        self._loop = asyncio.get_running_loop()
        inbox = self._open()
        self._feed.begin(self._now_ms())
        thread = ThreadPoolExecutor(1, "inbox")  # one thread: the connection belongs to it
        try:
            while True:
                await self._read_once(inbox, thread, offer)
        finally:
            self._feed, self._read_to_ms = self._new_feed(), None
            self._reading.clear()
            thread.submit(inbox.close)
            thread.shutdown(wait=False)

    async def _read_once(self, inbox: WaitingEvents, thread: ThreadPoolExecutor, offer: Offer) -> None:
        """Read some rows and offer them, or wait for some."""
        loop = asyncio.get_running_loop()
        asked_ms = self._now_ms()
        self._rung.clear()
        try:
            rows = await loop.run_in_executor(thread, inbox.waiting, ROWS_AT_ONCE, list(self._reading))
        except StoreError as error:
            self._trouble = str(error)
            await asyncio.sleep(RETRY_S)
            return
        self._trouble = None
        for batch in self._batches(rows, asked_ms):
            await offer(batch)
        if len(rows) < ROWS_AT_ONCE:
            self._read_to_ms = asked_ms
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._rung.wait()

    def _batches(self, rows: Sequence[PostedRow], read_ms: int) -> Iterator[Batch]:
        """The rows as batches of at most `MAX_BATCH_EVENTS` events, each with all of a row or nothing."""
        some: list[PostedRow] = []
        size = 0
        for row in rows:
            count = len(row.posted.raw) + len(row.posted.rejected)
            if some and (size + count > MAX_BATCH_EVENTS):
                yield self._batch(some, read_ms)
                some, size = [], 0
            some.append(row)
            size += count
        if some:
            yield self._batch(some, read_ms)

    def _batch(self, rows: Sequence[PostedRow], read_ms: int) -> Batch:
        ids = [row.id for row in rows]
        raw = [line for row in rows for line in row.posted.raw]
        now_ms = self._now_ms()
        decoded = decode_lines(raw, now_ms, self._max_future_ms)
        refused = [Rejection(0, reason, line) for row in rows for reason, line in row.posted.rejected]
        for id_ in ids:
            self._reading[id_] = read_ms
        self._last_event_at_ms = now_ms
        self._feed.note(decoded.events, now_ms, self._oldest_reading_ms())
        loop = self._loop
        assert loop is not None

        def settle() -> None:
            for id_ in ids:
                self._reading.pop(id_, None)  # when it was not committed, it is found again

        def acknowledge(error: Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle)

        return Batch(
            source=self.name,
            received_at_ms=now_ms,
            events=decoded.events,
            raw=decoded.raw,
            rejected=[*decoded.rejected, *refused],
            rejected_more=sum(row.posted.rejected_more for row in rows),
            caught_up_to_ms=self.caught_up_to(now_ms),
            along=partial(self._delete, rows),
            acknowledge=acknowledge,
        )

    def _oldest_reading_ms(self) -> int | None:
        """When the oldest of what is not yet committed was read."""
        try:
            return next(iter(self._reading.values()), None)
        except RuntimeError:  # the loop adds or removes a row while the writer's thread asks
            return self._read_to_ms

    def caught_up_to(self, now_ms: int) -> int | None:
        """The instant up to which everything that was posted has been read; None while that is unknown."""
        read_to_ms = self._read_to_ms
        if read_to_ms is None:
            return None
        found = self._feed.caught_up_to(min(now_ms, read_to_ms), self._oldest_reading_ms())
        return None if found is None else min(found, read_to_ms)

    def health(self, now_ms: int) -> SourceHealth:
        """How it is doing at `now_ms` (epoch milliseconds)."""
        running = self._feed.is_up
        detail = "ready for events" if running else "not running"
        if running and self._feed.is_late(now_ms):
            detail = LATE
        if self._trouble is not None:
            detail = self._trouble
        return SourceHealth(
            name=self.name,
            type=self.type,
            connected=running and self._trouble is None,
            detail=detail,
            caught_up_to_ms=self.caught_up_to(now_ms),
            last_event_at_ms=self._last_event_at_ms,
            lag=len(self._reading),
            lag_unit="requests",
        )
