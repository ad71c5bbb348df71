"""Sends commands to devices through RocketMQ: a message on the parent topic that the MQTT service delivers to one device.

`cleansessionflag` is always true: a device that is not connected never gets it, however long the broker keeps the message. The
native client is in a process of its own, which may end and is started again. It blocks, and its retries cannot be shortened: it repeats
an unconfirmed message, for `WORST_MS` in total, so a command that expires sooner is not sent. It is used by one thread. Read
`RocketmqCommands.send`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from engine.actions.base import Attempted, Delivered, OutboxItem, Rejected, RetryLater, Untried
from engine.actions.command.sender import Command, Waits, command_of
from engine.errors import RollcallError

TAG: Final = "MQ2MQTT"
REQUEST_MS: Final = 1_000
"""How long the library waits for one answer of the broker."""

WORST_MS: Final = 3 * REQUEST_MS + 500
"""How long one attempt may take: the library makes three."""

TOO_LATE: Final = RetryLater(reason="the command expires too soon for an attempt through RocketMQ", our_fault=True)


class CommandProducer(Protocol):
    """Stores messages in RocketMQ; blocks."""

    def send(
        self, topic: str, tag: str, body: bytes, *, keys: str, properties: Mapping[str, str], until_s: float | None
    ) -> bool:
        """True when the broker has confirmed it, False when it was not begun before `until_s` (seconds of `engine.clock.running_ms`).

        Raises RollcallError with the reason when it was begun and is not confirmed.
        """
        ...

    def close(self) -> None:
        """Leave."""
        ...


class RocketmqCommands:
    """Sends commands through a producer that `open_producer` makes when the first one is sent (RollcallError: it cannot)."""

    def __init__(
        self,
        open_producer: Callable[[], CommandProducer],
        now_ms: Callable[[], int],
        namespace: str = "",
        waits: Waits | None = None,
        send_until_s: Callable[[], float] | None = None,
    ) -> None:
        """`send_until_s`: until when something may be sent (seconds of `engine.clock.running_ms`); None: always."""
        self._send_until_s = send_until_s
        self._waits = waits or Waits()
        self._open = open_producer
        self._prefix = f"{namespace}%" if namespace else ""
        self._now_ms = now_ms
        self._producer: CommandProducer | None = None
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "commands")

    async def send(self, item: OutboxItem) -> Attempted:
        """Try once, never beyond the command's life."""
        try:
            command = command_of(item)
        except ValueError as broken:
            return Rejected(reason=str(broken))
        left_s = (command.expires_at_ms - self._now_ms() - WORST_MS) / 1000
        last_s = time.monotonic() + left_s  # the clock may be put back meanwhile: that gives no command a longer life
        try:
            async with self._waits.at_most(left_s):
                await self._turn.acquire()
        except TimeoutError:
            return TOO_LATE
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._store, command, last_s)
        finally:
            self._turn.release()

    def _store(self, command: Command, last_s: float) -> Attempted:
        """In the thread, when it is this one's turn; `last_s`: of the monotonic clock, when it may be sent at the latest."""
        if command.expires_at_ms - self._now_ms() < WORST_MS or time.monotonic() > last_s:
            return TOO_LATE
        try:
            producer = self._producer = self._producer or self._open()
        except RollcallError as error:
            return RetryLater(reason=str(error), our_fault=True)
        if command.expires_at_ms - self._now_ms() < WORST_MS:
            return TOO_LATE  # making a producer took its time
        until_s = None if self._send_until_s is None else self._send_until_s()
        topic, _, second = command.topic.partition("/")
        try:
            is_begun = producer.send(
                self._prefix + topic,
                TAG,
                command.payload,
                keys=command.key,
                properties=properties_of(command, f"/{second}"),
                until_s=until_s,
            )
        except RollcallError as error:
            # The command's expiry limits the attempts; a breaker would only make them fewer.
            return RetryLater(reason=str(error), may_have_arrived=True, our_fault=True)
        return Delivered() if is_begun else Untried()

    async def close(self) -> None:
        """Leave the cluster."""
        if self._producer is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._producer.close)
            self._producer = None
        self._thread.shutdown(wait=False)


def properties_of(command: Command, second_topic: str) -> dict[str, str]:
    """What the MQTT service reads: the device's topic, the QoS, and that the message is not kept for a device that is offline."""
    return {
        "mqttSecondTopic": second_topic,
        "qoslevel": str(command.qos),
        "cleansessionflag": "true",
        "expires-at": command.expires_at,
    }
