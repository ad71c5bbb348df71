"""One connection to an MQTT broker, from login to loss, with paho-mqtt on the event loop.

Each connection has a client of its own, and nothing outlives it: paho would send again, however late, what a lost connection
left unconfirmed; here it is answered `RetryLater` at once, and the outbox decides whether there is still time.
paho calls back on the loop, except while connecting, which blocks and runs in a thread. Read `MqttConnection.open` and `MqttConnection.publish`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from engine.actions.base import Answer, Delivered, MaySend, Rejected, RetryLater, always
from engine.actions.command.mqtt_socket import CONNECT_S, LONGEST_ANSWER, BoundedSocket, TlsSocket, connected, in_thread
from engine.actions.command.sender import Command
from engine.errors import RollcallError
from engine.lookup import LookupTimeout

V5: Final = MQTTProtocolVersion.MQTTv5
V311: Final = MQTTProtocolVersion.MQTTv311

ACK_S: Final = 10.0
"""Longest that a broker may take to confirm a command; then the connection counts as dead."""

STEADY_S: Final = 10.0
"""A connection that lasted so long was a good one."""

KEEPALIVE_S: Final = 60
MISC_S: Final = 1.0
"""How often paho looks whether a ping is due."""

UNASKED_PACKETS: Final = 500
UNASKED_BYTES: Final = 64 * 1024
REST_S: Final = 0.05
"""After so many packets or bytes that nobody asked for the connection is not read for a while: a flood must not keep the event loop busy."""

UNANSWERED: Final = 16
"""Unconfirmed commands on a connection at most: below paho's own limit (20), above which it would queue them."""

HEADER_BYTES: Final = 512
"""More than what a packet holds besides topic, payload and command id."""

REFUSED_FOR_GOOD: Final = frozenset({0x87, 0x90, 0x99, 0x9B})
"""Refusals that another attempt would get again: not authorized, bad topic name, bad payload, QoS not supported."""

_UNSUPPORTED_VERSION: Final = 0x84
_NO_SUBSCRIBERS: Final = 0x10
_RESET: Final = struct.pack("ii", 1, 0)  # closing discards what was not sent


class _Client(Client):
    """paho's client, on connections whose packets are bounded before it parses them.

    The library has no other way to choose its socket; a test holds that it is used.
    """

    may_send: MaySend = staticmethod(always)

    def _create_socket_connection(self) -> socket.socket:
        return connected(self._host, self._port, CONNECT_S)

    def _create_socket(self) -> Any:
        return BoundedSocket(super()._create_socket(), self.may_send)


class NotConnected(RollcallError):
    """No connection could be made; the message says why.

    `try_older`: the broker may not support this version of MQTT. `is_certain`: it said so.
    """

    def __init__(self, message: str, *, try_older: bool = False, is_certain: bool = False) -> None:
        super().__init__(message)
        self.try_older, self.is_certain = try_older, is_certain


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttLogin:
    """Where to connect, and with which login. `ca`: a file of certificates to trust, "" for the system's, None without TLS."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = ""
    ca: str | None = None

    @property
    def address(self) -> str:
        """`host:port`, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        """Without the password."""
        return f"MqttLogin({self.client_id} at {self.address})"


class MqttConnection:
    """One connection. `open` it, let `live` run, `publish`; when it has ended, `closed` is set and `why` holds the reason."""

    def __init__(self, login: MqttLogin, version: MQTTProtocolVersion, may_send: MaySend = always) -> None:
        """`may_send`: asked for each packet of a command; when it says no, the connection ends and what was not sent is discarded."""
        self._loop = asyncio.get_running_loop()
        self._login = login
        self.version = version
        self.why = ""
        self.closed = asyncio.Event()
        self.room = asyncio.Semaphore(UNANSWERED)
        self._connack: asyncio.Future[tuple[ReasonCode, Properties | None]] = self._loop.create_future()
        self._unanswered: dict[int, asyncio.Future[ReasonCode]] = {}
        self._socket: BoundedSocket | None = None
        self._bounded: BoundedSocket | None = None  # the same; it stays when the library has given it up
        self._asked = 1  # packets that the broker owes us, or has owed us: the answer to the login
        self._fd = -1
        self._began_s = self._loop.time()
        self._max_qos = 2
        self._max_packet = 1 << 28
        clean = None if version == V5 else True
        self._client = _Client(
            CallbackAPIVersion.VERSION2, login.client_id, clean, protocol=version, reconnect_on_failure=False
        )
        self._client.may_send = may_send
        self._client.connect_timeout = CONNECT_S
        if login.username:
            self._client.username_pw_set(login.username, login.password)
        self._client.on_socket_open = lambda client, userdata, found: self._call(self._opened, found)
        self._client.on_socket_close = lambda client, userdata, found: self._forget_socket()
        self._client.on_socket_register_write = lambda client, userdata, found: self._call(self._want_to_write, True)
        self._client.on_socket_unregister_write = lambda client, userdata, found: self._call(self._want_to_write, False)
        self._client.on_connect = self._logged_in
        self._client.on_disconnect = self._disconnected
        self._client.on_publish = self._answered

    # Opening and closing

    async def open(self) -> None:
        """Connect and log in. Raises NotConnected with the reason."""
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                await in_thread(self._connect)
            async with asyncio.timeout(CONNECT_S):
                code, properties = await self._connack
        except TimeoutError as error:
            if self._socket is None:
                self._end(f"cannot connect to {self._login.address}: {_said(error)}")
            else:
                self._end(f"{self._login.address} accepts the connection but does not answer the login")
            raise NotConnected(self.why) from None
        except (OSError, ValueError) as error:
            self._end(f"cannot connect to {self._login.address}: {_said(error)}")
            raise NotConnected(self.why) from error
        except asyncio.CancelledError:
            self._end("closed")
            raise
        if code.is_failure:
            why = f"{self._login.address} refuses the login as {self._login.client_id}: {code.getName()}"
            self._end(why)
            is_old = self.version == V5 and code.value == _UNSUPPORTED_VERSION
            raise NotConnected(why, try_older=is_old, is_certain=is_old)
        if self.closed.is_set():
            raise NotConnected(self.why)
        self._agree(properties)

    def _connect(self) -> None:
        """The blocking part of connecting; runs in a thread."""
        if self._login.ca is not None:
            context = ssl.create_default_context(cafile=self._login.ca or None)
            context.sslsocket_class = TlsSocket
            self._client.tls_set_context(context)
        more: dict[str, Any] = {}
        if self.version == V5:
            limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            limits.MaximumPacketSize = LONGEST_ANSWER
            limits.RequestProblemInformation = 0
            more = {"clean_start": True, "properties": limits}
        self._client.connect(self._login.host, self._login.port, KEEPALIVE_S, **more)

    def _agree(self, properties: Properties | None) -> None:
        """Respect the limits that the broker announced at login."""
        limits = vars(properties) if properties is not None else {}
        self._max_qos = min(self._max_qos, limits.get("MaximumQoS", 2))
        self._max_packet = limits.get("MaximumPacketSize", self._max_packet)
        self.room = asyncio.Semaphore(min(UNANSWERED, limits.get("ReceiveMaximum", UNANSWERED)))

    async def live(self) -> None:
        """Keep the connection alive; returns when it has ended."""
        while not self.closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MISC_S):
                    await self.closed.wait()
            if not self.closed.is_set():
                self._client.loop_misc()

    def close(self) -> None:
        """Disconnect properly."""
        if not self.closed.is_set():
            self._client.disconnect()
            self._client.loop_write()
        self._end("closed", properly=True)

    def _end(self, why: str, *, properly: bool = False) -> None:
        """End the connection: unsent data is discarded, unconfirmed commands may have arrived."""
        if self.closed.is_set():
            return
        self.closed.set()
        self.why = why
        found = self._socket
        self._forget_socket()
        for name in ("on_socket_open", "on_socket_close", "on_socket_register_write", "on_socket_unregister_write"):
            setattr(self._client, name, None)
        if found is not None:
            with contextlib.suppress(OSError):
                if not properly:
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                found.close()
        if not self._connack.done():
            self._connack.cancel()
        for future in self._unanswered.values():
            if not future.done():
                future.cancel()
        self._unanswered.clear()

    # The socket

    def _call(self, work: Callable[[Any], None], argument: Any) -> None:
        """Run on the loop, whatever thread paho calls from."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(work, argument)

    def _opened(self, found: Any) -> None:
        if self.closed.is_set():
            found.close()  # the connection was ended meanwhile
            return
        self._socket = self._bounded = found
        self._fd = found.fileno()
        self._loop.add_reader(self._fd, self._readable)

    def _forget_socket(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
        self._socket, self._fd = None, -1

    def _want_to_write(self, wanted: bool) -> None:
        if self._fd < 0:
            return
        if wanted:
            self._loop.add_writer(self._fd, self._client.loop_write)
        else:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        """Read one packet, and come back for what is here already; rest when more comes than was asked for."""
        found = self._socket
        if found is None:
            return
        self._client.loop_read()
        if self._socket is not found:
            return
        if found.packets - self._asked > UNASKED_PACKETS or found.bytes > UNASKED_BYTES:
            found.packets, found.bytes, self._asked = 0, 0, 0
            self._loop.remove_reader(self._fd)
            self._loop.call_later(REST_S, self._read_again, found)
        elif found.has_more():
            self._loop.call_soon(self._read_again, found)

    def _read_again(self, found: BoundedSocket) -> None:
        if self._socket is found:
            self._loop.add_reader(self._fd, self._readable)
            self._readable()

    # Called by paho

    def _logged_in(
        self, client: Client, userdata: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if not self._connack.done():
            self._connack.set_result((code, properties))

    def _disconnected(
        self, client: Client, userdata: Any, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if self._bounded is not None and self._bounded.is_barred:
            self._end("nothing may leave now: another replica may be the one that sends")
            return
        if self._bounded is not None and self._bounded.problem:
            why = f"{self._login.address} {self._bounded.problem}"
            if not self._connack.done():
                self._connack.set_exception(NotConnected(why))
            self._end(why)
            return
        said = f": {code.getName()}" if flags.is_disconnect_packet_from_server else ""
        if self._connack.done():
            if not said and self._loop.time() - self._began_s < STEADY_S:
                # Many brokers close the older of two connections with one client id without giving a reason.
                said = f" soon after the login: does another client use the id {self._login.client_id}?"
            self._end(f"{self._login.address} closed the connection{said}")
        else:
            # Brokers that do not know the MQTT version may close without an answer.
            why = f"{self._login.address} closed the connection instead of answering the login{said}"
            self._connack.set_exception(NotConnected(why, try_older=self.version == V5))
            self._end(why)

    def _answered(
        self, client: Client, userdata: Any, number: int, code: ReasonCode, properties: Properties | None
    ) -> None:
        future = self._unanswered.pop(number, None)
        if future is not None and not future.done():
            future.set_result(code)

    # Commands

    async def publish(self, command: Command, left_ms: int) -> Answer:
        """Send one command that expires in `left_ms`, and wait for the broker's confirmation, never longer than that."""
        if len(command.payload) + len(command.topic.encode()) + HEADER_BYTES > self._max_packet:
            return Rejected(
                reason=f"the command is too large: the broker accepts packets of up to {self._max_packet} bytes"
            )
        number = self._send(command, left_ms)
        if number is None:
            return RetryLater(reason=f"the connection to {self._login.address} was lost", our_fault=True)
        future = self._unanswered[number] = self._loop.create_future()
        self._asked += 2  # at most: PUBREC and PUBCOMP
        wait_s = min(ACK_S, left_ms / 1000)
        try:
            async with asyncio.timeout(wait_s):
                return _judge(await future)
        except TimeoutError:
            why = f"{self._login.address} did not confirm a command within {wait_s:.0f} s"
            self._end(why)  # what is not sent yet must not arrive later
            return RetryLater(reason=why, may_have_arrived=True, our_fault=True)
        except asyncio.CancelledError:
            if not self.closed.is_set():
                raise
            return RetryLater(reason=self.why, may_have_arrived=True, our_fault=True)

    def _send(self, command: Command, left_ms: int) -> int | None:
        """The number under which paho sends it; None when the connection is gone."""
        if self.closed.is_set():
            return None
        properties = None
        if self.version == V5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = left_ms // 1000
            properties.UserProperty = [("command-id", command.key), ("expires-at", command.expires_at)]
        qos = min(command.qos, self._max_qos)
        sent = self._client.publish(command.topic, command.payload, qos, properties=properties)
        return sent.mid if sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None


def _judge(code: ReasonCode) -> Answer:
    """What the broker's answer to a command means."""
    if not code.is_failure:
        return Delivered(detail="no client is subscribed to the topic" if code.value == _NO_SUBSCRIBERS else "")
    said = f"the broker refuses the command: {code.getName()}"
    return Rejected(reason=said) if code.value in REFUSED_FOR_GOOD else RetryLater(reason=said)


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, LookupTimeout):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
