"""The body of one request, taken apart: one event, events on lines, or a JSON array of events. Read `decode_body`. Pure.

Whatever a body holds, it costs a bounded time and a bounded memory: long ones are decoded in pieces, and of the lines that are no events
only the first ones are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from engine.core.events import Rejection
from engine.errors import TooLarge
from engine.sources.acceptance import MAX_LINE_BYTES, wide_encoding
from engine.sources.wire import BYTE_ORDER_MARK, Decoded, decode_lines

MAX_BODY_LINES: Final = 300_000
"""Lines, or items of an array, in one body: more than that many of the shortest events do not fit into 16 MiB."""

MAX_ARRAY_COMMAS: Final = 5 * MAX_BODY_LINES
"""Commas in a JSON array; an event has at least three of them, and each item has one behind it."""

MAX_KEPT_REJECTIONS: Final = 1_000
"""Rejected lines of one body that are quarantined and answered; the others are counted."""

MAX_HOPELESS_LINES: Final = 10_000
"""Lines of a body that are looked at while none of them is an event; the others count as rejected."""

PIECE_BYTES: Final = 128 * 1024
PIECE_ITEMS: Final = 1_000
"""Text, and items of an array, that are decoded at once."""

LARGE_BYTES: Final = 512 * 1024

MANY_LINES: Final = 2_000
"""Bytes and lines that would hold up other requests if they were decoded between two of them."""

_BEGINS_AN_ARRAY: Final = re.compile(rb"\s*\[")
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_one: Final = msgspec.json.Decoder(msgspec.Raw)
_NO_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class DecodedBody(NamedTuple):
    """A decoded body; `rejected_more` lines were rejected besides those of `decoded`, which are the first ones."""

    decoded: Decoded
    rejected_more: int

    @property
    def rejected(self) -> int:
        """How many lines were rejected."""
        return len(self.decoded.rejected) + self.rejected_more


def is_laborious(body: bytes) -> bool:
    """Does decoding this body take so long that other requests would notice?"""
    if len(body) > LARGE_BYTES:
        return True
    many = body.count(b",") // 4 if _BEGINS_AN_ARRAY.match(body) else body.count(b"\n")
    return many > MANY_LINES


def decode_body(body: bytes, content_type: str, received_at_ms: int, max_future_ms: int) -> DecodedBody:
    """Decode a body; never raises for a line of it. Line numbers count from 1; in an array they are those of its items.

    Raises:
        TooLarge: more than `MAX_BODY_LINES`.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    if encoding := wide_encoding(body):
        reason = f"the body is {encoding}: send UTF-8"
        return DecodedBody(Decoded([], [], [Rejection(1, reason, body[:MAX_LINE_BYTES])], 0), 0)
    whole, more, hopeless = Decoded([], [], [], 0), 0, False
    for first_line, piece in _pieces(body, content_type):
        if hopeless:
            more += piece.count(b"\n") if isinstance(piece, bytes) else len(piece)
            continue
        found = decode_lines(piece, received_at_ms, max_future_ms, first_line=first_line)
        whole.events.extend(found.events)
        whole.raw.extend(found.raw)
        room = MAX_KEPT_REJECTIONS - len(whole.rejected)
        whole.rejected.extend(found.rejected[:room])
        more += max(0, len(found.rejected) - room)
        whole = whole._replace(future=whole.future + found.future)
        hopeless = not whole.events and len(whole.rejected) + more >= MAX_HOPELESS_LINES
    return DecodedBody(whole, more)


def _pieces(body: bytes, content_type: str) -> Iterator[tuple[int, bytes | Sequence[bytes]]]:
    """What to decode at once: the number of the first line, and lines or items."""
    items = _array(body) if _BEGINS_AN_ARRAY.match(body) else None
    if items is not None:
        for start in range(0, len(items), PIECE_ITEMS):
            yield start + 1, [_on_one_line(bytes(item)) for item in items[start : start + PIECE_ITEMS]]
        return
    lines = body.count(b"\n") + 1
    if lines > MAX_BODY_LINES:
        raise TooLarge(_too_many("lines", lines))
    if "ndjson" not in content_type.lower() and _is_one_document(body):
        yield 1, [body]
        return
    start, number = 0, 1
    while start < len(body):
        end = body.rfind(b"\n", start, start + PIECE_BYTES) + 1 if len(body) - start > PIECE_BYTES else len(body)
        if end <= start:  # one line is longer than a piece
            end = body.find(b"\n", start) + 1 or len(body)
        piece = body[start:end]
        yield number, piece
        start, number = end, number + piece.count(b"\n")


def _array(body: bytes) -> list[msgspec.Raw] | None:
    """The items of a JSON array, as they are written; None when it is none, such as lines of which the first begins like one."""
    commas = body.count(b",")
    if commas > MAX_ARRAY_COMMAS:
        raise TooLarge(_too_many("commas", commas))
    try:
        items = _items.decode(body)
    except _NO_JSON:
        return None
    if len(items) > MAX_BODY_LINES:
        raise TooLarge(_too_many("items", len(items)))
    return items


def _too_many(what: str, count: int) -> str:
    return f"the body has {count} {what}: too many for one request; send the events in several"


def _on_one_line(item: bytes) -> bytes:
    """JSON text without line breaks, which can only lie between two tokens."""
    return item.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in item or b"\r" in item else item


def _is_one_document(body: bytes) -> bool:
    """Whether a body is one JSON text over several lines, as people write them by hand."""
    if b"\n" not in body.strip():
        return False
    try:
        _one.decode(body)
    except _NO_JSON:
        return False
    return True
