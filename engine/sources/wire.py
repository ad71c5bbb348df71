"""Bytes to events, a thousand lines at once.

What is accepted is decided by `acceptance.accept`, one line at a time, with a reason for each refusal. The speed comes
from `_all_at_once`: it proves for a whole batch that every line would pass, or gives up and leaves the batch to the
careful way, so both always agree (a property test holds this). Read `decode_lines` first. Pure: no clock, no I/O.

The proof needs four observations. A batch without backslashes shows its strings as they are, so bytes can be searched
for control characters; JSON itself forbids those below U+0020. A line break between `}` and `{` can only lie between
two documents, so where every break is one and there are as many documents as lines, each line is one document. A line
no longer than the allowance for unknown keys cannot exceed it. Everything else (types, lengths, ranges) is checked by
the decoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from operator import itemgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from engine.core.client_ids import MAX_CLIENT_BYTES
from engine.core.events import EventFields, LifecycleEvent, Rejection
from engine.errors import ClockSuspect
from engine.sources.acceptance import (
    CONTROLS,
    LATEST_MS,
    MAX_CHANNEL_BYTES,
    MAX_IP_BYTES,
    MAX_LINE_BYTES,
    MAX_UNKNOWN_BYTES,
    SECONDS_BELOW,
    Malformed,
    TooFarAhead,
    accept,
    ahead_of_time,
    read_object,
    read_received_at,
)

SUSPECT_BATCH: Final = 20
"""Lines a batch must have before its events in the future say something about our own clock."""

BLANKS: Final = b" \t\r\n"
"""Bytes that mean nothing around a JSON text."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""What some editors write before a text in UTF-8."""

_BLOCK_LINES: Final = 32  # lines that share the fate of a bad one before they are looked at singly
# What a file may have before its first event. Possessive: a body of 16 MiB of it would else be remembered byte by byte, in 2 GB.
_NOTHING_FIRST: Final = re.compile(rb"(?:\xef\xbb\xbf|[\0 \t\r\n]++)++")
_LONE_CR: Final = re.compile(rb"(?<=\})\r(?![ \t\r]*+[\n,\]}])|(?<=[^:,\[ \t\r\n])\r(?=[ \t\r]*+\{)")
_C1_CONTROLS: Final = re.compile(rb"\xc2[\x80-\x9f]")  # U+0080 to U+009F in UTF-8


class Decoded(NamedTuple):
    """A decoded batch: `events` and `raw` (their JSON texts, each on one line) are parallel.

    `future` counts the rejections whose only fault is that they lie too far ahead of when they were received.
    """

    events: list[LifecycleEvent]
    raw: list[bytes]
    rejected: list[Rejection]
    future: int


class Replayed(NamedTuple):
    """Decoded lines of a recorded file: `lines` (their numbers), `events` and `received` are parallel.

    `received` holds what the line said of when it was received (epoch milliseconds), None where it said nothing.
    """

    lines: Sequence[int]
    events: list[EventFields]
    received: list[int | None]
    rejected: list[Rejection]


class Portion(NamedTuple):
    """As much of a decoded batch as one transaction takes."""

    events: Sequence[LifecycleEvent]
    raw: Sequence[bytes]
    rejected: Sequence[Rejection]


class _Wire(msgspec.Struct, gc=False):
    """An event as the broker words it, within limits that count characters: the same as bytes where all is ASCII.

    Its fields come in the order of those of `LifecycleEvent`. An address of null takes the careful way.
    """

    clientId: Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_BYTES)]
    eventType: Literal["connect", "disconnect", "tcpclean"]
    time: Annotated[int, Meta(ge=SECONDS_BELOW, le=LATEST_MS)]
    channelId: Annotated[str, Meta(min_length=1, max_length=MAX_CHANNEL_BYTES)]
    clientIp: Annotated[str, Meta(max_length=MAX_IP_BYTES)] = ""


class _Known(_Wire, gc=False, forbid_unknown_fields=True):
    """The same without any other key."""


class _Recorded(_Wire, gc=False):
    """The same with the instant at which a recorder received it; −1 when the line does not say."""

    received_at: Annotated[int, Meta(ge=0, le=LATEST_MS)] = -1


class _Allowed(NamedTuple):
    """What the receiving side demands of every event of a batch."""

    latest_ms: int  # no time may lie behind this
    received_at_ms: int
    tag: str | None


_W = TypeVar("_W", bound=_Wire)


# Lax about one thing only, in these types: an integer may also be written as text ("1767225660000") or as a whole
# float.
_wire = msgspec.json.Decoder(_Wire, strict=False)
_known = msgspec.json.Decoder(_Known, strict=False)
_recorded = msgspec.json.Decoder(_Recorded, strict=False)


def with_line_feeds(text: bytes) -> bytes:
    """The text with a line feed for each carriage return that alone ends a line; it keeps its length.

    Inside one JSON document a carriage return is a blank, so only those are taken for line ends that cannot stand in a document:
    between `}` and what is not its continuation, and before a `{` that nothing announces.
    """
    if b"\r" not in text or text.count(b"\r") == text.count(b"\r\n"):
        return text
    return _LONE_CR.sub(b"\n", text)


def decode_lines(
    raw: bytes | Sequence[bytes],
    received_at_ms: int,
    max_future_ms: int,
    *,
    tag: str | None = None,
    first_line: int = 1,
) -> Decoded:
    """Decode a batch of events; never raises for what is in it.

    Args:
        raw: one JSON text a line, or one JSON text an item (an item may span lines). Blank ones are skipped but
        counted.
        received_at_ms: when the engine learned of them, epoch milliseconds.
        max_future_ms: how far a time may lie ahead of that.
        tag: the type that the transport says all of them have; stands in for a missing `eventType`.
        first_line: the number of the first line, for the rejections.
    """
    allowed = _Allowed(received_at_ms + max_future_ms, received_at_ms, tag)
    quick = _all_at_once(raw, _wire)
    events = _quick_events(quick[0], allowed) if quick is not None else None
    if quick is not None and events is not None:
        return Decoded(events, quick[1], [], 0)
    return _in_blocks(_numbered(raw, first_line), allowed)


def decode_replay_lines(raw: bytes | Sequence[bytes], max_future_ms: int, *, first_line: int = 1) -> Replayed:
    """Decode lines of a recorded file, which may say when they were received (`received_at`, epoch milliseconds).

    Each line is judged by its own clock: `max_future_ms` ahead of its `received_at`, or of its own time without one.
    Give a thousand lines or more at once; arguments are as for `decode_lines`.
    """
    whole = _quick_replay(raw, max_future_ms)
    if whole is not None:
        events, received = whole
        return Replayed(range(first_line, first_line + len(events)), events, received, [])
    lines: list[int] = []
    replayed = Replayed(lines, [], [], [])
    numbered = _numbered(raw, first_line)
    for start in range(0, len(numbered), _BLOCK_LINES):
        block = numbered[start : start + _BLOCK_LINES]
        quick = _quick_replay([document for _, document in block], max_future_ms)
        if quick is None:
            lines += _replay_one_by_one(block, max_future_ms, replayed)
            continue
        events, received = quick
        lines += [number for number, _ in block]
        replayed.events.extend(events)
        replayed.received.extend(received)
    return replayed


def suspect_clock(decoded: Decoded) -> None:
    """Check that our own clock is not the reason why events lie in the future.

    Raises:
        ClockSuspect: more than half of a batch of `SUSPECT_BATCH` or more lies in the future.
    """
    total = len(decoded.events) + len(decoded.rejected)
    if total >= SUSPECT_BATCH and decoded.future * 2 > total:
        raise ClockSuspect(f"{decoded.future} of {total} events are dated in the future: check this machine's clock")


def portions(decoded: Decoded, size: int) -> Iterator[Portion]:
    """Cut a decoded batch into portions of at most `size` events and rejections each; an empty one gives none."""
    events, raw, rejected = decoded.events, decoded.raw, decoded.rejected
    starts, faults = range(0, len(events), size), range(0, len(rejected), size)
    for start, fault in zip_longest(starts, faults):
        some = slice(start, start + size) if start is not None else slice(0)
        bad = slice(fault, fault + size) if fault is not None else slice(0)
        yield Portion(events[some], raw[some], rejected[bad])


# The quick way: all or nothing.

_fields: Final[Callable[[_Wire], tuple[Any, ...]]] = msgspec.structs.astuple
_event_of: Final[Callable[[Iterable[Any]], LifecycleEvent]] = partial(tuple.__new__, LifecycleEvent)
"""The event that five fields make; goes around the named constructor, which takes three times as long."""


def _quick_events(structs: Sequence[_Wire], allowed: _Allowed) -> list[LifecycleEvent] | None:
    """The events that flawless structs say, or None when a time or a type among them is not allowed."""
    events = list(map(_event_of, map(_fields, structs)))
    if max(map(itemgetter(2), events)) > allowed.latest_ms:
        return None
    if allowed.tag is not None and any(event.type != allowed.tag for event in events):
        return None
    return events


def _all_at_once(
    raw: bytes | Sequence[bytes], decoder: msgspec.json.Decoder[_W]
) -> tuple[list[_W], list[bytes]] | None:
    """Structs and lines of a batch in which every line is a flawless event, or None: then it takes the careful way."""
    text = _one_document_a_line(raw)
    if text is None:
        return None
    lines = text.split(b"\n")
    if max(map(len, lines)) > MAX_UNKNOWN_BYTES:
        return None
    structs = _flawless(text, decoder)
    return None if structs is None else (structs, lines)


def _one_document_a_line(raw: bytes | Sequence[bytes]) -> bytes | None:
    """The batch as one text in which each line is one JSON object if the whole is JSON, or None."""
    text = raw if isinstance(raw, bytes) else b"\n".join(raw)
    if not isinstance(raw, bytes) and text.count(b"\n") != len(raw) - 1:
        return None  # an item of several lines has to be one document, which only the careful way checks
    text = text.rstrip(BLANKS)  # a blank first line would shift the numbers of the others
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
        if b"\r" in text:
            return None  # a blank between two tokens, which the careful way takes out of what is kept
    if not text.startswith(b"{") or not text.endswith(b"}") or text.count(b"}\n{") != text.count(b"\n"):
        return None
    return text


def _flawless(text: bytes, decoder: msgspec.json.Decoder[_W]) -> list[_W] | None:
    """The structs of a text of one document a line, or None when one of them is not plainly within its limits."""
    if not _shows_its_strings(text):
        return None
    try:
        structs = decoder.decode_lines(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if len(structs) != text.count(b"\n") + 1 or not (text.isascii() or _within_bytes(structs)):
        return None
    return structs


def _has_short_lines(text: bytes) -> bool:
    """Whether no line can be longer than `MAX_LINE_BYTES`: each half of so much holds a line break."""
    half = MAX_LINE_BYTES // 2
    return all(text.find(b"\n", start, start + half) >= 0 for start in range(0, len(text) - half, half))


def _shows_its_strings(text: bytes) -> bool:
    """Whether strings in this JSON can be read off its bytes, and hold no control character that JSON lets pass."""
    if b"\\" in text or b"\x7f" in text:
        return False
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return _C1_CONTROLS.search(text) is None


def _within_bytes(structs: Sequence[_Wire]) -> bool:
    """The limits in bytes, for text that is not all ASCII."""
    return all(
        len(e.clientId.encode()) <= MAX_CLIENT_BYTES
        and len(e.channelId.encode()) <= MAX_CHANNEL_BYTES
        and len(e.clientIp.encode()) <= MAX_IP_BYTES
        for e in structs
    )


# The careful way: line by line, with a reason.


def _numbered(raw: bytes | Sequence[bytes], first_line: int) -> list[tuple[int, bytes]]:
    """Number and text of each line (or item) that is not blank, without the blanks around it."""
    lines = with_line_feeds(raw).split(b"\n") if isinstance(raw, bytes) else raw
    numbered = [(number, _stripped(line)) for number, line in enumerate(lines, first_line)]
    return [(number, document) for number, document in numbered if document]


def _stripped(line: bytes) -> bytes:
    """A line without blanks around it, and without what is no part of a text: byte order marks and NULs before it.

    A file that was emptied while its writer goes on at the old offset begins with NULs. A line of nothing but NULs stays: it is
    refused.
    """
    document = line.strip(BLANKS)
    if not document.startswith(b"{") and (found := _NOTHING_FIRST.match(document)) is not None:
        return document[found.end() :] or (document if b"\0" in document else b"")
    return document


def _in_blocks(numbered: Sequence[tuple[int, bytes]], allowed: _Allowed) -> Decoded:
    """Decode what did not pass as a whole. Blocks take the quick way first, so a bad line costs the others little."""
    decoded = Decoded([], [], [], 0)
    for start in range(0, len(numbered), _BLOCK_LINES):
        block = numbered[start : start + _BLOCK_LINES]
        quick = _all_at_once([document for _, document in block], _wire)
        events = _quick_events(quick[0], allowed) if quick is not None else None
        if quick is not None and events is not None:
            decoded.events.extend(events)
            decoded.raw.extend(quick[1])
        else:
            decoded = decoded._replace(future=decoded.future + _one_by_one(block, allowed, decoded))
    return decoded


def _one_by_one(block: Sequence[tuple[int, bytes]], allowed: _Allowed, decoded: Decoded) -> int:
    """Add each line of a block to `decoded`; how many of them lie in the future."""
    future = 0
    for number, document in block:
        try:
            event = _quickly(document, allowed.tag) or accept(read_object(document), allowed.tag)
            if event.occurred_at_ms > allowed.latest_ms:
                raise ahead_of_time(event.occurred_at_ms - allowed.received_at_ms)
        except Malformed as fault:
            future += isinstance(fault, TooFarAhead)
            decoded.rejected.append(Rejection(number, str(fault), document[:MAX_LINE_BYTES]))
        else:
            decoded.events.append(event)
            decoded.raw.append(_on_one_line(document))
    return future


def _quick_replay(
    raw: bytes | Sequence[bytes], max_future_ms: int
) -> tuple[list[EventFields], list[int | None]] | None:
    """Events and received instants of recorded lines that are all flawless, or None."""
    plain = _plain_replay(raw) if isinstance(raw, bytes) else None
    if plain is not None:
        return plain, [None] * len(plain)
    quick = _all_at_once(raw, _recorded)
    if quick is None:
        return None
    rows = list(map(_fields, quick[0]))
    if any(row[5] >= 0 and row[2] - row[5] > max_future_ms for row in rows):
        return None
    received: list[int | None] = [row[5] if row[5] >= 0 else None for row in rows]
    return [row[:5] for row in rows], received


def _plain_replay(raw: bytes) -> list[EventFields] | None:
    """Events of lines that hold nothing but the broker's own keys, as most recordings do, or None: the shortest way."""
    text = _one_document_a_line(raw)
    if text is None or not _has_short_lines(text):
        return None
    structs = _flawless(text, _known)
    return None if structs is None else list(map(_fields, structs))


def _quickly(document: bytes, tag: str | None) -> LifecycleEvent | None:
    """The event of one line that is flawless but for escapes in it, or None when only the careful way can decide."""
    if len(document) > MAX_UNKNOWN_BYTES:
        return None
    try:
        document.decode()
        struct = _wire.decode(document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    client, event_type, _, channel, ip = fields = _fields(struct)
    plain = CONTROLS.search(client) is None and CONTROLS.search(channel) is None and CONTROLS.search(ip) is None
    if not plain or not _within_bytes((struct,)) or (tag is not None and tag != event_type):
        return None
    return _event_of(fields)


def _replay_one_by_one(block: Sequence[tuple[int, bytes]], max_future_ms: int, replayed: Replayed) -> list[int]:
    """Add each line of a block to `replayed`; the numbers of the accepted ones."""
    lines = []
    for number, document in block:
        try:
            body = read_object(document)
            received = read_received_at(body.pop("received_at", None))
            event = accept(body, None)
            if received is not None and event.occurred_at_ms - received > max_future_ms:
                raise ahead_of_time(event.occurred_at_ms - received)
        except Malformed as fault:
            replayed.rejected.append(Rejection(number, str(fault), document[:MAX_LINE_BYTES]))
        else:
            lines.append(number)
            replayed.events.append(event)
            replayed.received.append(received)
    return lines


def _on_one_line(document: bytes) -> bytes:
    """A JSON text without line breaks; inside strings JSON forbids them, so each is a blank between two tokens."""
    return document.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in document or b"\r" in document else document
