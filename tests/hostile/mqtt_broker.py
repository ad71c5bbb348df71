"""A bad MQTT broker: `python -m tests.hostile.mqtt_broker` prints a port for each name in `BEHAVIOURS`.

A behaviour names what is different from a good broker: what it says to the login, and what it says after it, or to a message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from tests.hostile.serving import Line, serve

Says = bytes | Callable[[Line], None]

USER_PROPERTY = b"\x26\x00\x01a\x00\x01b"
"""One user property: 7 bytes, of which a login's answer may hold any number."""


def packet(first: int, body: bytes) -> bytes:
    """A packet of MQTT with its length."""
    return bytes([first]) + number(len(body)) + body


def number(value: int) -> bytes:
    found = b""
    while True:
        value, digit = divmod(value, 128)
        found += bytes([digit | (0x80 if value else 0)])
        if not value:
            return found


def connack(properties: int = 0) -> bytes:
    some = USER_PROPERTY * properties
    return packet(0x20, b"\x00\x00" + number(len(some)) + some)


def message(payload: bytes, qos: int = 0) -> bytes:
    """A PUBLISH to us."""
    topic = b"\x00\x03p/c" + (b"\x00\x07" if qos else b"")
    return packet(0x30 | qos << 1, topic + b"\x00" + payload)


def flood(unit: bytes) -> Callable[[Line], None]:
    return lambda line: line.flood(unit)


def drip(unit: bytes) -> Callable[[Line], None]:
    return lambda line: line.drip(unit)


def many(unit: bytes, count: int) -> Callable[[Line], None]:
    """So many, and then it is good."""

    def go(line: Line) -> None:
        for _ in range(count):
            line.say(unit)

    return go


def closes(line: Line) -> None:
    raise ConnectionAbortedError


BEHAVIOURS: dict[str, dict[str, Says]] = {
    "good": {},
    # the answer to the login
    "connack-100000-properties": {"login": connack(100_000)},
    "connack-1000-properties": {"login": connack(1_000)},
    "connack-claims-250-mb": {"login": b"\x20" + number(250_000_000)},
    "connack-held": {"login": Line.hold},
    "connack-dripping": {"login": drip(b"\x20\x7f")},
    "connack-malformed": {"login": packet(0x20, b"\x00\x00\x7f\x26\x00\xff\xffxx")},
    "connack-empty": {"login": packet(0x20, b"")},
    "connack-endless": {"login": flood(connack())},
    "http": {"login": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
    "length-malformed": {"login": b"\x20\xff\xff\xff\xff\x7f"},
    "kind-0": {"login": b"\x00\x00"},
    "closes": {"login": closes},
    "resets": {"login": Line.reset},
    # later
    "publishes-250-mb": {"then": b"\x30" + number(250_000_000) + b"\x00\x03p/c\x00" + b"x" * 100_000},
    "publishes-64-kb": {"then": message(b"x" * 64_000, qos=1)},
    "publishes-10000": {"then": many(message(b"hello") * 1_000, 10)},
    "publishes-endless": {"then": flood(message(b"x"))},
    "pings-endless": {"then": flood(b"\xd0\x00")},
    "confirms-endless": {"then": flood(packet(0x40, b"\x77\x77"))},
    "confirms-at-length": {"then": packet(0x40, b"\x77\x77\x00" + number(7_000) + USER_PROPERTY * 1_000)},
    "garbage-endless": {"then": flood(bytes(range(256)))},
    "disconnects-at-length": {"then": packet(0xE0, b"\x00" + number(700_000) + USER_PROPERTY * 100_000)},
    # to a message
    "never-confirms": {"message": b""},
    "confirms-another": {"message": packet(0x40, b"\x77\x77")},
    "confirms-malformed": {"message": packet(0x40, b"\x00")},
    "closes-at-message": {"message": closes},
}  # fmt: skip


def handle(said: dict[str, Says], line: Line) -> None:
    """One connection, to its end."""
    buffer = b""
    is_5 = True
    while True:
        while (found := _split(buffer)) is None:
            data = line.connection.recv(65536)
            if not data:
                return
            buffer += data
        first, body, buffer = found
        kind = first >> 4
        if kind == 1:
            is_5 = body[6] == 5
            good = connack() if is_5 else packet(0x20, b"\x00\x00")
            _give(line, said.get("login", good))
            _give(line, said.get("then", b""))
        elif kind == 3:
            (length,) = struct.unpack(">H", body[:2])
            _give(line, said.get("message", packet(0x40, body[2 + length : 4 + length])))
        elif kind == 12:
            line.say(b"\xd0\x00")


def _split(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """The first packet (its first byte and its body) and the rest; None when it is not complete."""
    length, at = 0, 1
    while at < len(buffer):
        length |= (buffer[at] & 0x7F) << (7 * (at - 1))
        at += 1
        if not buffer[at - 1] & 0x80:
            return (buffer[0], buffer[at : at + length], buffer[at + length :]) if len(buffer) >= at + length else None
    return None


def _give(line: Line, said: Says) -> None:
    if callable(said):
        said(line)
    elif said:
        line.say(said)


if __name__ == "__main__":
    serve({name: partial(handle, said) for name, said in BEHAVIOURS.items()})
