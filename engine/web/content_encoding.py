"""Compressed request bodies: gzip, deflate and zstd, decompressed piece by piece. Read `encoding_of`, then `decompressed`.

A few bytes can stand for gigabytes, so nothing is decompressed further than the next piece that is asked for: whoever asks counts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from backports import zstd
from starlette.exceptions import HTTPException

from engine.errors import BadQuestion

ENCODINGS: Final = ("gzip", "deflate", "zstd")

PIECE_BYTES: Final = 1 << 20
"""Decompressed bytes of one piece, at most."""

FED_BYTES: Final = 64 * 1024
"""Compressed bytes that are given to the decompressor at once."""

MAX_STREAMS: Final = 1_000
"""Streams that may follow one another in one body, as when compressed files are appended to one another."""

MAX_WINDOW_LOG: Final = 23
"""zstd looks back 8 MiB at most: what RFC 9659 allows for HTTP, and what decompressing may cost in memory."""

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""What zlib calls the three formats."""

_PROBED_BYTES: Final = 512


class _Decompressor(Protocol):
    """What the decompressors of zlib and zstd have in common here."""

    def next(self, data: bytes) -> bytes:
        """Decompressed bytes, at most a piece; empty when it needs more data."""
        ...

    @property
    def is_at_end(self) -> bool: ...
    @property
    def unused(self) -> bytes: ...  # what followed the end of the stream


def encoding_of(values: Sequence[str]) -> str | None:
    """The encoding that the `Content-Encoding` headers name, None for none. Raises an HTTPException with 415."""
    names = [name.strip().lower() for value in values for name in value.split(",")]
    names = [name.removeprefix("x-") for name in names if name not in ("", "identity")]
    if not names:
        return None
    if len(names) == 1 and names[0] in ENCODINGS:
        return names[0]
    known = ", ".join(ENCODINGS)
    wrong = f"one Content-Encoding of {known} is possible, not {', '.join(names)[:60]}"
    raise HTTPException(415, wrong, {"Accept-Encoding": known})


def decompressed(body: bytes, encoding: str) -> Iterator[bytes]:
    """The decompressed body in pieces, none of them empty. Raises BadQuestion with the reason when it is not what it says."""
    if encoding == "zstd":
        return _pieces(body, encoding, _Zstd)
    wbits = _GZIP if encoding == "gzip" else _ZLIB if _begins_as_zlib(body) else _RAW
    return _pieces(body, encoding, lambda: _Zlib(wbits))


def _begins_as_zlib(body: bytes) -> bool:
    """`deflate` is a zlib stream (RFC 9110); some senders leave its header out."""
    try:
        zlib.decompressobj(_ZLIB).decompress(body[:_PROBED_BYTES], PIECE_BYTES)
    except zlib.error:
        return False
    return True


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits)

    def next(self, data: bytes) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, PIECE_BYTES)

    @property
    def is_at_end(self) -> bool:
        return self._zlib.eof

    @property
    def unused(self) -> bytes:
        return self._zlib.unused_data


class _Zstd:
    def __init__(self) -> None:
        self._zstd = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG})

    def next(self, data: bytes) -> bytes:
        return self._zstd.decompress(data, PIECE_BYTES)

    @property
    def is_at_end(self) -> bool:
        return self._zstd.eof

    @property
    def unused(self) -> bytes:
        return self._zstd.unused_data


def _pieces(body: bytes, encoding: str, begin: Callable[[], _Decompressor]) -> Iterator[bytes]:
    at, streams, stream, fed = 0, 1, begin(), b""
    try:
        while True:
            fed, at = (fed, at) if fed else (body[at : at + FED_BYTES], at + FED_BYTES)
            piece, is_last = stream.next(fed), not fed
            fed = b""
            while piece:
                yield piece
                piece = b"" if stream.is_at_end else stream.next(b"")
            if stream.is_at_end:
                fed = stream.unused or body[at : at + FED_BYTES]
                at += 0 if stream.unused else FED_BYTES
                if not fed.strip(b"\0") and not body[at:].strip(b"\0"):
                    return
                streams += 1
                if streams > MAX_STREAMS:
                    raise BadQuestion(f"the body has more than {MAX_STREAMS} {encoding} streams")
                stream = begin()
            elif is_last:
                raise BadQuestion(f"the {encoding} body is cut off: its stream has no end after {len(body)} bytes")
    except (zlib.error, zstd.ZstdError) as error:
        raise BadQuestion(f"the body is not {encoding}: {error}") from error
