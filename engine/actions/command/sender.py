"""Commands to devices, by any transport: what a command is, how long it lives, and which sender carries it.

A command expires: a device that was offline for an hour must not be restarted for what was true an hour ago. Its
request holds `expires_ms`, counted from the instant of the decision, so a restart of the engine changes nothing: the dispatcher
sends nothing that has expired, retries fit into the time left, and each sender passes the expiry on where the broker supports it.
Read `Command` and `command_of`, then `engine.actions.command.mqtt`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from engine.actions.base import (
    ActionSender,
    Attempted,
    Done,
    OutboxItem,
    Outcome,
    Rejected,
    RetryLater,
)
from engine.core.delivery import LIFE
from engine.core.times import rfc3339
from engine.telemetry import Event, logger

log = logger(__name__)

PREFETCH: Final = 1_000
"""Commands taken beyond those being sent: one that waits for a connection must not keep another from expiring in time."""

SHORTEST_MS: Final = 1_000
"""A command that expires sooner is not sent: brokers count the time left in whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command as it goes over the wire."""

    key: str  # the command id: the same at every attempt
    to: str
    topic: str
    payload: bytes
    qos: int
    expires_at_ms: int

    @property
    def expires_at(self) -> str:
        """The same as RFC 3339 text, for the receiver."""
        return rfc3339(self.expires_at_ms)


def command_of(item: OutboxItem) -> Command:
    """The command that a delivery's request describes. ValueError when it describes none."""
    request = item.request
    try:
        return Command(
            key=item.key,
            to=str(request["to"]),
            topic=str(request["topic"]),
            payload=payload_of(request),
            qos=int(request["qos"]),
            expires_at_ms=item.decided_at_ms + int(request[LIFE]),
        )
    except (KeyError, TypeError, UnicodeError) as broken:
        raise ValueError(f"the request is not a valid command: {broken!r}") from broken


def payload_of(request: Mapping[str, Any]) -> bytes:
    """The payload for the device: text as UTF-8, a mapping as JSON."""
    payload = request["payload"]
    return payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)


class Waits:
    """Limits on waiting that end at once when the service stops."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Timeout] = set()
        self._is_over = False

    @asynccontextmanager
    async def at_most(self, seconds: float) -> AsyncIterator[None]:
        """TimeoutError when what stands inside takes longer, or `call_off` is called meanwhile."""
        async with asyncio.timeout(0 if self._is_over else seconds) as bound:
            self._under_way.add(bound)
            try:
                yield
            finally:
                self._under_way.discard(bound)

    def call_off(self) -> None:
        """End every wait, also those that begin later."""
        self._is_over = True
        now_s = asyncio.get_running_loop().time()
        for bound in self._under_way:
            if not bound.expired():
                bound.reschedule(now_s)


class CommandSender:
    """Sends each command by the transport that its request names: `ways` are senders by `via`."""

    prefetch = PREFETCH

    def __init__(self, ways: Mapping[str, ActionSender], now_ms: Callable[[], int], waits: Waits) -> None:
        self._ways = dict(ways)
        self._waits = waits
        self._now_ms = now_ms
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Try each once, in parallel: all wait for the same connection, each until it expires."""
        for item in items:
            task = asyncio.get_running_loop().create_task(self._submitted(item, done))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def trouble(self) -> str | None:
        """Why commands are not even tried; None while that is not so."""
        looks = [look for way in self._ways.values() if (look := getattr(way, "part_trouble", None)) is not None]
        return next((found for look in looks if (found := look()) is not None), None)

    async def _submitted(self, item: OutboxItem, done: Done) -> None:
        began_ns = time.monotonic_ns()
        answer: Attempted
        try:
            answer = await self.send(item)
        except Exception as error:
            log.error(Event.SENDER_FAILED, action=item.action, delivery=item.id, rule=item.rule, exc_info=error)
            answer = RetryLater(reason="the sender raised an unexpected error; see the log", may_have_arrived=True)
        took_ms = (time.monotonic_ns() - began_ns) // 1_000_000
        done([Outcome(id=item.id, answer=answer, attempted_at_ms=self._now_ms(), duration_ms=took_ms)])

    async def send(self, item: OutboxItem) -> Attempted:
        """Try once, never beyond the command's life."""
        via = item.request.get("via")
        way = self._ways.get(str(via))
        if way is None:
            return Rejected(reason=f"commands via {via} are not configured: set `mqtt`")
        return await way.send(item)

    def stop_waiting(self) -> None:
        """The service stops: commands that wait for a connection are returned to the outbox."""
        self._waits.call_off()

    async def close(self) -> None:
        """Close every transport; commands without an outcome stay without."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for way in self._ways.values():
            await way.close()
