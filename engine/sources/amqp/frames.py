"""Every frame of the broker is checked here before the AMQP library parses it. Pure: bytes in, bytes out.

The library believes a length before login, keeps a message in memory however long it is, and raises whatever its parser raises for
what it cannot read: a message like that, delivered again and again, would keep a source from ever reading another. So the guard bounds
frames, cuts messages above the longest event, empties what the library could not parse, and says in words what breaks the protocol.
Read `FrameGuard`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pamqp.frame

from engine.core.foreign_text import foreign_text
from engine.errors import RollcallError
from engine.sources.acceptance import MAX_LINE_BYTES

MAX_FRAME_BYTES: Final = 128 * 1024
"""Payload of one frame, before and after the login; no larger one is agreed on. It is what brokers propose by default."""

MIN_FRAME_BYTES: Final = 4096
"""The least that the protocol allows to agree on."""

MAX_LOGIN_FRAMES: Final = 16
"""Frames before the login is over: three or four do."""

MAX_MESSAGE_BYTES: Final = 128 * 2**20
"""A message that says it is longer than this is no message: it is the most that brokers accept by default."""

MESSAGE_S: Final = 120.0
"""How long the parts of one message may take to arrive."""

KEPT_BYTES: Final = MAX_LINE_BYTES + 1
"""Of a body: just too long to be an event, so that a longer one is rejected for its length."""

MAX_CHANNEL: Final = 16
"""Channels that a broker may speak on; two are open."""

MAX_SIGNS: Final = 1_000
SIGNS_S: Final = 1.0
"""Frames without a message that a broker may send in so many seconds; more of them keep the engine busy for nothing."""

HEAD: Final = struct.Struct(">BHI")
HEAD_BYTES: Final = HEAD.size
END: Final = b"\xce"
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_OPEN_OK, _TUNE, _DELIVER = (10, 41), (10, 30), (60, 60)
_IDS: Final = struct.Struct(">HH")
_TUNED: Final = struct.Struct(">HHHIH")
_CONTENT: Final = struct.Struct(">HHQ")
_NO_PROPERTIES: Final = b"\x00\x00"


class BadFrame(RollcallError):
    """The broker breaks the protocol, or a limit; the message says how."""


@dataclass(slots=True)
class _Content:
    """A message that is arriving: bytes still to come, and how many of them are kept."""

    left: int
    kept: int
    since_s: float


class FrameGuard:
    """Judges frame after frame of one connection. `clock_s` is monotonic."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._frames = 0
        self._is_logged_in = False
        self._delivered: set[int] = set()  # channels with a delivery whose message has not begun
        self._arriving: dict[int, _Content] = {}
        self._readable = b""  # the properties that the library has read last: most messages have the same
        self._signs = 0
        self._signs_since_s = clock_s()

    def length_of(self, head: bytes) -> int:
        """The payload's length that a frame's first seven bytes announce. BadFrame for what is no frame."""
        if head[:4] == b"AMQP" and not self._frames:
            raise BadFrame("it answers with another version of AMQP, and 0-9-1 is needed")
        kind, channel, size = HEAD.unpack(head)
        if kind not in (_METHOD, _HEADER, _BODY, _HEARTBEAT) or channel > MAX_CHANNEL:
            what = foreign_text(head, 40)
            raise BadFrame(f"it does not speak AMQP 0-9-1 (it sent “{what}”)")
        if size > MAX_FRAME_BYTES:
            raise BadFrame(f"it announced a frame of {size} bytes, {MAX_FRAME_BYTES} are allowed")
        self._frames += 1
        if not self._is_logged_in and self._frames > MAX_LOGIN_FRAMES:
            raise BadFrame(f"it sent {self._frames} frames, and the login is still not over")
        return int(size)

    def pass_on(self, head: bytes, rest: bytes) -> bytes:
        """The frame as the library may have it; empty: not at all. `rest` is the payload and the byte behind it."""
        if rest[-1:] != END:
            raise BadFrame("it sent a frame without its end")
        kind, channel, _ = HEAD.unpack(head)
        payload = rest[:-1]
        if kind == _BODY:
            return self._body(channel, payload)
        if kind == _HEADER:
            return self._header(channel, payload)
        if kind == _HEARTBEAT:
            self._count_signs()
            if payload or channel:
                raise BadFrame("it sent a heartbeat that is none")
            return head + rest
        return self._method(channel, payload)

    def _method(self, channel: int, payload: bytes) -> bytes:
        method = _IDS.unpack_from(payload) if len(payload) >= _IDS.size else (0, 0)
        if method == _DELIVER:
            if channel in self._delivered or channel in self._arriving:
                raise BadFrame("it began a message before the one before it was complete")
            self._delivered.add(channel)
            return _framed(_METHOD, channel, _delivered(payload))
        self._count_signs()
        made = _framed(_METHOD, channel, _tuned(payload) if method == _TUNE else payload)
        _parse(made)
        if method == _OPEN_OK:
            self._is_logged_in = True
        return made

    def _header(self, channel: int, payload: bytes) -> bytes:
        if len(payload) < _CONTENT.size + 2:
            raise BadFrame("it sent a message header that is too short")
        class_id, weight, size = _CONTENT.unpack_from(payload)
        if size > MAX_MESSAGE_BYTES:
            raise BadFrame(f"it announced a message of {size} bytes, {MAX_MESSAGE_BYTES} are allowed")
        if channel not in self._delivered:
            raise BadFrame("it sent the header of a message that it does not deliver")
        self._delivered.remove(channel)
        kept = min(size, KEPT_BYTES)
        if size:
            self._arriving[channel] = _Content(size, kept, self._clock_s())
        properties = payload[_CONTENT.size :]
        made = _framed(_HEADER, channel, _CONTENT.pack(class_id, weight, kept) + properties)
        if properties != self._readable:
            try:
                _parse(made)
            except BadFrame:  # the event's type may be lost with it; its body stands for itself
                return _framed(_HEADER, channel, _CONTENT.pack(class_id, weight, kept) + _NO_PROPERTIES)
            self._readable = properties
        return made

    def _body(self, channel: int, payload: bytes) -> bytes:
        content = self._arriving.get(channel)
        if content is None:
            raise BadFrame("it sent a part of a message that it had not announced")
        if self._clock_s() - content.since_s > MESSAGE_S:
            raise BadFrame(f"it sends a message for more than {MESSAGE_S:.0f} s")
        content.left -= len(payload)
        if content.left < 0:
            raise BadFrame("it sent a message that is longer than it had announced")
        if not payload:
            self._count_signs()
        kept = payload[: content.kept]
        content.kept -= len(kept)
        if not content.left:
            del self._arriving[channel]
        return _framed(_BODY, channel, kept) if kept else b""

    def _count_signs(self) -> None:
        now_s = self._clock_s()
        if now_s - self._signs_since_s > SIGNS_S:
            self._signs, self._signs_since_s = 0, now_s
        self._signs += 1
        if self._signs > MAX_SIGNS:
            raise BadFrame(f"it sent {MAX_SIGNS} frames without a message within {SIGNS_S:g} s")


def _framed(kind: int, channel: int, payload: bytes) -> bytes:
    return HEAD.pack(kind, channel, len(payload)) + payload + END


def _parse(made: bytes) -> None:
    """Let the library parse a frame. BadFrame for whatever it raises, also that a table is nested too deep for it."""
    try:
        pamqp.frame.unmarshal(made)
    except RecursionError as error:
        raise BadFrame("it sent a table that is nested too deep") from error
    except Exception as error:
        raise BadFrame(f"it sent a frame that cannot be read: {foreign_text(str(error), 100)}") from error


def _tuned(payload: bytes) -> bytes:
    """The broker's proposal with a frame size that we agree to: the library repeats it as its own."""
    if len(payload) != _TUNED.size:
        raise BadFrame("it proposes nothing that can be read")
    class_id, method_id, channels, frame_bytes, heartbeat_s = _TUNED.unpack(payload)
    if 0 < frame_bytes < MIN_FRAME_BYTES:
        raise BadFrame(f"it proposes frames of {frame_bytes} bytes, {MIN_FRAME_BYTES} is the least")
    agreed = min(frame_bytes or MAX_FRAME_BYTES, MAX_FRAME_BYTES)
    return _TUNED.pack(class_id, method_id, channels, agreed, heartbeat_s)


def _delivered(payload: bytes) -> bytes:
    """A delivery with names that are text: a publisher chooses the routing key, and the library reads it as UTF-8."""
    at = _IDS.size
    tag, at = _short(payload, at)
    number, at = payload[at : at + 9], at + 9  # the delivery's tag, and whether it is a redelivery
    exchange, at = _short(payload, at)
    key, at = _short(payload, at)
    if at != len(payload) or len(number) != 9:
        raise BadFrame("it sent a delivery that cannot be read")
    if payload.isascii() or all(map(_is_text, (tag, exchange, key))):
        return payload
    if not _is_text(tag):
        raise BadFrame("it sent a delivery for a consumer whose name is no text")
    texts = [name if _is_text(name) else b"" for name in (exchange, key)]
    return b"".join(
        (payload[: _IDS.size], bytes((len(tag),)), tag, number, *(bytes((len(text),)) + text for text in texts))
    )


def _short(payload: bytes, at: int) -> tuple[bytes, int]:
    """A short string and where it ends."""
    size = payload[at] if at < len(payload) else 0
    return payload[at + 1 : at + 1 + size], at + 1 + size


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
