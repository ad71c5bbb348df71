"""Bad brokers on real sockets: `AMQP` and `ROCKETMQ` name all their ways to misbehave, `BadServer` is one that does it.

A behaviour is a function of a connection; it may be changed while the server runs, and `relay` makes it a good one.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

Behaviour = Callable[[socket.socket], None]

DRIP_S: Final = 0.05


class BadServer:
    """Listens on loopback and does to every connection what `behaviour` says. `accepted` counts them."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def change(self, behaviour: Behaviour) -> None:
        """Behave otherwise from now on; open connections are cut."""
        self.behaviour = behaviour
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.add(connection)
            threading.Thread(target=self._one, args=(connection, self.behaviour), daemon=True).start()

    def _one(self, connection: socket.socket, behaviour: Behaviour) -> None:
        with suppress(OSError, EOFError), connection:
            behaviour(connection)
        self._open.discard(connection)

    def close(self) -> None:
        """Listen no longer, and cut every connection."""
        self._closed = True
        self._listener.close()
        self.change(self.behaviour)


@contextmanager
def bad_server(behaviour: Behaviour) -> Iterator[BadServer]:
    """A server that runs as long as the block."""
    server = BadServer(behaviour)
    try:
        yield server
    finally:
        server.close()


# What every kind of server can do


def closes(connection: socket.socket) -> None:
    """Close at once."""


def hangs_up(connection: socket.socket) -> None:
    """Close in the middle."""
    connection.shutdown(socket.SHUT_RDWR)


def resets(connection: socket.socket) -> None:
    """Reset at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says_nothing(connection: socket.socket) -> None:
    """Take what comes, and never answer."""
    while connection.recv(2**16):
        pass


def garbage(connection: socket.socket) -> None:
    """Bytes that mean nothing, without end."""
    while True:
        connection.sendall(bytes(range(255, -1, -1)) * 64)


def web_server(connection: socket.socket) -> None:
    """Another protocol."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    says_nothing(connection)


def relay(port: int) -> Behaviour:
    """Be what listens on another port."""

    def behave(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as good:
            back = threading.Thread(target=_copy, args=(good, connection), daemon=True)
            back.start()
            _copy(connection, good)
            back.join()

    return behave


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes. EOFError when the other side has closed."""
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


# AMQP 0-9-1


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


def after(*said: bytes, forever: bool = False, drip: bool = False) -> Behaviour:
    """Send these, perhaps without end or byte by byte, and then nothing."""
    talk = says(*said, forever=forever, drip=drip)

    def behave(connection: socket.socket) -> None:
        talk(connection)
        says_nothing(connection)

    return behave


def says(*said: bytes, forever: bool = False, drip: bool = False) -> Behaviour:
    """Send these, perhaps without end or byte by byte."""

    def behave(connection: socket.socket) -> None:
        for data in said:
            if drip:
                for byte in data:
                    connection.sendall(bytes((byte,)))
                    time.sleep(DRIP_S)
            connection.sendall(b"" if drip else data)
        while forever:
            connection.sendall(said[-1])

    return behave


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


# RocketMQ


def remoting(told: dict[str, Any], body: bytes = b"") -> bytes:
    """One frame of the remoting protocol."""
    header = json.dumps(told).encode()
    return struct.pack(">ii", 4 + len(header) + len(body), len(header)) + header + body


def answers(code: int, body: bytes = b"", **more: Any) -> Behaviour:
    """Answer every request with this."""

    def behave(connection: socket.socket) -> None:
        while True:
            asked = _asked(connection)
            told = {"code": code, "language": "JAVA", "version": 1, "opaque": asked["opaque"], "flag": 1}
            connection.sendall(remoting(told | more, body))

    return behave


def _asked(connection: socket.socket) -> dict[str, Any]:
    """The client's next request."""
    size, header_size = struct.unpack(">ii", exactly(connection, 8))
    found: dict[str, Any] = json.loads(exactly(connection, size - 4)[: header_size & 0xFFFFFF])
    return found


def route(broker: str, queues: int = 4, name: str = "broker-a") -> bytes:
    """Where a topic is, as a name server says it."""
    brokers = [{"brokerAddrs": {"0": broker}, "brokerName": name, "cluster": "tests"}]
    told = {"brokerName": name, "perm": 6, "readQueueNums": queues, "topicSynFlag": 0, "writeQueueNums": queues}
    return json.dumps({"brokerDatas": brokers, "filterServerTable": {}, "queueDatas": [told]}).encode()


def sends(data: bytes, *, forever: bool = False) -> Behaviour:
    """Wait for a request, and answer it with these bytes."""

    def behave(connection: socket.socket) -> None:
        exactly(connection, 4)
        connection.sendall(data)
        while forever:
            connection.sendall(data)
        says_nothing(connection)

    return behave


ROCKETMQ: Final[dict[str, Behaviour]] = {
    "closes": closes,
    "resets": resets,
    "says nothing": says_nothing,
    "garbage": garbage,
    "web server": web_server,
    "claims 2 GB": sends(struct.pack(">ii", 2**31 - 1, 20) + b"{" * 2**20, forever=True),
    "negative length": sends(struct.pack(">ii", -5, -5) + b"x" * 100),
    "header longer than frame": sends(struct.pack(">ii", 100, 90_000) + b"{" * 96),
    "header is no JSON": sends(struct.pack(">ii", 14, 10) + b"no json at all"),
    "nested header": sends(struct.pack(">ii", 200_004, 200_000) + b"[" * 200_000),
    "another code": answers(1, remark="\x1b[2Jno\nsuch thing"),
    "code as text": answers("zero"),  # type: ignore[arg-type]
    "body is no JSON": answers(0, b"\xff\xfe not json"),
    "body is another JSON": answers(0, b'{"brokerDatas": 7, "queueDatas": {"a": []}}'),
    "nested body": answers(0, b"[" * 200_000),
    "no queues": answers(0, b'{"brokerDatas": [], "queueDatas": []}'),
    "broker without an address": answers(0, route("no-such-broker.invalid:10911")),
    "broker on a port that is none": answers(0, route("127.0.0.1:x")),
    "broker nobody listens for": answers(0, route("127.0.0.1:1")),
    "a billion queues": answers(0, route("127.0.0.1:1", queues=10**9)),
    "broker named by control characters": answers(0, route("127.0.0.1:1", name="a\x1b[2J\n")),
    "broker with a long name": answers(0, route("127.0.0.1:1", name="b" * 5_000)),
}
"""What a name server, or a broker, can do."""
