"""Lifecycle events from RocketMQ, by pull, with positions of our own: exactly once into the state.

The broker's consumer offsets are not used. How far each queue was read is one text (`rocketmq_positions`) that is committed
in the transaction that holds the effect of what was read, so a crash neither loses nor repeats. The parts:

- a thread that looks which queues there are (`RocketmqSource._look_out`), and one that reads each queue (`QueueReader`);
- a bounded hand-over (`Intake`), so that an engine that is busy makes the readers wait;
- the loop (`RocketmqSource.run`), which makes batches of what was pulled, whatever queue it is of, and keeps at most
  `WINDOW` of them uncommitted. A batch that failed is offered again before any later one.

A source is caught up to the least, over its queues, of the instants at which a queue's end was seen that is now committed. A
queue that does not answer therefore holds that back, which is what keeps a dead broker from looking like silent devices.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from engine.core.events import Rejection
from engine.errors import ClockSuspect
from engine.sources.base import Batch, Offer, QueueHealth, SourceHealth
from engine.sources.rocketmq.binding import Connection, PullConsumer, QueueName, library
from engine.sources.rocketmq.intake import Chunk, Intake
from engine.sources.rocketmq.native_log import reason
from engine.sources.rocketmq.positions import Positions
from engine.sources.rocketmq.reader import QueueReader, Reading
from engine.sources.wire import Decoded, decode_lines, suspect_clock

WINDOW: Final = 4
"""Batches handed over and not known to be committed."""

LOOK_S: Final = 5.0
"""Seconds between two looks at which queues there are. The library itself asks the name servers every 30 s."""

LOOK_AGAIN_S: Final = 0.5
"""The same while no queue is known."""

TROUBLE_AFTER_MS: Final = 3_000
"""How long a queue may fail to answer before the source says that it is disconnected: brokers restart, routes move."""

FORGET_QUEUE_MS: Final = 3 * 86_400_000
"""A queue that no name server lists any more is waited for so long, which is how long RocketMQ keeps messages."""

MAX_QUEUES: Final = 512
"""Queues of one source, each of which costs a thread."""

STOP_S: Final = 0.8
"""How long stopping waits for pulls under way; one from a broker that hangs is abandoned."""

RETRY_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
DEFAULT_TAGS: Final = "connect||disconnect||tcpclean"
_TYPES: Final = {b"connect": "connect", b"disconnect": "disconnect", b"tcpclean": "tcpclean"}

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Handed:
    """A batch that was offered, and what became of it."""

    batch: Batch
    chunks: Sequence[Chunk]
    is_settled: bool = False
    failure: Exception | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class RocketmqSource:
    """Reads topics of one cluster. `topics` are as on the wire, with their namespace.

    `start` says where a queue begins that was never read: `latest` (what is stored after the very first start of this
    source), `earliest`, or epoch milliseconds. `now_ms` reads the clock.
    """

    name: str
    connection: Connection
    topics: Sequence[str]
    now_ms: Callable[[], int]
    tags: str = DEFAULT_TAGS
    start: str | int = "latest"
    max_future_ms: int = 60_000
    type: str = field(default="rocketmq", init=False)
    _readers: dict[QueueName, QueueReader] = field(default_factory=dict, init=False)
    _positions: Positions | None = field(default=None, init=False)  # of what was offered, not of what is committed
    _intake: Intake | None = field(default=None, init=False)
    _handed: deque[_Handed] = field(default_factory=deque, init=False)
    _held: list[Chunk] = field(default_factory=list, init=False)  # taken, and not offered while the clock is suspect
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _missing: dict[str, int] = field(default_factory=dict, init=False)  # topics without queues, since when
    _trouble: str = field(default="", init=False)
    _failures: int = field(default=0, init=False)
    _last_event_at_ms: int | None = field(default=None, init=False)

    async def run(self, offer: Offer, position: str | None) -> None:
        """Read until cancelled."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(woken.set)

        self._positions = positions = Positions.parse(position, self.now_ms())
        self._missing = dict.fromkeys(self.topics, self.now_ms())
        self._intake = Intake(wake)
        looking = threading.Thread(target=self._look_out, name=f"rocketmq {self.name}", daemon=True)
        try:
            if position is None:  # so that "latest" means the same after a crash before the first message
                first = Batch(source=self.name, received_at_ms=self.now_ms(), position=positions.text())
                await self._offer(offer, first, (), wake)
            looking.start()
            while True:
                await woken.wait()
                woken.clear()
                await self._turn(offer, wake)
        except Exception as fault:
            self._trouble = f"stopped by a fault of ours: {fault!r}"
            raise
        finally:
            self._stop.set()
            self._intake.close()
            await asyncio.shield(asyncio.to_thread(self._wait_for_threads, looking))

    # Of the loop

    async def _turn(self, offer: Offer, wake: Callable[[], None]) -> None:
        """Note what was committed, offer again what was not, then hand over what was pulled."""
        assert self._intake is not None
        await self._settle(offer, wake)
        while len(self._handed) < WINDOW and (self._held or self._intake):
            chunks = self._held or self._intake.take()
            try:
                batch = self._batch(chunks)
            except ClockSuspect as suspicion:
                self._held, self._trouble = chunks, f"degraded: clock: {suspicion}"
                await asyncio.sleep(self._pause_s())
                wake()
                return
            self._held, self._trouble, self._failures = [], "", 0
            await self._offer(offer, batch, chunks, wake)

    async def _settle(self, offer: Offer, wake: Callable[[], None]) -> None:
        handed = self._handed
        while handed and handed[0].is_settled and handed[0].failure is None:
            for chunk in handed.popleft().chunks:
                reader = self._readers.get(chunk.queue)
                if reader is not None:
                    reader.commit(chunk.place.offset)
        if handed and handed[0].failure is not None and all(entry.is_settled for entry in handed):
            again = [entry for entry in handed if entry.failure is not None]
            self._trouble = f"not stored: {again[0].failure}"
            handed.clear()
            await asyncio.sleep(self._pause_s())
            for entry in again:
                await self._offer(offer, entry.batch, entry.chunks, wake)

    async def _offer(self, offer: Offer, batch: Batch, chunks: Sequence[Chunk], wake: Callable[[], None]) -> None:
        entry = _Handed(batch, chunks)

        def acknowledge(failure: Exception | None) -> None:
            entry.failure, entry.is_settled = failure, True
            wake()

        batch.acknowledge = acknowledge
        self._handed.append(entry)
        await offer(batch)

    def _batch(self, chunks: Sequence[Chunk]) -> Batch:
        """One batch of what was pulled, with the positions after it. ClockSuspect, and nothing was moved."""
        assert self._positions is not None
        now_ms = self.now_ms()
        decoded = decode_messages(chunks, now_ms, self.max_future_ms)
        suspect_clock(decoded)
        places = self._positions.places
        for chunk in chunks:
            places[chunk.queue] = chunk.place
            reader = self._readers.get(chunk.queue)
            if reader is not None and chunk.bodies:
                reader.last_event_at_ms = now_ms
        for queue, reader in self._readers.items():
            if queue in places and reader.caught_up_ms is not None:
                places[queue] = places[queue]._replace(reached_at_ms=reader.caught_up_ms)
        gaps = [chunk.gap for chunk in chunks if chunk.gap is not None]
        for gap in gaps:
            log.warning("source_gap", extra={"source": self.name, "reason": gap.reason})
        if decoded.events:
            self._last_event_at_ms = now_ms
        return Batch(
            source=self.name,
            received_at_ms=now_ms,
            events=decoded.events,
            raw=decoded.raw,
            rejected=decoded.rejected,
            position=self._positions.text(),
            caught_up_to_ms=self.caught_up_to(now_ms),
            gaps=gaps,
        )

    def _pause_s(self) -> float:
        self._failures += 1
        return RETRY_S[min(self._failures, len(RETRY_S)) - 1]

    # Of the thread that looks out

    def _look_out(self) -> None:
        """Connect, and begin to read each queue that appears; leave in the end, when nobody uses the connection any more."""
        consumer = self._connect()
        if consumer is None:
            return
        try:
            while not self._stop.is_set():
                listed = self._listed(consumer)
                self._let_go(listed)
                self._begin_reading(consumer, listed)
                self._stop.wait(LOOK_S if self._readers and not self._missing else LOOK_AGAIN_S)
        finally:
            for reader in list(self._readers.values()):
                reader.thread.join()
            consumer.close()

    def _connect(self) -> PullConsumer | None:
        consumer = PullConsumer(self.connection)
        while not consumer.start():
            self._trouble = (
                f"cannot start: the group {self.connection.group} is in use by another source of this process"
            )
            if self._stop.wait(RETRY_S[-1]):
                return None
        return consumer

    def _listed(self, consumer: PullConsumer) -> list[QueueName]:
        """The queues that there are now, over all topics."""
        listed: list[QueueName] = []
        for topic in self.topics:
            found = consumer.queues(topic)
            listed += found
            if found:
                self._missing.pop(topic, None)
            elif not any(queue.topic == topic for queue in self._readers):
                self._missing.setdefault(topic, self.now_ms())
        return listed

    def _begin_reading(self, consumer: PullConsumer, listed: Sequence[QueueName]) -> None:
        assert self._positions is not None and self._intake is not None
        start_ms = {"latest": self._positions.since_ms, "earliest": None}.get(str(self.start), self.start)
        for queue in chain(listed, self._awaited(listed)):
            if queue in self._readers or len(self._readers) >= MAX_QUEUES:
                continue
            reading = Reading(
                source=self.name,
                puller=consumer,
                intake=self._intake,
                tags=self.tags.encode(),
                start_ms=None if start_ms is None else int(start_ms),
                now_ms=self.now_ms,
                why=lambda: reason(self.connection.log_folder),
                stop=self._stop,
            )
            reader = QueueReader(queue, self._positions.places.get(queue), reading)
            self._readers = self._readers | {queue: reader}  # a new one: other threads go through the old
            reader.thread.start()

    def _awaited(self, listed: Sequence[QueueName]) -> list[QueueName]:
        """Queues that were read and are not listed: their broker may be down, and what it holds is unread.

        A queue is not awaited when its broker lists others of ours (then it was taken away), when its topic is none of
        ours any more, or when it is away for longer than messages are kept.
        """
        assert self._positions is not None
        if not listed and not self._readers:
            return []  # no name server answers yet
        up = {queue.broker for queue in listed}
        oldest_ms = self.now_ms() - FORGET_QUEUE_MS
        return [
            queue
            for queue, place in list(self._positions.places.items())
            if queue.topic in self.topics
            and queue.broker not in up
            and max(place.reached_at_ms, place.stored_at_ms, self._positions.since_ms) > oldest_ms
        ]

    def _let_go(self, listed: Sequence[QueueName]) -> None:
        """Read no more what does not answer and was taken away: not listed, while its broker lists others of the topic."""
        up = {(queue.topic, queue.broker) for queue in listed}
        gone = {
            queue
            for queue, reader in self._readers.items()
            if reader.trouble and queue not in listed and (queue.topic, queue.broker) in up
        }
        for queue in gone:
            told = self._readers[queue].let_go()
            if told is not None and self._intake is not None:
                self._intake.put(told)
            log.warning("queue_gone", extra={"source": self.name, "queue": str(queue)})
        if gone:
            self._readers = {queue: reader for queue, reader in self._readers.items() if queue not in gone}

    def _wait_for_threads(self, looking: threading.Thread) -> None:
        if looking.ident is not None:
            looking.join(STOP_S)

    # How it is doing

    def caught_up_to(self, now_ms: int) -> int | None:
        """The least, over the queues, of the instants at which an end was seen that is committed; None: not yet."""
        readers = self._readers
        if not readers or self._missing:
            return None
        least = now_ms
        for reader in readers.values():
            reached_ms = reader.caught_up_ms
            if reached_ms is None:
                return None
            least = min(least, reached_ms)
        return least

    def health(self, now_ms: int) -> SourceHealth:
        """How it is doing at `now_ms` (epoch milliseconds); `lag` is in messages, of whatever tag."""
        readers = sorted(self._readers.items())
        trouble = self._trouble or self._disconnected(now_ms)
        lags = [reader.lag for _, reader in readers]
        lag = sum(lag for lag in lags if lag is not None) if any(lag is not None for lag in lags) else None
        return SourceHealth(
            name=self.name,
            type=self.type,
            connected=not trouble and not self._stop.is_set(),
            detail=trouble or self._detail(lag),
            caught_up_to_ms=self.caught_up_to(now_ms),
            last_event_at_ms=self._last_event_at_ms,
            lag=lag,
            queues=tuple(
                QueueHealth(
                    name=str(queue),
                    connected=not reader.trouble,
                    detail=reader.trouble,
                    caught_up_to_ms=reader.caught_up_ms,
                    last_event_at_ms=reader.last_event_at_ms,
                    lag=reader.lag,
                )
                for queue, reader in readers
            ),
        )

    def _disconnected(self, now_ms: int) -> str:
        """What has not answered for a while, and why; empty when all is well."""
        for topic, since_ms in list(self._missing.items()):
            if now_ms - since_ms >= TROUBLE_AFTER_MS:
                return f"no queue of the topic {topic}: {reason(self.connection.log_folder)}"
        silent = [
            reader
            for reader in self._readers.values()
            if reader.trouble_since_ms is not None and now_ms - reader.trouble_since_ms >= TROUBLE_AFTER_MS
        ]
        if not silent:
            return ""
        which = f"{len(silent)} of {len(self._readers)} queues do" if len(silent) > 1 else f"{silent[0].name} does"
        return f"{which} not answer: {silent[0].trouble or reason(self.connection.log_folder)}"

    def _detail(self, lag: int | None) -> str:
        if not self._readers:
            return f"connecting to {self.connection.name_servers or self.connection.name_server_domain}"
        behind = f", {lag} messages behind" if lag else ""
        return f"reading {len(self._readers)} queues of {', '.join(self.topics)}{behind}"


def rocketmq_source(
    name: str, options: Mapping[str, Any], log_folder: Path, now_ms: Callable[[], int], max_future_ms: int
) -> RocketmqSource:
    """The source that the options of the configuration ask for, secrets revealed.

    Raises:
        NativeLibraryMissing: there is no library to read with; says what to do.
    """
    library()
    prefix = f"{options['namespace']}%" if "namespace" in options else ""
    topics = [*(f"{group}_MQTT" for group in options.get("mqtt_groups", ())), *options.get("topics", ())]
    connection = Connection(
        group=f"{prefix}{options['consumer_group']}",
        name_servers=";".join(options.get("name_servers", ())),
        name_server_domain=options.get("name_server_domain", ""),
        access_key=options.get("access_key", ""),
        secret=options.get("secret", ""),
        log_folder=str(log_folder),
    )
    return RocketmqSource(
        name=name,
        connection=connection,
        topics=list(dict.fromkeys(f"{prefix}{topic}" for topic in topics)),
        now_ms=now_ms,
        tags=options.get("tags", DEFAULT_TAGS),
        start=options.get("start", "latest"),
        max_future_ms=max_future_ms,
    )


def decode_messages(chunks: Sequence[Chunk], received_at_ms: int, max_future_ms: int) -> Decoded:
    """Decode what was pulled, each message by its own tag; never raises for what is in it."""
    bodies = [body for chunk in chunks for body in chunk.bodies]
    decoded = decode_lines(bodies, received_at_ms, max_future_ms)
    if not decoded.rejected and len(decoded.events) == len(bodies):
        told = [_TYPES.get(tag) for chunk in chunks for tag in chunk.tags]
        if [event.type for event in decoded.events] == told:
            return decoded
    return _one_by_one(chunks, received_at_ms, max_future_ms)


def _one_by_one(chunks: Sequence[Chunk], received_at_ms: int, max_future_ms: int) -> Decoded:
    """The same, the careful way: a missing type is taken from the tag, a contradiction is malformed."""
    events, raw, rejected, future = [], [], [], 0
    messages = ((body, tag) for chunk in chunks for body, tag in zip(chunk.bodies, chunk.tags, strict=True))
    for number, (body, tag) in enumerate(messages, 1):
        one = decode_lines([body], received_at_ms, max_future_ms, tag=tag.decode("utf-8", "replace") or None)
        events += one.events
        raw += one.raw
        rejected += [fault._replace(line=number) for fault in one.rejected]
        future += one.future
        if not one.events and not one.rejected:
            rejected.append(Rejection(number, "the message is empty", body))
    return Decoded(events, raw, rejected, future)
