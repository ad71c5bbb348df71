"""Where lines end in what was read of a file, and the portions of it that one batch takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from engine.sources.base import MAX_BATCH_EVENTS
from engine.sources.wire import decode_lines, with_line_feeds


class CutLine(NamedTuple):
    """The beginning of a line with which a file ended: its rest may be the beginning of the next file."""

    number: int
    start: bytes


def last_line_end(data: bytes) -> int:
    """Where the last complete line ends: after its line feed, or after a carriage return that alone ends a line. 0: no line does."""
    return data.rfind(b"\n") + 1 or with_line_feeds(data).rfind(b"\n") + 1


def is_event(line: bytes, now_ms: int, max_future_ms: int) -> bool:
    """Whether a text is one whole event, though perhaps dated in the future."""
    decoded = decode_lines([line], now_ms, max_future_ms)
    return bool(decoded.events) or decoded.future > 0


def pieces(data: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Split into pieces of one batch: the bytes of a piece, and its lines. The last line may lack its line break."""
    lines = with_line_feeds(data).split(b"\n")
    if not lines[-1]:
        lines.pop()
    start = 0
    for first in range(0, len(lines), MAX_BATCH_EVENTS):
        some = lines[first : first + MAX_BATCH_EVENTS]
        end = start + sum(map(len, some)) + len(some)
        yield data[start:end], some
        start = end
