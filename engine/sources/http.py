"""Events that are pushed to us over HTTP: what `POST /v1/events` hands over, answered once it is durable.

A push source cannot be read again, so its only promise is the answer: `HttpSource.accept` returns when every batch
made of a body is committed, and raises when one is not (the sender then repeats the body; events are a set, so
repeating is harmless). What waits for the commit is bounded; beyond that the sender is asked to come back. Read
`HttpSource.accept` first, then `HttpSource.caught_up_to`, which says how far silence may be trusted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.core.events import Rejection
from engine.errors import ClockSuspect, Overloaded, TooLarge
from engine.sources.base import MAX_BATCH_EVENTS, Batch, Offer, SourceHealth
from engine.sources.http_body import DecodedBody, decode_body, is_laborious
from engine.sources.push_feed import LATE, PushFeed
from engine.sources.wire import Decoded, portions, suspect_clock

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Bytes in one request body; about a hundred thousand events."""

MAX_WAITING_EVENTS: Final = 20_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""What may wait for its commit, over all requests, before senders get 429. One body always fits."""

RETRY_AFTER_S: Final = 1
"""Seconds after which a refused sender may try again: a full queue is committed sooner."""

assert MAX_BODY_BYTES <= MAX_WAITING_BYTES


class Accepted(NamedTuple):
    """The result of a body: how many events are durable now, and which lines were malformed (and quarantined).

    `rejected_more`: lines that were malformed as well, after those, and were only counted. `future`: how many of the rejected lines are events,
    dated too far ahead.
    """

    accepted: int
    rejected: list[Rejection]
    rejected_more: int = 0
    future: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class _Body:
    """One request on its way to being durable."""

    received_at_ms: int
    size_bytes: int
    done: asyncio.Future[None]
    events: int = 0
    open: int = 0  # batches not yet acknowledged
    failure: Exception | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class HttpSource:
    """Takes bodies from the web layer and offers them in batches.

    `now_ms` reads the clock; `max_future_ms` is how far events may lie ahead of it; events that are older than `max_lag_ms` on
    arrival are late (`PushFeed`); `grace_ms` is how long after a start senders get to reconnect.
    """

    name: str
    now_ms: Callable[[], int]
    max_future_ms: int = 60_000
    max_lag_ms: int = 60_000
    grace_ms: int = 30_000
    shifted_ms: Callable[[], int] = lambda: 0  # all steps of the clock until now
    max_waiting_events: int = MAX_WAITING_EVENTS
    max_waiting_bytes: int = MAX_WAITING_BYTES
    max_body_bytes: int = MAX_BODY_BYTES
    type: str = field(default="http", init=False)
    _queue: asyncio.Queue[tuple[_Body, Batch]] = field(default_factory=asyncio.Queue, init=False)
    _waiting: deque[_Body] = field(default_factory=deque, init=False)  # oldest first
    _waiting_events: int = field(default=0, init=False)
    _waiting_bytes: int = field(default=0, init=False)
    _feed: PushFeed = field(init=False)
    _last_event_at_ms: int | None = field(default=None, init=False)
    _clock_suspect: str = field(default="", init=False)
    _aside: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)  # large bodies are decoded one by one

    def __post_init__(self) -> None:
        """Nothing is known of the feed before it runs."""
        self._feed = PushFeed(max_lag_ms=self.max_lag_ms, grace_ms=self.grace_ms, shifted_ms=self.shifted_ms)

    async def run(self, offer: Offer, position: str | None) -> None:
        """Offer what was accepted, in order, until cancelled; then senders that still wait are answered that they must repeat."""
        self._feed.begin(self.now_ms())
        try:
            while True:
                _, batch = await self._queue.get()
                try:
                    await offer(batch)
                except BaseException as error:
                    self._not_taken(batch, error)
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._feed = PushFeed(max_lag_ms=self.max_lag_ms, grace_ms=self.grace_ms, shifted_ms=self.shifted_ms)
            self._turn_away()

    async def accept(self, body: bytes, content_type: str = "") -> Accepted:
        """Take one event (`application/json`, over as many lines as it likes), NDJSON, or a JSON array; return when it is durable.

        Raises:
            TooLarge: more than `max_body_bytes`, or too many lines.
            Overloaded: the queue is full, or the source does not run.
            ClockSuspect: most of it lies in the future; nothing was accepted.
            Exception: what the engine answered instead of committing; repeat the body.
        """
        if len(body) > self.max_body_bytes:
            raise TooLarge(
                f"the body has {len(body)} bytes; at most {self.max_body_bytes} are allowed: send the events in several requests"
            )
        self._make_sure_it_fits(len(body), 0)
        received_at_ms = self.now_ms()
        taken = _Body(
            received_at_ms=received_at_ms, size_bytes=len(body), done=asyncio.get_running_loop().create_future()
        )
        self._admit(taken)
        try:
            found = await self._decode(body, content_type, received_at_ms)
            decoded = found.decoded
            self._make_sure_it_fits(0, len(decoded.events) + len(decoded.rejected))
        except BaseException:  # cancelled, too: what it reserved is given back
            self._dismiss(taken)
            raise
        if self._enqueue(taken, decoded, found.rejected_more):
            await taken.done
        return Accepted(len(decoded.events), decoded.rejected, found.rejected_more, decoded.future)

    def caught_up_to(self, now_ms: int) -> int | None:
        """The instant up to which everything that was pushed has been read; None while that is unknown."""
        return self._feed.caught_up_to(now_ms, self._oldest_waiting_ms())

    def _oldest_waiting_ms(self) -> int | None:
        """When the oldest body that waits for its commit was received."""
        try:
            return self._waiting[0].received_at_ms
        except IndexError:  # rather than asking first: the writer's thread asks while the loop takes bodies away
            return None

    def health(self, now_ms: int) -> SourceHealth:
        """How it is doing at `now_ms` (epoch milliseconds)."""
        running, late = self._feed.is_up, self._feed.is_late(now_ms)
        if not late:
            self._clock_suspect = ""  # one wrong body long ago is no reason any more
        detail = "ready for events" if running else "not running"
        if running and late:
            detail = LATE
        if self._clock_suspect:
            detail = f"degraded: clock: {self._clock_suspect}"
        return SourceHealth(
            name=self.name,
            type=self.type,
            connected=running and not self._clock_suspect,
            detail=detail,
            caught_up_to_ms=self.caught_up_to(now_ms),
            last_event_at_ms=self._last_event_at_ms,
            lag=self._waiting_events,
        )

    def _make_sure_it_fits(self, size_bytes: int, events: int) -> None:
        if not self._feed.is_up:
            raise Overloaded(f"source {self.name} is not running", RETRY_AFTER_S)
        full = self._waiting_events >= self.max_waiting_events or (
            self._waiting_events > 0 and self._waiting_events + events > self.max_waiting_events
        )
        if full or self._waiting_bytes + size_bytes > self.max_waiting_bytes:
            raise Overloaded(f"the queue is full: {self._waiting_events} events wait to be stored", RETRY_AFTER_S)

    async def _decode(self, body: bytes, content_type: str, received_at_ms: int) -> DecodedBody:
        if is_laborious(body):  # in a thread, so that other requests are answered meanwhile
            async with self._aside:
                found = await asyncio.to_thread(decode_body, body, content_type, received_at_ms, self.max_future_ms)
        else:
            found = decode_body(body, content_type, received_at_ms, self.max_future_ms)
        decoded = found.decoded
        if found.rejected_more:  # those that are not kept count as well
            decoded = decoded._replace(rejected=decoded.rejected[:1] * found.rejected)
        try:
            suspect_clock(decoded)
        except ClockSuspect as suspicion:
            self._clock_suspect = str(suspicion)
            self._feed.distrust(received_at_ms, self._oldest_waiting_ms())
            raise
        return found

    def _admit(self, body: _Body) -> None:
        self._waiting.append(body)
        self._waiting_bytes += body.size_bytes

    def _dismiss(self, body: _Body) -> None:
        self._waiting.remove(body)
        self._waiting_bytes -= body.size_bytes
        self._waiting_events -= body.events

    def _enqueue(self, body: _Body, decoded: Decoded, rejected_more: int) -> bool:
        """Queue a decoded body batch by batch; False when nothing is in it."""
        if not decoded.events and not decoded.rejected:
            self._dismiss(body)
            return False
        self._note_events(body.received_at_ms, decoded)
        caught_up = self.caught_up_to(body.received_at_ms)
        loop = asyncio.get_running_loop()

        for portion in portions(decoded, MAX_BATCH_EVENTS):
            batch = Batch(
                source=self.name,
                received_at_ms=body.received_at_ms,
                events=portion.events,
                raw=portion.raw,
                rejected=portion.rejected,
                rejected_more=rejected_more if body.open == 0 else 0,
                caught_up_to_ms=caught_up,
                acknowledge=self._verdict_on(body, loop),
            )
            body.open += 1
            self._queue.put_nowait((body, batch))
        body.events = len(decoded.events) + len(decoded.rejected)
        self._waiting_events += body.events
        return True

    def _verdict_on(self, body: _Body, loop: asyncio.AbstractEventLoop) -> Callable[[Exception | None], None]:
        """What one batch of a body is acknowledged by: from any thread, and only the first verdict counts."""
        given = False

        def settle(failure: Exception | None) -> None:
            nonlocal given
            if not given:
                given = True
                self._settle(body, failure)

        def acknowledge(failure: Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, failure)  # the writer may run in a thread of its own

        return acknowledge

    def _not_taken(self, batch: Batch, error: BaseException) -> None:
        """The engine raised, or we were cancelled, while a batch was being offered: its sender has to repeat it."""
        if batch.acknowledge is not None:
            stops = Overloaded(f"source {self.name} is stopping", RETRY_AFTER_S)
            batch.acknowledge(error if isinstance(error, Exception) else stops)

    def _note_events(self, received_at_ms: int, decoded: Decoded) -> None:
        self._last_event_at_ms = received_at_ms
        if decoded.events:
            self._clock_suspect = ""
        self._feed.note(decoded.events, received_at_ms, self._oldest_waiting_ms())

    def _settle(self, body: _Body, failure: Exception | None) -> None:
        """One batch of a body is committed, or failed; the sender is answered after its last one."""
        body.failure = body.failure or failure
        body.open -= 1
        if body.open:
            return
        if body in self._waiting:
            self._dismiss(body)
        if body.done.done():
            return  # the sender hung up
        if body.failure is None:
            body.done.set_result(None)
        else:
            body.done.set_exception(body.failure)

    def _turn_away(self) -> None:
        """Answer for what will not be offered any more."""
        while not self._queue.empty():
            body, _ = self._queue.get_nowait()
            self._settle(body, Overloaded(f"source {self.name} is stopping", RETRY_AFTER_S))
