"""Sends commands to devices as an MQTT client, over one connection that is kept up while it is needed.

The connection is opened with the first command and then kept. When it is lost it is opened again, after growing pauses that
stay short compared to a command's life. A command waits here for a connection, and is dead when it expires first. The broker's
confirmation (PUBACK, PUBCOMP) is Delivered; with QoS 0 there is none, and what was written to the connection counts.

MQTT 5 is used where the broker supports it, because then the broker knows when a command expires; otherwise MQTT 3.1.1. Read
`MqttCommands.send`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import random
from collections.abc import Callable
from typing import Final

from engine.actions.base import Attempted, MaySend, OutboxItem, Rejected, RetryLater, Untried, always
from engine.actions.command.mqtt_client import STEADY_S, V5, V311, MqttConnection, MqttLogin, NotConnected
from engine.actions.command.sender import SHORTEST_MS, Command, Waits, command_of
from engine.errors import RollcallError
from engine.telemetry import Event, logger

log = logger(__name__)

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0
"""Between two attempts to connect: it doubles from the first to the longest, until a connection lasts for `STEADY_S`. Without the
pause, two clients with the same client id would disconnect each other at full speed."""

WAIT_S: Final = 10.0
"""How long one attempt waits for a connection; then the delivery shows why there is none."""


def signature_login(client_id: str, instance: str, access_key: str, secret: str) -> tuple[str, str]:
    """User name and password of the vendor's signature login: Base64(HMAC-SHA1(secret, client id))."""
    digest = hmac.new(secret.encode(), client_id.encode(), hashlib.sha1).digest()
    return f"Signature|{access_key}|{instance}", base64.b64encode(digest).decode()


class MqttCommands:
    """Sends commands from the event loop it is used on.

    `login` is called before each connection; it raises RollcallError when a secret is missing.
    """

    def __init__(
        self,
        login: Callable[[], MqttLogin],
        now_ms: Callable[[], int],
        waits: Waits | None = None,
        may_send: MaySend = always,
    ) -> None:
        self._login = login
        self._may_send = may_send
        self._waits = waits or Waits()
        self._now_ms = now_ms
        self._connection: MqttConnection | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._trouble = ""
        self._version = V5

    async def send(self, item: OutboxItem) -> Attempted:
        """Try once, never beyond the command's life."""
        try:
            command = command_of(item)
        except ValueError as broken:
            return Rejected(reason=str(broken))
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
        left_ms = self._left_ms(command)
        if left_ms < SHORTEST_MS:
            return self._too_late()
        loop = asyncio.get_running_loop()
        until_s = (
            loop.time() + left_ms / 1000
        )  # the clock may be put back meanwhile: that gives no command a longer life
        try:
            async with self._waits.at_most(min(WAIT_S, (left_ms - SHORTEST_MS) / 1000)):
                connection = await self._place()
        except TimeoutError:
            return self._too_late()
        try:
            if not self._may_send():
                return Untried()
            left_ms = min(self._left_ms(command), int((until_s - loop.time()) * 1000))
            return await connection.publish(command, left_ms) if left_ms >= SHORTEST_MS else self._too_late()
        finally:
            connection.room.release()

    def _left_ms(self, command: Command) -> int:
        return command.expires_at_ms - self._now_ms()

    def _too_late(self) -> RetryLater:
        """The answer when no attempt was made: it says nothing about the target, which is reconnected to by `_keep` alone."""
        return RetryLater(reason=self._trouble or "no connection was available in time", our_fault=True)

    async def _place(self) -> MqttConnection:
        """A connection that is up, with room for one more command: release its `room` afterwards."""
        while True:
            await self._up.wait()
            connection = self._connection
            if connection is None or connection.closed.is_set():
                await asyncio.sleep(0)  # `_keep` has not noticed yet
                continue
            await connection.room.acquire()
            if not connection.closed.is_set():
                return connection
            connection.room.release()

    async def close(self) -> None:
        """Disconnect from the broker."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    def part_trouble(self) -> str | None:
        """Why no connection is even tried; None while that is not so."""
        has_ended = self._keeper is not None and self._keeper.done()
        return "what keeps the MQTT connection has ended; the next command starts it again" if has_ended else None

    # Keeping it up

    async def _keep(self) -> None:
        """Connect, and again whenever it is lost."""
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = asyncio.get_running_loop().time()
            try:
                await self._connected_once()
            except RollcallError as error:
                self._disconnected(str(error))
            except Exception as fault:  # the next connection may work
                log.error(Event.COMMANDS_FAILED, exc_info=fault)
                self._trouble = f"internal error: {fault!r}"
            if asyncio.get_running_loop().time() - began_s > STEADY_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _connected_once(self) -> None:
        """One connection, from its beginning to its end."""
        connection = await self._open(self._login())
        self._connection, self._trouble = connection, ""
        self._up.set()
        log.info(Event.COMMANDS_CONNECTED, version="5" if connection.version == V5 else "3.1.1")
        try:
            await connection.live()
        finally:
            self._up.clear()
            self._connection = None
            connection.close()
        self._disconnected(connection.why)

    async def _open(self, login: MqttLogin) -> MqttConnection:
        """A connection of the newest MQTT version that the broker supports."""
        connection = MqttConnection(login, self._version, self._may_send)
        try:
            await connection.open()
        except NotConnected as error:
            if not error.try_older:
                raise
            connection = MqttConnection(login, V311, self._may_send)
            with contextlib.suppress(NotConnected):
                await connection.open()
                if error.is_certain:
                    self._version = V311
                return connection
            raise
        return connection

    def _disconnected(self, reason: str) -> None:
        """Log a reason once, and show it in deliveries that get no connection."""
        if reason != self._trouble:
            log.warning(Event.COMMANDS_DISCONNECTED, reason=reason)
        self._trouble = reason
