"""One consumer on one AMQP connection: every message is acknowledged or returned once, in order.

Read `AmqpConsumer.answer`: one answer covers all messages up to its own, which is why none may overtake an earlier batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

import aiormq
from aiormq import exceptions
from aiormq.abc import AbstractChannel, DeliveredMessage

from engine.errors import RollcallError
from engine.sources.amqp.login import AmqpMessage, kind_of
from engine.sources.base import MAX_BATCH_EVENTS

PREFETCH: Final = 4 * MAX_BATCH_EVENTS
"""Messages the broker may have delivered without an answer: one batch being committed, others filling meanwhile."""

SLACK: Final = MAX_BATCH_EVENTS
"""Messages beyond that which are still taken: acknowledgements and messages may cross."""

BATCH_S: Final = 0.02
"""Longest that a message waits for more of them while another batch is being committed."""

ANSWER_S: Final = 10.0
"""Longest that a login, or one answer of the broker, may take before the connection counts as dead."""

NEVER_S: Final = 1e6
PROBE_S: Final = 1.0
"""Seconds between two questions how many messages the queue holds; an answer also shows that the broker is alive."""


class NotUsable(RollcallError):
    """The connection failed or was lost; the message says why."""


@dataclass(slots=True, eq=False)
class _Handed:
    """A batch that was offered: the tag of its last message, its size, when its first message came, and the verdict."""

    last_tag: int
    size: int
    received_at_ms: int
    decided: bool = False
    failure: Exception | None = None


class AmqpConsumer:
    """One consumer on one connection: what was delivered, and what of it is not answered yet, in the broker's order."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._woken = asyncio.Event()
        self._lost: BaseException | None = None
        self._channel: AbstractChannel | None = None
        self._probe: AbstractChannel | None = None  # None: none yet, or the broker does not answer such questions
        self._probe_at_s = 0.0
        self._due_at_s = 0.0
        self.ready = 0  # messages in the queue when it was asked last
        self.inbox: deque[AmqpMessage] = deque()
        self.handed: deque[_Handed] = deque()

    async def open(self, connection: aiormq.Connection, queue: str, group: str) -> None:
        """Log in and consume."""
        await connection.connect()
        self._channel = await connection.channel(publisher_confirms=False)
        self._channel.closing.add_done_callback(self._lose)
        self._channel.on_consumer_cancel_callbacks.add(lambda _: self._lose(None))
        await self._channel.basic_qos(prefetch_count=PREFETCH)
        await self._channel.basic_consume(queue, self._deliver, arguments={"GROUP_ID": group})
        self._probe = await connection.channel(publisher_confirms=False)

    def _lose(self, closing: asyncio.Future[object] | None) -> None:
        cause = closing.exception() if closing is not None and not closing.cancelled() else None
        self._lost = cause or NotUsable("the broker cancelled the consumer: does the queue still exist?")
        self._woken.set()

    async def _deliver(self, message: DeliveredMessage) -> None:
        if self.in_hand >= PREFETCH + SLACK:
            self._lost = self._lost or NotUsable(
                f"the broker delivers more than the {PREFETCH} messages it was asked for"
            )
            self._woken.set()
            return
        if not self.inbox:
            self._due_at_s = asyncio.get_running_loop().time() + BATCH_S
        properties = message.header.properties
        kind = kind_of(properties.message_type, properties.headers, message.routing_key)
        # A body that is too long was cut just above the limit when it arrived, so that it is rejected.
        self.inbox.append(AmqpMessage(message.delivery_tag or 0, kind, message.body, self._now_ms()))
        self._woken.set()

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest message without an answer was received; asked by the writer's thread, too."""
        found = None
        # In this order: what moves from one to the other meanwhile is seen in one of them.
        for waiting in (self.inbox, self.handed):
            with suppress(IndexError):  # rather than asking first: they may be taken away meanwhile
                found = waiting[0].received_at_ms
        return found

    @property
    def in_hand(self) -> int:
        """Messages that the broker delivered and that are not answered."""
        return len(self.inbox) + sum(handed.size for handed in list(self.handed))

    async def wait(self) -> None:
        """Wait for a delivery, a verdict, the end of the connection, or time for the next batch or question."""
        now_s = asyncio.get_running_loop().time()
        until_s = self._probe_at_s if not self.inbox else min(self._probe_at_s, self._due_at_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until_s - now_s)):
                await self._woken.wait()
        self._woken.clear()

    def raise_if_lost(self) -> None:
        """Raise what ended the connection, if it has ended."""
        if isinstance(self._lost, Exception):
            raise self._lost
        if self._lost is not None:
            raise NotUsable("the connection was closed")

    def is_due(self) -> bool:
        """Whether a batch should be taken now."""
        if not self.inbox:
            return False
        waited = asyncio.get_running_loop().time() >= self._due_at_s
        return waited or not self.handed or len(self.inbox) >= MAX_BATCH_EVENTS

    async def waited_for_more(self) -> bool:
        """Let the first message wait its full time. Returns whether it had not done so before."""
        left_s = self._due_at_s - asyncio.get_running_loop().time()
        if left_s <= 0:
            return False
        await asyncio.sleep(left_s)
        return True

    def next_batch(self) -> list[AmqpMessage]:
        """The messages of the next batch; they stay in the inbox until they are handed over."""
        return list(islice(self.inbox, MAX_BATCH_EVENTS))

    def hand(self, messages: list[AmqpMessage]) -> Callable[[Exception | None], None]:
        """Note that messages are offered now. Returns what the engine calls, from any thread, with the verdict."""
        loop = asyncio.get_running_loop()
        handed = _Handed(messages[-1].tag, len(messages), messages[0].received_at_ms)
        self.handed.append(handed)  # before they leave the inbox, or they would seem to have been read
        for _ in messages:
            self.inbox.popleft()
        self._due_at_s = loop.time() + BATCH_S

        def decide(failure: Exception | None) -> None:
            handed.decided, handed.failure = True, failure
            self._woken.set()

        def acknowledge(failure: Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: the broker delivers it again
                loop.call_soon_threadsafe(decide, failure)

        return acknowledge

    async def answer(self, *, written: bool = False) -> Exception | None:
        """Acknowledge or return to the broker what has been decided, oldest first; returns why something was not committed.

        One answer covers every message up to its tag, so none may overtake an earlier batch. `written`: return only when
        the answer has been written, because closing the connection would otherwise overtake it.
        """
        assert self._channel is not None
        committed = None
        while self.handed and self.handed[0].decided and self.handed[0].failure is None:
            committed = self.handed.popleft().last_tag
        async with asyncio.timeout(ANSWER_S):
            if committed is not None:
                await self._channel.basic_ack(committed, multiple=True, wait=written)
            if self.handed and self.handed[0].decided:
                failed = self.handed.popleft()
                await self._channel.basic_nack(failed.last_tag, multiple=True, requeue=True, wait=written)
                return failed.failure
        return None

    async def ask_how_much(self, queue: str) -> None:
        """Ask from time to time how many messages the queue holds; a broker that refuses is not asked again."""
        loop = asyncio.get_running_loop()
        if self._probe is None or loop.time() < self._probe_at_s:
            return
        try:
            found = await self._probe.queue_declare(queue, passive=True, timeout=ANSWER_S)
            self.ready = found.message_count or 0
        except exceptions.AMQPChannelError:
            self._probe, self._probe_at_s = None, loop.time() + NEVER_S
            return
        self._probe_at_s = loop.time() + PROBE_S
