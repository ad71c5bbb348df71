"""Bad AMQP brokers: `AMQP` names all their ways to misbehave. Bad RocketMQ servers are in `tests.hostile.rocketmq_server`."""

from __future__ import annotations

import socket
import struct
from typing import Final

from tests.hostile.bad_server import (
    Behaviour,
    after,
    closes,
    exactly,
    garbage,
    hangs_up,
    resets,
    says,
    says_nothing,
    web_server,
)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(class_id: int, method_id: int, rest: bytes = b"", channel: int = 0) -> bytes:
    """The frame of one method."""
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + rest)


def short(text: bytes) -> bytes:
    """A short string."""
    return bytes((len(text),)) + text


def long(text: bytes) -> bytes:
    """A long string, or a table."""
    return struct.pack(">I", len(text)) + text


def nested(depth: int) -> bytes:
    """The content of a table that holds a table, that holds …"""
    table = b""
    for _ in range(depth):
        table = short(b"k") + b"F" + long(table)
    return table


def capable() -> bytes:
    """The properties of a server that can what they all can."""
    abilities = (b"publisher_confirms", b"basic.nack", b"consumer_cancel_notify")
    return short(b"capabilities") + b"F" + long(b"".join(short(name) + b"t\x01" for name in abilities))


def start(table: bytes = capable(), mechanisms: bytes = b"PLAIN") -> bytes:
    """Connection.Start."""
    return method(10, 10, b"\x00\x09" + long(table) + long(mechanisms) + long(b"en_US"))


def tune(frame_bytes: int = 131_072) -> bytes:
    """Connection.Tune."""
    return method(10, 30, struct.pack(">HIH", 2047, frame_bytes, 10))


def _receive(connection: socket.socket) -> tuple[int, int, tuple[int, int], bytes]:
    """The client's next frame: kind, channel, method, arguments."""
    kind, channel, size = struct.unpack(">BHI", exactly(connection, 7))
    payload = exactly(connection, size + 1)[:-1]
    return kind, channel, struct.unpack_from(">HH", payload) if kind == 1 else (0, 0), payload[4:]


def let_in(first: bytes = start()) -> Behaviour:
    """Do all that comes before the login is over, beginning with this frame, and nothing after it."""

    def behave(connection: socket.socket) -> None:
        _let_in(connection, first)
        says_nothing(connection)

    return behave


def _let_in(connection: socket.socket, first: bytes = start()) -> None:
    exactly(connection, 8)
    connection.sendall(first)
    _receive(connection)
    connection.sendall(tune())
    while _receive(connection)[2] != (10, 40):
        pass
    connection.sendall(method(10, 41, short(b"")))


def consumed(then: Behaviour) -> Behaviour:
    """A good broker, that does beside that what is named once the client consumes."""

    def behave(connection: socket.socket) -> None:
        _let_in(connection)
        consuming = False
        while True:
            kind, channel, asked, arguments = _receive(connection)
            if kind == 8:
                continue
            if asked == (20, 10):  # Channel.Open
                connection.sendall(method(20, 11, long(b""), channel))
                if consuming:  # the second channel is the last thing that is opened
                    then(connection)
            elif asked == (50, 10):  # Queue.Declare
                connection.sendall(method(50, 11, short(b"STATUS") + struct.pack(">II", 0, 1), channel))
            elif asked == (60, 10):  # Basic.Qos
                connection.sendall(method(60, 11, b"", channel))
            elif asked == (60, 20):  # Basic.Consume
                queue_size = arguments[2]
                tag_size = arguments[3 + queue_size]
                connection.sendall(method(60, 21, arguments[3 + queue_size : 4 + queue_size + tag_size], channel))
                behave.tag = arguments[4 + queue_size : 4 + queue_size + tag_size]  # type: ignore[attr-defined]
                consuming = True

    return behave


def delivery(tag: bytes = b"", key: bytes = b"STATUS", number: int = 1) -> bytes:
    """Basic.Deliver on the first channel."""
    return method(60, 60, short(tag) + struct.pack(">Q?", number, False) + short(b"") + short(key), 1)


def content(size: int, properties: bytes = b"\x00\x00") -> bytes:
    """The header of a message on the first channel."""
    return frame(2, 1, struct.pack(">HHQ", 60, 0, size) + properties)


def claims(size: int) -> Behaviour:
    """A frame of an announced size, and bytes of it without end."""
    return after(struct.pack(">BHI", 1, 0, size), b"\x00" * 2**16, forever=True)


HEARTBEAT: Final = frame(8, 0, b"")

AMQP: Final[dict[str, tuple[Behaviour, str]]] = {
    "closes": (closes, "closed the connection during the login"),
    "resets": (resets, "127.0.0.1"),
    "says nothing": (says_nothing, "no answer"),
    "garbage": (garbage, "does not speak AMQP"),
    "web server": (web_server, "does not speak AMQP"),
    "another version": (after(b"AMQP\x00\x01\x00\x00"), "another version of AMQP"),
    "claims 4 GB": (claims(2**32 - 1), "announced a frame of 4294967295 bytes"),
    "claims 200 KB": (claims(200_000), "announced a frame of 200000 bytes"),
    "nested table": (after(start(nested(2_000))), "nested too deep"),
    "table cut short": (after(method(10, 10, b"\x00\x09" + struct.pack(">I", 9_999))), "cannot be read"),
    "unknown method": (after(method(99, 99)), "cannot be read"),
    "no end byte": (after(HEARTBEAT[:-1] + b"\x00"), "without its end"),
    "heartbeats only": (after(HEARTBEAT, forever=True), "127.0.0.1"),
    "drips": (after(start(short(b"k") + b"S" + long(b"x" * 500)), drip=True), "no answer"),
    "closes in a frame": (lambda connection: connection.sendall(start()[:20]), "closed the connection during"),
    "closes after the login": (consumed(hangs_up), "127.0.0.1"),
    "no capabilities": (let_in(start(b"")), "127.0.0.1"),
    "no mechanism": (after(start(mechanisms=b"KERBEROS_V9")), "127.0.0.1"),
    "foreign text": (after(start(), method(10, 50, struct.pack(">H", 403) + short(b"\x1b[2Jno\n") + b"\0\0\0\0")), "127.0.0.1"),
    "tiny frames": (after(start(), tune(100)), "frames of 100 bytes"),
    "body without header": (consumed(says(frame(3, 1, b"x"))), "had not announced"),
    "longer than announced": (consumed(says(delivery(), content(3), frame(3, 1, b"x" * 9))), "longer than it had announced"),
    "claims a message of 1 TB": (consumed(says(delivery(), content(2**40))), "announced a message of"),
    "two at once": (consumed(says(delivery(), content(9), delivery())), "before the one before it was complete"),
    "header without delivery": (consumed(says(content(0))), "that it does not deliver"),
    "strange channel": (consumed(says(frame(1, 900, b"\0\0\0\0"))), "does not speak AMQP"),
    "heartbeats without end": (consumed(says(HEARTBEAT * 500, forever=True)), "frames without a message"),
    "nested after the login": (consumed(says(start(nested(2_000)))), "nested too deep"),
    "garbage after the login": (consumed(garbage), "does not speak AMQP"),
}  # fmt: skip
"""What a broker can do, and what the source says about it."""
