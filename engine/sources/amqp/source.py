"""Events over AMQP 0-9-1, the vendor's cloud-SDK route: acknowledged to the broker only after they are durable.

The broker keeps what we have not acknowledged and delivers it again, to us or to the next connection; events are a
set, so a repetition is harmless and nothing is lost. Everything happens in one task (`AmqpSource.run`), in this order:

1. Log in, with a signature made for this connection, and consume with a window of `PREFETCH` messages.
2. Acknowledge what was committed, up to and including its last message; return what failed to the queue.
3. Take a batch as soon as no other is being committed, at 1,000 messages, or 20 ms after its first one.
4. Decode and offer it; go on with 2. When the connection is lost, wait and go on with 1: the broker still has it all.

The window of `PREFETCH` limits memory. Read `AmqpSource.run`, then `AmqpConsumer`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiormq
from aiormq import exceptions
from pamqp.common import FieldTable
from yarl import URL

from engine.errors import ClockSuspect, RollcallError
from engine.sources.amqp.connection import ANSWER_S, AmqpConsumer, NotUsable
from engine.sources.amqp.frames import BadFrame
from engine.sources.amqp.login import (
    SIGN_KEY,
    AmqpMessage,
    cause_of,
    decode_messages,
    is_hanging_up,
    lost_in_login,
    refusal,
    signed_login,
)
from engine.sources.amqp.transport import GuardedTransport
from engine.sources.base import Batch, Offer, SourceHealth
from engine.sources.push_feed import LATE, PushFeed
from engine.sources.retry_pause import RETRY_S, RetryPause
from engine.sources.wire import suspect_clock
from engine.telemetry import Event, logger, silence_library

HEARTBEAT_S: Final = 10
"""Both sides show at least so often that they are there."""

CONNECTING: Final = "connecting"
"""What `health` says until the first connection is made or has failed."""

LAST_ANSWERS_S: Final = 0.4
HANG_UP_S: Final = 0.4
"""When stopping: how long commits in progress are waited for, and how long closing the connection may take."""

OUTSIDE: Final = (
    exceptions.AMQPError, exceptions.ChannelInvalidStateError, OSError, EOFError, StopAsyncIteration, UnicodeError
)  # fmt: skip
"""What the library is known to raise when a connection fails. Timeouts are OSErrors; an invalid host name is a UnicodeError.
Whatever else comes of a connection is treated alike, and logged."""

log = logger(__name__)
silence_library("aiormq")  # its records repeat at every attempt what `health` shows as a sentence


@dataclass(slots=True, kw_only=True, eq=False)
class AmqpSource:
    """Consumes one queue.

    `access_key` and `secret` are asked for at every login. `tls`: None for none, or a file with the certificates of
    the authorities to trust ("": the system's). `now_ms` reads the clock; `max_future_ms`, `max_lag_ms` and `grace_ms`
    are as for every push source.
    """

    name: str
    host: str
    port: int
    instance: str
    access_key: Callable[[], str]
    secret: Callable[[], str]
    consumer_group: str
    now_ms: Callable[[], int]
    queue: str = "STATUS"
    vhost: str = "MQTT"
    tls: str | None = None
    max_future_ms: int = 60_000
    max_lag_ms: int = 60_000
    grace_ms: int = 30_000
    shifted_ms: Callable[[], int] = lambda: 0  # all steps of the clock until now
    retry_s: tuple[float, ...] = RETRY_S
    type: str = field(default="amqp", init=False)
    _feed: PushFeed = field(init=False)
    _consumer: AmqpConsumer | None = field(default=None, init=False)
    _retry: RetryPause = field(init=False)
    _trouble: str = field(default=CONNECTING, init=False)
    _last_event_at_ms: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Nothing is known of the feed before it runs."""
        self._feed = PushFeed(max_lag_ms=self.max_lag_ms, grace_ms=self.grace_ms, shifted_ms=self.shifted_ms)
        self._retry = RetryPause(self.retry_s)

    @property
    def endpoint(self) -> str:
        """Where the broker is, as people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def run(self, offer: Offer, position: str | None) -> None:
        """Consume until cancelled; `position` is ignored: the broker knows what it still has."""
        while True:
            try:
                async with self._connected() as consumer:
                    await self._consume(consumer, offer)
            except RollcallError as trouble:
                self._trouble = str(trouble)
            except Exception as fault:  # whatever it is: a source that has stopped reads nothing any more
                self._trouble = f"internal error: {fault!r}"
                log.error(Event.INTERNAL_ERROR, source=self.name, exc_info=fault)
            _end_if_cancelled()  # the library may answer our end with another exception
            await asyncio.sleep(self._retry.next_s())

    def caught_up_to(self, now_ms: int) -> int | None:
        """The present while connected, with the exceptions of `PushFeed`; while disconnected, where it was before."""
        consumer = self._consumer
        return self._feed.caught_up_to(now_ms, consumer.oldest_ms if consumer is not None else None)

    def health(self, now_ms: int) -> SourceHealth:
        """How it is doing at `now_ms` (epoch milliseconds); `lag` counts what the queue holds and what is in hand."""
        consumer = self._consumer
        late = consumer is not None and self._feed.is_late(now_ms)
        idle = LATE if late else f"consuming queue {self.queue}"
        return SourceHealth(
            name=self.name,
            type=self.type,
            connected=consumer is not None and not self._trouble,
            detail=self._trouble or f"{idle} at {self.endpoint}",
            caught_up_to_ms=self.caught_up_to(now_ms),
            last_event_at_ms=self._last_event_at_ms,
            lag=consumer.ready + consumer.in_hand if consumer is not None else None,
            is_connecting=self._trouble == CONNECTING,
        )

    # One connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AmqpConsumer]:
        """A connected consumer. On cancellation, commits in progress are still acknowledged to the broker.

        Raises:
            RollcallError: the connection failed or was lost; the message says why.
        """
        transport, connection = self._connection()
        consumer, since_s = AmqpConsumer(self.now_ms), asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(ANSWER_S):
                await consumer.open(connection, self.queue, self.consumer_group)
            # Before the feed is up: messages that were delivered already are not read yet.
            self._consumer, self._trouble = consumer, ""
            self._feed.begin(self.now_ms())
            yield consumer
        except asyncio.CancelledError as error:
            if not _is_cancelled():  # the library cancels what waits for a connection that has ended
                raise NotUsable(self._sentence(TimeoutError(), transport.broken)) from error
            if self._consumer is not None:
                await _last_answers(consumer)
            raise
        except Exception as error:
            if isinstance(error, RollcallError) and transport.broken is None:
                raise
            known: Exception = error
            if not isinstance(error, (*OUTSIDE, RollcallError)):
                log.error(Event.INTERNAL_ERROR, source=self.name, exc_info=error)
                known = NotUsable(f"the library cannot handle what it got: {error!r}")
            raise NotUsable(self._sentence(known, transport.broken)) from error
        finally:
            if self._consumer is not None:
                self._feed.end(self.now_ms(), consumer.oldest_ms)
                self._consumer = None
                if asyncio.get_running_loop().time() - since_s > self.retry_s[-1]:
                    self._retry.reset()
            await _hang_up(connection)
            transport.abort()

    def _connection(self) -> tuple[GuardedTransport, aiormq.Connection]:
        """A connection with a fresh signature, not opened yet, and what its bytes go through."""
        login = signed_login(self.instance, self.access_key(), self.secret(), self.now_ms())
        try:
            url = URL.build(
                scheme="amqp" if self.tls is None else "amqps",
                host=self.host,
                port=self.port,
                user=login.user,
                password=login.password,
                path="/" + self.vhost.replace("/", "%2F"),  # the library's way to tell them apart
                query={"heartbeat": str(HEARTBEAT_S), "name": f"rollcall {self.name}"},
            )
        except ValueError as error:
            raise NotUsable(f"{self.endpoint} is not a valid address: {error}") from error
        transport = GuardedTransport(None if self.tls is None else _trust(self.tls))
        properties: FieldTable = {SIGN_KEY: login.sign_key}
        return transport, aiormq.Connection(url, transport_factory=transport, client_properties=properties)

    def _sentence(self, error: Exception, broken: BadFrame | None) -> str:
        if broken is not None:
            return f"{self.endpoint} is not used, because {broken}"
        if self._consumer is not None:
            return f"the connection to {self.endpoint} was lost: {cause_of(error)}"
        if is_hanging_up(error):
            return lost_in_login(self.endpoint, self.tls is not None)
        return refusal(error, self.endpoint, self.vhost, self.queue)

    # Its messages

    async def _consume(self, consumer: AmqpConsumer, offer: Offer) -> None:
        while True:
            messages = await self._next(consumer)
            received_at_ms = self.now_ms()
            decoded = decode_messages(messages, received_at_ms, self.max_future_ms)
            if decoded.future and await consumer.waited_for_more():
                continue  # with more messages that lie in the future, our own clock may turn out to be wrong
            try:
                suspect_clock(decoded)
            except ClockSuspect as suspicion:
                await self._wait_for_the_clock(suspicion, received_at_ms, consumer)
                continue
            acknowledge = consumer.hand(messages)
            self._last_event_at_ms = received_at_ms
            self._feed.note(decoded.events, received_at_ms, consumer.oldest_ms)
            batch = Batch(
                source=self.name,
                received_at_ms=received_at_ms,
                events=decoded.events,
                raw=decoded.raw,
                rejected=decoded.rejected,
                caught_up_to_ms=self.caught_up_to(received_at_ms),
                acknowledge=acknowledge,
            )
            await offer(batch)

    async def _next(self, consumer: AmqpConsumer) -> list[AmqpMessage]:
        """The next batch; answers the broker meanwhile."""
        while True:
            # `asyncio.wait_for` of Python 3.11, in the library, swallows an end that comes together with its answer.
            _end_if_cancelled()
            consumer.raise_if_lost()
            under_way = len(consumer.handed)
            failure = await consumer.answer()
            if failure is not None:
                self._trouble = f"not stored: {failure}"
                await asyncio.sleep(self._retry.next_s())
            elif len(consumer.handed) < under_way:
                self._retry.reset()
                self._trouble = ""
            await consumer.ask_how_much(self.queue)
            if consumer.is_due():
                return consumer.next_batch()
            await consumer.wait()

    async def _wait_for_the_clock(self, suspicion: ClockSuspect, at_ms: int, consumer: AmqpConsumer) -> None:
        """Nothing is acknowledged; the same messages are looked at again after a pause."""
        self._trouble = f"degraded: clock: {suspicion}"
        self._feed.distrust(at_ms, consumer.oldest_ms)
        await asyncio.sleep(self._retry.next_s())


def _trust(authorities: str) -> ssl.SSLContext:
    """The TLS context that trusts a file of authorities, or the system's when it is ""."""
    if authorities and not Path(authorities).is_file():
        raise NotUsable(f"the file of trusted certificates {authorities} does not exist")
    try:
        return ssl.create_default_context(cafile=authorities or None)
    except OSError as error:
        raise NotUsable(f"the certificates in {authorities} cannot be read: {error}") from error


async def _last_answers(consumer: AmqpConsumer) -> None:
    """Wait a moment for commits in progress: what is acknowledged now is not delivered again after a restart."""
    with suppress(Exception):
        async with asyncio.timeout(LAST_ANSWERS_S):
            while consumer.handed:
                await consumer.answer(written=True)
                if consumer.handed:
                    await consumer.wait()


async def _hang_up(connection: aiormq.Connection) -> None:
    """Close the connection properly, within a time limit."""
    try:
        async with asyncio.timeout(HANG_UP_S):
            await connection.close()
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
    except Exception:  # noqa: BLE001, S110  # whatever it is: the connection is given up
        pass


def _end_if_cancelled() -> None:
    if _is_cancelled():
        raise asyncio.CancelledError


def _is_cancelled() -> bool:
    """Whether this task is to end, and not only something it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
