"""Which queues there are to read: one thread that lists them from time to time and keeps a reader for each.

A queue is read as long as a name server lists it, and also while its broker is down: what it holds is unread. It is given up
when its broker lists other queues of the topic but not this one, or when it was away for longer than RocketMQ keeps messages.
Read `QueueDiscovery.run`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

from engine.sources.rocketmq.client import ClientGone, ClientProcess
from engine.sources.rocketmq.intake import Intake
from engine.sources.rocketmq.pipe import ClientSetup, ClusterAccess, Listed, ListRequest, Pulled, PullRequest, QueueName
from engine.sources.rocketmq.positions import Positions
from engine.sources.rocketmq.reader import QueueReader, ReaderSettings
from engine.telemetry import Event, log_level, logger

LOOK_S: Final = 5.0
"""Seconds between two lists of the queues. The library itself asks the name servers every 30 s."""

LOOK_AGAIN_S: Final = 0.5
"""The same while a topic has no queue."""

FORGET_QUEUE_MS: Final = 3 * 86_400_000
"""How long a queue that no name server lists any more is still read: as long as RocketMQ keeps messages."""

MAX_QUEUES: Final = 512
"""Queues of one source, each of which costs a thread."""

log = logger(__name__)


class RemoteConsumer:
    """The consumer in the other process, as discovery and readers use it. Everything blocks, and may raise ClientGone."""

    def __init__(self, client: ClientProcess) -> None:
        """The process is begun and closed by the one that made it."""
        self._client = client

    def queues(self, topic: str) -> Listed:
        """The queues that a topic has now."""
        found: Listed = self._client.ask(ListRequest(0, topic))
        return found

    def pull(self, name: QueueName, tags: bytes, offset: int, at_most: int) -> Pulled:
        """Messages from `offset` on whose tag is in the expression `tags`; returns at once when there are none."""
        found: Pulled = self._client.ask(PullRequest(0, name.topic, name.broker, name.queue, tags, offset, at_most))
        return found


class QueueDiscovery:
    """The readers of one source, and the thread that starts and ends them.

    `readers` and `missing` are read by other threads: `readers` is replaced, never changed.
    """

    def __init__(
        self,
        *,
        source: str,
        connection: ClusterAccess,
        topics: Sequence[str],
        tags: str,
        start: str | int,
        now_ms: Callable[[], int],
        positions: Positions,
        intake: Intake,
    ) -> None:
        """The arguments are those of `RocketmqSource`. Call `begin`; to stop, `end` and `wait`."""
        self._source = source
        self.client = ClientProcess(ClientSetup(connection, None, log_level()), source)
        self._topics = topics
        self._tags = tags
        self._start_ms = {"latest": positions.since_ms, "earliest": None}.get(str(start), start)
        self._now_ms = now_ms
        self._positions = positions
        self._intake = intake
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"rocketmq {source}", daemon=True)
        self.readers: dict[QueueName, QueueReader] = {}
        self.missing = dict.fromkeys(topics, time.monotonic())  # topics without queues, since when
        self.trouble = ""  # why no queue is listed any more
        self.why_missing = ""  # why topics have no queues

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_ended(self) -> bool:
        """Whether `end` was called."""
        return self._stop.is_set()

    def end(self) -> None:
        """Tell all threads to end."""
        self._stop.set()

    def wait(self, within_s: float) -> None:
        """End the client, which ends pulls under way, and wait at most so long until all threads have ended."""
        self.client.close()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    # In the thread

    def _run(self) -> None:
        try:
            self._discover()
        except Exception as fault:  # a thread that ended unnoticed would leave queues unread
            self.trouble = f"internal error, new queues are not discovered: {fault!r}"
            log.error(Event.SOURCE_FAILED, source=self._source, exc_info=fault)

    def _discover(self) -> None:
        """Read each queue that appears, until `end` is called."""
        consumer = RemoteConsumer(self.client)
        self.client.begin()
        self.client.wait_until_known(LOOK_S)
        try:
            while not self._stop.is_set():
                try:
                    listed = self._listed(consumer)
                except ClientGone:
                    self._stop.wait(LOOK_AGAIN_S)  # what is known of the queues stands
                    continue
                self._let_go(listed)
                self._begin_reading(consumer, listed)
                self._stop.wait(LOOK_S if self.readers and not self.missing else LOOK_AGAIN_S)
        finally:
            self.client.close()
            for reader in list(self.readers.values()):
                reader.thread.join()

    def _listed(self, consumer: RemoteConsumer) -> list[QueueName]:
        """The queues that there are now, over all topics. ClientGone when that cannot be asked."""
        listed: list[QueueName] = []
        for topic in self._topics:
            found = consumer.queues(topic)
            listed += (QueueName(topic, broker, queue) for broker, queue in found.queues)
            if found.queues:
                self.missing.pop(topic, None)
            elif not any(queue.topic == topic for queue in self.readers):
                self.why_missing = found.why
                self.missing.setdefault(topic, time.monotonic())
        return listed

    def _begin_reading(self, consumer: RemoteConsumer, listed: Sequence[QueueName]) -> None:
        settings = ReaderSettings(
            source=self._source,
            puller=consumer,
            intake=self._intake,
            tags=self._tags.encode(),
            start_ms=None if self._start_ms is None else int(self._start_ms),
            now_ms=self._now_ms,
            stop=self._stop,
        )
        for queue in chain(listed, self._awaited(listed)):
            if queue in self.readers or len(self.readers) >= MAX_QUEUES:
                continue
            reader = QueueReader(queue, self._positions.places.get(queue), settings)
            self.readers = self.readers | {queue: reader}
            reader.thread.start()

    def _awaited(self, listed: Sequence[QueueName]) -> list[QueueName]:
        """Queues that were read before and are not listed: their broker may be down, and what they hold is unread.

        A queue is not awaited when its broker lists other queues (then it was removed), when its topic is not configured
        any more, or when it was away for longer than messages are kept.
        """
        if not listed and not self.readers:
            return []  # no name server answers yet
        up = {queue.broker for queue in listed}
        oldest_ms = self._now_ms() - FORGET_QUEUE_MS
        return [
            queue
            for queue, place in list(self._positions.places.items())
            if queue.topic in self._topics
            and queue.broker not in up
            and max(place.reached_at_ms, place.stored_at_ms, self._positions.since_ms) > oldest_ms
        ]

    def _let_go(self, listed: Sequence[QueueName]) -> None:
        """End the readers of removed queues: they do not answer, and their broker lists other queues of the topic."""
        up = {(queue.topic, queue.broker) for queue in listed}
        gone = {
            queue
            for queue, reader in self.readers.items()
            if reader.trouble and queue not in listed and (queue.topic, queue.broker) in up
        }
        for queue in gone:
            unread = self.readers[queue].let_go()
            if unread is not None:
                self._intake.put(unread)
            log.warning(Event.QUEUE_GONE, source=self._source, queue=str(queue))
        if gone:
            self.readers = {queue: reader for queue, reader in self.readers.items() if queue not in gone}
