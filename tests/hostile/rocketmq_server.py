"""Bad RocketMQ name servers and brokers: `ROCKETMQ` names all their ways to misbehave."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Final

from tests.hostile.bad_server import Behaviour, closes, exactly, garbage, resets, says_nothing, web_server


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
