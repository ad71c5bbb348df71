"""What a broker sends, bounded before the MQTT library parses it, and what it is sent, as long as something may leave.

We only publish. So the packets that concern us are few and small: the answer to the login, confirmations, answers to pings, the end. The
library parses whatever comes, in the event loop of the engine: a login's answer with 100,000 properties takes it most of a minute. Here a
packet is measured by its first bytes. One that is too long ends the connection; messages that somebody publishes to our client id are left
out without being kept. Read `BoundedSocket.recv`.

The library queues what it is given and writes it when the connection takes it, and with QoS 2 a broker passes a command on only when the
last packet about it arrives. So whether something may leave is asked for each packet that is written: `BoundedSocket.send`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from engine.actions.base import MaySend, always
from engine.lookup import addresses

CONNECT_S: Final = 5.0
"""Timeout of resolving the name and connecting, of the TLS handshake, and of the answer to the login, each."""

LONGEST_ANSWER: Final = 8 * 1024
"""Bytes of an answer to the login, or of a goodbye."""

LONGEST_CONFIRMATION: Final = 1024
"""Bytes of any other packet for us."""

LONGEST_MESSAGE: Final = 256 * 1024
"""Bytes of a message that somebody publishes to us. It is not kept, but a connection must not be busy with it for minutes."""

READ_BYTES: Final = 16 * 1024
"""Taken from the connection at a time."""

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = (
    2,
    3,
    4,
    5,
    6,
    7,
    9,
    11,
    13,
    14,
)

LONGEST: Final = {
    CONNACK: LONGEST_ANSWER,
    DISCONNECT: LONGEST_ANSWER,
    PUBACK: LONGEST_CONFIRMATION,
    PUBREC: LONGEST_CONFIRMATION,
    PUBCOMP: LONGEST_CONFIRMATION,
    PINGRESP: LONGEST_CONFIRMATION,
}
"""The packets that the library sees, and how long each may be."""

LEFT_OUT: Final = frozenset({PUBLISH, PUBREL, SUBACK, UNSUBACK})
"""Packets that do not concern one who only publishes."""

LENGTH_BYTES: Final = 4
"""Of a packet's length at most (MQTT)."""


class NotMqtt(ConnectionError):
    """The broker sends what no broker sends to us; the message goes on after its address."""


class BoundedSocket:
    """A connection to a broker, as the library uses one. Everything else is the socket's own."""

    def __init__(self, connection: Any, may_send: MaySend = always) -> None:
        self._connection, self._may_send = connection, may_send
        self._unsent = 0  # bytes of the packet being written
        self._is_command = False  # is it about a command?
        self.is_barred = False  # was one not written, because nothing may leave?
        self._ready = bytearray()  # whole packets for the library
        self._packet = bytearray()  # the one that is coming, as far as it is kept
        self._body_left = -1  # of it; -1: its length is not known
        self._is_kept = False
        self._is_answered = False  # the login: nothing else comes first
        self.problem = ""
        self.packets = 0  # that came, also those left out
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def send(self, data: bytes) -> int:
        """Write as much of one packet as the connection takes. ConnectionError for one about a command while nothing may leave."""
        if not self._unsent:
            self._is_command = data[0] >> 4 in (PUBLISH, PUBREL)
        if self._is_command and not self._may_send():
            self.is_barred = True
            raise ConnectionError("nothing may leave now")
        sent = int(self._connection.send(data))
        self._unsent = len(data) - sent
        return sent

    def recv(self, count: int) -> bytes:
        """The next bytes of packets for us. BlockingIOError while there are none, empty at the end, NotMqtt for what is none."""
        if not self._ready:
            data = self._connection.recv(READ_BYTES)
            if not data:
                return b""
            self._take(data)
            if not self._ready:
                raise BlockingIOError
        found = bytes(self._ready[:count])
        del self._ready[:count]
        return found

    def has_more(self) -> bool:
        """Whether something is here that does not make the connection readable."""
        return bool(self._ready) or (isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0)

    def _take(self, data: bytes) -> None:
        """Cut what came into packets."""
        self.bytes += len(data)
        at = 0
        while at < len(data):
            if self._body_left < 0:
                self._packet.append(data[at])
                at += 1
                self._measure()
            else:
                some = min(self._body_left, len(data) - at)
                if self._is_kept:
                    self._packet += data[at : at + some]
                at += some
                self._body_left -= some
            if self._body_left == 0:
                self._finish()

    def _measure(self) -> None:
        """Decide about a packet as soon as its kind and its length are known."""
        head = self._packet
        kind = head[0] >> 4
        if (kind not in LONGEST and kind not in LEFT_OUT) or (kind != CONNACK and not self._is_answered):
            self._refuse("sends what is no MQTT")
        if len(head) == 1 or (head[-1] & 0x80 and len(head) <= LENGTH_BYTES):
            return
        if head[-1] & 0x80:
            self._refuse("sends what is no MQTT")
        length = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(head[1:]))
        if length > LONGEST.get(kind, LONGEST_MESSAGE):
            self._refuse(f"sends a packet of {length} bytes, more than any that is for us")
        self._body_left, self._is_kept = length, kind in LONGEST

    def _finish(self) -> None:
        self.packets += 1
        self._is_answered = True
        if self._is_kept:
            self._ready += self._packet
        self._packet.clear()
        self._body_left = -1

    def _refuse(self, problem: str) -> None:
        self.problem = problem
        raise NotMqtt(problem)


def connected(host: str, port: int, within_s: float) -> socket.socket:
    """A connection to the first address of a name that takes one. Raises OSError; TimeoutError when all of it takes longer."""
    until_s = time.monotonic() + within_s
    problem: OSError = OSError(f"the name {host} has no address")
    for family, kind, protocol, _, address in addresses(host, port, within_s):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(max(0.001, until_s - time.monotonic()))
            made.connect(address)
        except OSError as error:
            made.close()
            problem = error
        else:
            return made
    raise problem


class TlsSocket(ssl.SSLSocket):
    """Closed when its handshake fails; the library would leave it open, and wait for as long as a connection may be silent."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands in time, or close the socket."""
        try:
            self.settimeout(CONNECT_S)
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


async def in_thread(work: Callable[[], None]) -> None:
    """Run what blocks in a thread of its own: one that hangs must not take a place that the engine needs."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(problem: BaseException | None) -> None:
        if done.done():
            return  # nobody waits any more
        if problem is None:
            done.set_result(None)
        else:
            done.set_exception(problem)

    def run() -> None:
        problem: BaseException | None = None
        try:
            work()
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, problem)

    threading.Thread(target=run, name="mqtt connecting", daemon=True).start()
    await done
