"""The rules of acceptance for one event, said one at a time: what an event must be, and why a text is none.

`read_object` takes the JSON apart without looking into its values, `accept` checks them. How the same rules are
applied to thousands of lines at once is the business of `engine.sources.wire`. Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from engine.core.client_ids import MAX_CLIENT_BYTES
from engine.core.events import CONNECT, DISCONNECT, EVENT_TYPES, TCPCLEAN, LifecycleEvent

MAX_LINE_BYTES: Final = 64 * 1024
"""Bytes in the JSON text of one event; of longer ones only so much is kept in the quarantine."""

MAX_CHANNEL_BYTES: Final = 64
MAX_IP_BYTES: Final = 64
"""Bytes of UTF-8 in a `channelId` and a `clientIp`."""

MAX_UNKNOWN_BYTES: Final = 1024
"""Bytes of all unknown keys of one event together, counted as `"key":value,` with each value as it was written."""

SECONDS_BELOW: Final = 10**11
"""A `time` below this is in seconds, any other in milliseconds."""

EARLIEST_MS: Final = -62_135_596_800_000
LATEST_MS: Final = 253_402_300_799_999
"""The instants that a calendar with four-digit years can print, 0001-01-01 to 9999-12-31, epoch milliseconds."""

AHEAD_OF_TIME: Final = " in the future"
"""How the reason of an event ends that is refused for its date alone."""

KNOWN_KEYS: Final = frozenset({"clientId", "time", "eventType", "channelId", "clientIp"})
_TYPES: Final = {name: name for name in (CONNECT, DISCONNECT, TCPCLEAN)}  # equal text to the one constant
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)
_MAX_NUMBER_CHARS: Final = 64  # no instant needs more; keeps `int` away from its own limit on digits
_UTF_32: Final = re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|[^\0]\0\0\0[^\0]\0\0\0|\0\0\0[^\0]\0\0\0[^\0]")
_UTF_16: Final = re.compile(rb"\xff\xfe|\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]")  # a mark, or two characters of ASCII
CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # all of Unicode's category Cc
_NO_JSON: Final = (msgspec.DecodeError, UnicodeError, RecursionError)

_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value: Final = msgspec.json.Decoder()


NO_ARRAY: Final = (
    " but an array: write one event per line; only a whole HTTP body may be an array, and must be valid JSON then"
)


class Malformed(Exception):
    """The line is no acceptable event; the message says why, as the quarantine shows it."""


class TooFarAhead(Malformed):
    """It would be acceptable, were it not dated so far ahead of when it was received."""


def read_object(document: bytes) -> dict[str, msgspec.Raw]:
    """The object that one JSON text is, its values still as written; of a key written twice, the last."""
    if len(document) > MAX_LINE_BYTES:
        raise Malformed(f"the event is {len(document)} bytes long, {MAX_LINE_BYTES} are allowed")
    try:
        document.decode()
        body = _object.decode(document)
        shadowed = _shadowed_bytes(document, body) if len(document) > MAX_UNKNOWN_BYTES else 0
    except msgspec.ValidationError as error:
        is_array = document.lstrip()[:1] == b"["
        raise Malformed(f"not a JSON object{NO_ARRAY if is_array else ''}") from error
    except RecursionError as error:
        raise Malformed("JSON nested too deep") from error
    except _NO_JSON as error:
        encoding = wide_encoding(document)
        if encoding:
            raise Malformed(f"this is {encoding}; it must be UTF-8") from error
        if isinstance(error, UnicodeDecodeError):
            raise Malformed(f"not UTF-8 at byte {error.start}") from error
        raise Malformed(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from error
    if shadowed > MAX_UNKNOWN_BYTES:
        raise Malformed(f"keys that are written more than once hold {shadowed} bytes, {MAX_UNKNOWN_BYTES} are allowed")
    return body


def _shadowed_bytes(document: bytes, body: dict[str, msgspec.Raw]) -> int:
    """How much of a JSON object, blanks aside, is in no value that counts: of a key written twice, only the last does."""
    counted = sum(
        len(key.encode()) + len(msgspec.json.format(bytes(value), indent=-1)) + 4 for key, value in body.items()
    )
    return len(msgspec.json.format(document, indent=-1)) - counted


def wide_encoding(start: bytes) -> str:
    """UTF-16 or UTF-32, when a text that should be JSON begins like that; otherwise nothing."""
    if _UTF_32.match(start):
        return "UTF-32"
    return "UTF-16" if _UTF_16.match(start) else ""


def accept(body: dict[str, msgspec.Raw], tag: str | None) -> LifecycleEvent:
    """The event that an object says, but for how far ahead its time lies.

    Raises:
        Malformed: it breaks a rule; the first one broken in the order of the keys below.
    """
    unknown = sum(len(key.encode()) + len(bytes(value)) + 4 for key, value in body.items() if key not in KNOWN_KEYS)
    if unknown > MAX_UNKNOWN_BYTES:
        raise Malformed(f"unknown keys hold {unknown} bytes, {MAX_UNKNOWN_BYTES} are allowed")
    client = _text(body, "clientId", MAX_CLIENT_BYTES)
    occurred_at_ms = _time(_told(body, "time"))
    event_type = tag if tag is not None and "eventType" not in body else _told(body, "eventType")
    if not isinstance(event_type, str) or not event_type:
        raise Malformed("eventType is empty" if event_type == "" else "eventType is not text")
    if event_type not in EVENT_TYPES:
        raise Malformed(f"unknown eventType {_shown(event_type)}")
    channel = _text(body, "channelId", MAX_CHANNEL_BYTES)
    ip = _text(body, "clientIp", MAX_IP_BYTES) if _has_ip(body) else ""
    if tag is not None and tag != event_type:
        raise Malformed(f"eventType is {event_type}, but the message is tagged {_shown(tag)}")
    return LifecycleEvent(client, _TYPES[event_type], occurred_at_ms, channel, ip)


def _told(body: dict[str, msgspec.Raw], key: str) -> object:
    """The value of a key that has to be there."""
    if key not in body:
        raise Malformed(f"{key} is missing")
    try:
        value: object = _value.decode(body[key])
    except _NO_JSON as error:
        raise Malformed(f"{key} cannot be read: {error}") from error
    return value


def _has_ip(body: dict[str, msgspec.Raw]) -> bool:
    """Whether there is a `clientIp` to check: a missing one, null and an empty text all say that it is not known."""
    return "clientIp" in body and _told(body, "clientIp") not in (None, "")


def _text(body: dict[str, msgspec.Raw], key: str, max_bytes: int) -> str:
    value = _told(body, key)
    if not isinstance(value, str):
        raise Malformed(f"{key} is not text")
    if not value:
        raise Malformed(f"{key} is empty")
    size = len(value.encode())
    if size > max_bytes:
        raise Malformed(f"{key} is {size} bytes long, {max_bytes} are allowed")
    if CONTROLS.search(value) is not None:
        raise Malformed(f"{key} holds a control character")
    return value


def _number(value: object, key: str) -> int | float:
    """A finite number, also one written as text. Truth values are none, though Python counts with them."""
    if isinstance(value, str):
        if len(value) > _MAX_NUMBER_CHARS or _NUMBER.fullmatch(value) is None:
            raise Malformed(f"{key} {_shown(value)} is not a number")
        value = int(value) if value.lstrip("+-").isdigit() else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{key} is not a number")
    if isinstance(value, float) and not math.isfinite(value):  # a long integer would not even survive the question
        raise Malformed(f"{key} is not a finite number")
    return value


def _time(value: object) -> int:
    """An instant in epoch milliseconds, from seconds or milliseconds."""
    number = _number(value, "time")
    instant_ms = number * 1000 if number < SECONDS_BELOW else number
    if not EARLIEST_MS <= instant_ms <= LATEST_MS:  # asked before rounding, which infinity does not survive
        raise Malformed("time lies outside the years 1 to 9999")
    return round(instant_ms)


def read_received_at(value: msgspec.Raw | None) -> int | None:
    """When a recorder received the line, epoch milliseconds; None when it does not say."""
    if value is None:
        return None
    number = _number(_told({"received_at": value}, "received_at"), "received_at")
    if not 0 <= round(number) <= LATEST_MS:
        raise Malformed("received_at lies outside the years 1970 to 9999")
    return round(number)


def ahead_of_time(ahead_ms: int) -> TooFarAhead:
    """The refusal of an event whose time lies so far ahead of when it was received."""
    return TooFarAhead(f"time lies {ahead_ms / 1000:g} s{AHEAD_OF_TIME}")


def is_ahead_of_time(reason: str) -> bool:
    """Is this the reason of `ahead_of_time`?"""
    return reason.endswith(AHEAD_OF_TIME)


def _shown(text: str) -> str:
    """Text of a stranger inside a reason: quoted, escaped, short."""
    return repr(text[:40])
