"""Lifecycle events from RocketMQ, by pull, with positions of our own: exactly once into the state.

The broker's consumer offsets are not used. How far each queue was read is one text (`positions.py`) that is committed
in the transaction that holds the effect of what was read, so a crash neither loses nor repeats. The parts:

- a process with the native client, which may end at any time (`ClientProcess`);
- a thread that lists the queues (`QueueDiscovery`), and one that reads each queue (`QueueReader`);
- a bounded queue between them and the loop (`Intake`), so that a busy engine makes the readers wait;
- the loop (`RocketmqSource.run`), which makes batches of what was pulled, from whatever queue, and keeps at most `WINDOW` of
  them uncommitted (`OfferWindow`). A batch that failed is offered again before any later one.

A source is caught up to the earliest of its queues: for each, the latest instant at which its end was seen that is now
committed. A queue that does not answer therefore holds the source back, so that a dead broker does not look like silent devices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.errors import ClockSuspect
from engine.sources.base import Batch, Offer, QueueHealth, SourceHealth
from engine.sources.offer_window import OfferWindow
from engine.sources.retry_pause import RetryPause
from engine.sources.rocketmq.client import require_library
from engine.sources.rocketmq.decoding import decode_messages
from engine.sources.rocketmq.discovery import QueueDiscovery
from engine.sources.rocketmq.intake import Intake, QueueChunk
from engine.sources.rocketmq.pipe import ClusterAccess, QueueName
from engine.sources.rocketmq.positions import Positions
from engine.sources.rocketmq.reader import QueueReader
from engine.sources.wire import suspect_clock
from engine.telemetry import Event, logger

WINDOW: Final = 4
"""Batches offered and not committed yet."""

TROUBLE_AFTER_S: Final = 3.0
"""How long a queue may fail to answer before the source says that it is disconnected: brokers restart, routes move."""

STOP_S: Final = 0.8
"""How long stopping waits for pulls under way; one from a broker that hangs is abandoned."""

DEFAULT_TAGS: Final = "connect||disconnect||tcpclean"

log = logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class RocketmqSource:
    """Reads topics of one cluster. `topics` are as on the wire, with their namespace.

    `start` says where a queue begins that was never read: `latest` (what is stored after the very first start of this
    source), `earliest`, or epoch milliseconds. `now_ms` reads the clock.
    """

    name: str
    connection: ClusterAccess
    topics: Sequence[str]
    now_ms: Callable[[], int]
    tags: str = DEFAULT_TAGS
    start: str | int = "latest"
    max_future_ms: int = 60_000
    type: str = field(default="rocketmq", init=False)
    _positions: Positions = field(init=False)  # of what was offered, not of what is committed
    _intake: Intake = field(init=False)
    _discovery: QueueDiscovery | None = field(default=None, init=False)  # None: not running yet
    _window: OfferWindow[Sequence[QueueChunk]] = field(init=False)
    _waiting: list[QueueChunk] = field(default_factory=list, init=False)  # pulled, not offered: the clock is suspect
    _retry: RetryPause = field(default_factory=RetryPause, init=False)
    _trouble: str = field(default="", init=False)
    _last_event_at_ms: int | None = field(default=None, init=False)

    async def run(self, offer: Offer, position: str | None) -> None:
        """Read until cancelled."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(woken.set)

        self._positions = Positions.parse(position, self.now_ms())
        self._intake = Intake(wake)
        self._window = OfferWindow(WINDOW, wake)
        self._discovery = discovery = QueueDiscovery(
            source=self.name,
            connection=self.connection,
            topics=self.topics,
            tags=self.tags,
            start=self.start,
            now_ms=self.now_ms,
            positions=self._positions,
            intake=self._intake,
        )
        try:
            if position is None:  # so that "latest" means the same after a crash before the first message
                first = Batch(source=self.name, received_at_ms=self.now_ms(), position=self._positions.text())
                await self._window.offer(offer, first, ())
            discovery.begin()
            while True:
                await woken.wait()
                woken.clear()
                await self._turn(offer, wake)
        except Exception as fault:
            self._trouble = f"internal error, the source has stopped: {fault!r}"
            raise
        finally:
            discovery.end()
            self._intake.close()
            await asyncio.shield(asyncio.to_thread(discovery.wait, STOP_S))

    @property
    def _readers(self) -> Mapping[QueueName, QueueReader]:
        return self._discovery.readers if self._discovery is not None else {}

    # On the loop

    async def _turn(self, offer: Offer, wake: Callable[[], None]) -> None:
        """Note what was committed, offer again what failed, then offer what was pulled."""
        await self._settle(offer)
        while not self._window.is_full and (self._waiting or self._intake):
            chunks = self._waiting or self._intake.take()
            try:
                batch = self._batch(chunks)
            except ClockSuspect as suspicion:
                self._waiting, self._trouble = chunks, f"degraded: clock: {suspicion}"
                await asyncio.sleep(self._retry.next_s())
                wake()
                return
            self._waiting, self._trouble = [], ""
            self._retry.reset()
            await self._window.offer(offer, batch, chunks)

    async def _settle(self, offer: Offer) -> None:
        for chunks in self._window.take_committed():
            for chunk in chunks:
                reader = self._readers.get(chunk.queue)
                if reader is not None:
                    reader.commit(chunk.place.offset)
        failure = self._window.failure
        if failure is not None:
            self._trouble = f"not stored: {failure}"
            await asyncio.sleep(self._retry.next_s())
            await self._window.offer_again(offer)

    def _batch(self, chunks: Sequence[QueueChunk]) -> Batch:
        """One batch of what was pulled, with the positions after it. Raises ClockSuspect, and then changes nothing."""
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
            log.warning(Event.SOURCE_GAP, source=self.name, reason=gap.reason)
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

    # How it is doing

    def caught_up_to(self, now_ms: int) -> int | None:
        """The earliest, over the queues, of the instants at which an end was seen that is committed; None: not yet."""
        discovery = self._discovery
        readers = self._readers
        if discovery is None or not readers or discovery.missing:
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
        trouble = self._trouble or self._disconnected()
        is_ended = self._discovery is not None and self._discovery.is_ended
        lags = [reader.lag for _, reader in readers]
        lag = sum(lag for lag in lags if lag is not None) if any(lag is not None for lag in lags) else None
        return SourceHealth(
            name=self.name,
            type=self.type,
            connected=not trouble and not is_ended,
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

    def _disconnected(self) -> str:
        """What has not answered for a while, and why; empty when all is well."""
        if self._discovery is None:
            return ""
        client, now_s = self._discovery.client, time.monotonic()
        if self._discovery.trouble or client.trouble:
            return self._discovery.trouble or client.trouble
        without = f"; {client.unresolved}" if client.unresolved else ""
        for topic, since_s in list(self._discovery.missing.items()):
            if now_s - since_s >= TROUBLE_AFTER_S:
                return f"no queue of the topic {topic}: {self._discovery.why_missing or 'no name server has answered yet'}{without}"
        silent = [
            reader
            for reader in self._readers.values()
            if reader.trouble_since_s is not None and now_s - reader.trouble_since_s >= TROUBLE_AFTER_S
        ]
        if not silent:
            return ""
        which = f"{len(silent)} of {len(self._readers)} queues do" if len(silent) > 1 else f"{silent[0].name} does"
        return f"{which} not answer: {silent[0].trouble or 'no answer has come yet'}{without}"

    def _detail(self, lag: int | None) -> str:
        if not self._readers:
            return f"connecting to {self.connection.name_servers or self.connection.name_server_domain}"
        behind = f", {lag} messages behind" if lag else ""
        unresolved = self._discovery.client.unresolved if self._discovery is not None else ""
        without = f"; {unresolved}, reading without it" if unresolved else ""
        return f"reading {len(self._readers)} queues of {', '.join(self.topics)}{behind}{without}"


def rocketmq_source(
    name: str, options: Mapping[str, Any], log_folder: Path, now_ms: Callable[[], int], max_future_ms: int
) -> RocketmqSource:
    """The source that the options of the configuration ask for, secrets revealed.

    Raises:
        NativeLibraryMissing: there is no library to read with; says what to do.
    """
    require_library()
    prefix = f"{options['namespace']}%" if "namespace" in options else ""
    topics = [*(f"{group}_MQTT" for group in options.get("mqtt_groups", ())), *options.get("topics", ())]
    connection = ClusterAccess(
        group=f"{prefix}{options['consumer_group']}",
        name_servers=";".join(options.get("name_servers", ())),
        name_server_domain=options.get("name_server_domain", ""),
        access_key=options.get("access_key", ""),
        secret=options.get("secret", ""),
        log_folder=str(log_folder / name),
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
