"""As much of RocketMQ's remoting protocol as administering a broker takes: a process of `mqadmin` takes seconds a command."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Final, NamedTuple

UPDATE_TOPIC: Final = 17
MAX_OFFSET: Final = 30
MIN_OFFSET: Final = 31
ROUTE_OF_TOPIC: Final = 105
DELETE_TOPIC_IN_BROKER: Final = 215
DELETE_TOPIC_IN_NAME_SERVER: Final = 216
DELETE_EXPIRED: Final = 329
SUCCESS: Final = 0


class Answer(NamedTuple):
    """What a server said: a code, a remark, further fields, and its JSON body, if any."""

    code: int
    remark: str
    fields: dict[str, str]
    body: Any


def ask(address: str, code: int, **fields: object) -> Answer:
    """Ask a server at `host:port`."""
    told = {"code": code, "language": "OTHER", "version": 1, "opaque": 1, "flag": 0}
    header = json.dumps(told | {"extFields": {key: str(value) for key, value in fields.items()}}).encode()
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">ii", len(header) + 4, len(header)) + header)
        size, header_size = struct.unpack(">ii", _exactly(connection, 8))
        header_size &= 0xFFFFFF
        rest = _exactly(connection, size - 4)
    answer, body = json.loads(rest[:header_size]), rest[header_size:]
    fields_ = answer.get("extFields") or {}
    return Answer(answer["code"], answer.get("remark") or "", fields_, _relaxed(body) if body else None)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise ConnectionError("the server hung up")
        found += more
    return found


def _relaxed(body: bytes) -> Any:
    """The server's JSON, whose keys may be bare numbers; then its text."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
