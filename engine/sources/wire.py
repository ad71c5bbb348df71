"""Bytes to events: the rules of acceptance, and the way to check a thousand lines at once.

What is accepted is decided by `_careful`, one line at a time, with a reason for each refusal. The speed comes from
`_all_at_once`: it proves for a whole batch that every line would pass, or gives up and leaves the batch to the careful way,
so both always agree (a property test holds this). Read `decode_lines`, then `_careful`. Pure: no clock, no I/O.

The proof needs four observations. A batch without backslashes shows its strings as they are, so bytes can be searched for
control characters; JSON itself forbids those below U+0020. A line break between `}` and `{` can only lie between two
documents, so where every break is one and there are as many documents as lines, each line is one document. A line no longer
than the allowance for unknown keys cannot exceed it. Everything else (types, lengths, ranges) is checked by the decoder.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, NoReturn

import msgspec
from msgspec import Meta

from engine.core.events import CONNECT, DISCONNECT, EVENT_TYPES, TCPCLEAN, LifecycleEvent, Rejection
from engine.errors import ClockSuspect

MAX_LINE_BYTES: Final = 64 * 1024
"""Bytes in the JSON text of one event; of longer ones only so much is kept in the quarantine."""

MAX_CLIENT_BYTES: Final = 256
MAX_CHANNEL_BYTES: Final = 64
MAX_IP_BYTES: Final = 64
"""Bytes of UTF-8 in a `clientId`, a `channelId` and a `clientIp`."""

MAX_UNKNOWN_BYTES: Final = 1024
"""Bytes of all unknown keys of one event together, counted as `"key":value,` with each value as it was written."""

SECONDS_BELOW: Final = 10**11
"""A `time` below this is in seconds, any other in milliseconds."""

EARLIEST_MS: Final = -62_135_596_800_000
LATEST_MS: Final = 253_402_300_799_999
"""The instants that a calendar with four-digit years can print, 0001-01-01 to 9999-12-31, epoch milliseconds."""

SUSPECT_BATCH: Final = 20
"""Lines a batch must have before its events in the future say something about our own clock."""

KNOWN_KEYS: Final = frozenset({"clientId", "time", "eventType", "channelId", "clientIp"})
_TYPES: Final = {name: name for name in (CONNECT, DISCONNECT, TCPCLEAN)}  # equal text to the one constant
_BLANKS: Final = b" \t\r\n"
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)
_MAX_NUMBER_CHARS: Final = 64  # no instant needs more; keeps `int` away from its own limit on digits
_C1_CONTROLS: Final = re.compile(rb"\xc2[\x80-\x9f]")  # U+0080 to U+009F in UTF-8
_NO_JSON: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


class Decoded(NamedTuple):
    """A decoded batch: `events` and `raw` (their JSON texts, each on one line) are parallel.

    `future` counts the rejections whose only fault is that they lie too far ahead of when they were received.
    """

    events: list[LifecycleEvent]
    raw: list[bytes]
    rejected: list[Rejection]
    future: int


class Replayed(NamedTuple):
    """Decoded lines of a recorded file: `lines`, `events`, `raw` and `received` are parallel.

    `received` holds what the line said of when it was received (epoch milliseconds), None where it said nothing.
    """

    lines: list[int]
    events: list[LifecycleEvent]
    raw: list[bytes]
    received: list[int | None]
    rejected: list[Rejection]


class Portion(NamedTuple):
    """As much of a decoded batch as one transaction takes."""

    events: Sequence[LifecycleEvent]
    raw: Sequence[bytes]
    rejected: Sequence[Rejection]


class _Wire(msgspec.Struct, gc=False):
    """An event as the broker words it, within limits that count characters: the same as bytes where all is ASCII."""

    clientId: Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_BYTES)]  # noqa: N815 - the broker's own names
    time: Annotated[int, Meta(ge=SECONDS_BELOW, le=LATEST_MS)]
    eventType: Literal["connect", "disconnect", "tcpclean"]  # noqa: N815
    channelId: Annotated[str, Meta(min_length=1, max_length=MAX_CHANNEL_BYTES)]  # noqa: N815
    clientIp: Annotated[str, Meta(max_length=MAX_IP_BYTES)] | None = ""  # noqa: N815


class _Recorded(_Wire, gc=False):
    """The same with the instant at which a recorder received it; −1 when the line does not say."""

    received_at: Annotated[int, Meta(ge=0, le=LATEST_MS)] = -1


class _Malformed(Exception):
    """The line is no acceptable event; the message says why, as the quarantine shows it."""


class _Future(_Malformed):
    """It would be acceptable, were it not dated so far ahead of when it was received."""


# Lax about one thing only, in these types: an integer may also be written as text ("1767225660000") or as a whole float.
_wire = msgspec.json.Decoder(_Wire, strict=False)
_recorded = msgspec.json.Decoder(_Recorded, strict=False)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder()


def decode_lines(
    raw: bytes | Sequence[bytes], received_at_ms: int, max_future_ms: int, *, tag: str | None = None, first_line: int = 1
) -> Decoded:
    """Decode a batch of events; never raises for what is in it.

    Args:
        raw: one JSON text a line, or one JSON text an item (an item may span lines). Blank ones are skipped but counted.
        received_at_ms: when the engine learned of them, epoch milliseconds.
        max_future_ms: how far a time may lie ahead of that.
        tag: the type that the transport says all of them have; stands in for a missing `eventType`.
        first_line: the number of the first line, for the rejections.
    """
    quick = _all_at_once(raw, _wire)
    if quick is not None:
        structs, lines = quick
        events = [_event(e) for e in structs]
        late_enough = max(map(itemgetter(2), events)) <= received_at_ms + max_future_ms
        if late_enough and (tag is None or all(e.type == tag for e in events)):
            return Decoded(events, lines, [], 0)
    return _one_by_one(raw, received_at_ms, max_future_ms, tag, first_line)


def decode_replay_lines(raw: bytes | Sequence[bytes], max_future_ms: int, *, first_line: int = 1) -> Replayed:
    """Decode lines of a recorded file, which may say when they were received (`received_at`, epoch milliseconds).

    Each line is judged by its own clock: `max_future_ms` ahead of its `received_at`, or of its own time without one. Give
    a thousand lines or more at once; arguments are as for `decode_lines`.
    """
    quick = _all_at_once(raw, _recorded)
    if quick is not None:
        structs, lines = quick
        received: list[int | None] = list(map(attrgetter("received_at"), structs))
        if all(e.time <= e.received_at + max_future_ms or e.received_at < 0 for e in structs):
            if -1 in received:
                received = [instant if instant != -1 else None for instant in received]
            numbers = list(range(first_line, first_line + len(lines)))
            return Replayed(numbers, [_event(e) for e in structs], lines, received, [])
    return _replay_one_by_one(raw, max_future_ms, first_line)


def suspect_clock(decoded: Decoded) -> None:
    """Make sure that a batch speaks against its events, not against our own clock.

    Raises:
        ClockSuspect: more than half of a batch of `SUSPECT_BATCH` or more lies in the future.
    """
    total = len(decoded.events) + len(decoded.rejected)
    if total >= SUSPECT_BATCH and decoded.future * 2 > total:
        raise ClockSuspect(f"{decoded.future} of {total} events lie in the future: is this machine's clock right?")


def portions(decoded: Decoded, size: int) -> Iterator[Portion]:
    """Cut a decoded batch into portions of at most `size` events and `size` rejections each; an empty one gives none."""
    events, raw, rejected = decoded.events, decoded.raw, decoded.rejected
    starts, faults = range(0, len(events), size), range(0, len(rejected), size)
    for start, fault in zip_longest(starts, faults):
        some = slice(start, start + size) if start is not None else slice(0)
        bad = slice(fault, fault + size) if fault is not None else slice(0)
        yield Portion(events[some], raw[some], rejected[bad])


def _event(wire: _Wire, new: Any = tuple.__new__, cls: type[LifecycleEvent] = LifecycleEvent) -> LifecycleEvent:
    """The event that a checked struct says. Goes around the named constructor, which takes twice as long."""
    event: LifecycleEvent = new(cls, (wire.clientId, wire.eventType, wire.time, wire.channelId, wire.clientIp or ""))
    return event


# The quick way: a whole batch, or nothing.


def _all_at_once[W: _Wire](raw, decoder):  # type: ignore[no-untyped-def]
    raise NotImplementedError
