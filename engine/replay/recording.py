"""The file with the events to replay, whatever tools made of it: packed, in another encoding, with lines beyond all bounds.

Read `opened`, then `chunks_of`.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from typing import IO, Final, NamedTuple, Protocol

from engine.errors import BadRecording
from engine.sources.acceptance import MAX_LINE_BYTES, wide_encoding
from engine.sources.wire import BYTE_ORDER_MARK, with_line_feeds

CHUNK_BYTES = 256 * 1024
"""Bytes of input decoded at once."""

_START_BYTES: Final = 8
"""Bytes that tell what kind of file it is."""

_GZIP: Final = b"\x1f\x8b"
_PACKED: Final = {
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
"""How packed files begin that are not read, what they are called, and what unpacks them."""


class LongLine(NamedTuple):
    """A line that is too long for an event: its length and its first bytes."""

    length: int
    start: bytes


class _Readable(Protocol):
    """What is needed of an open file."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many; none at the end."""
        ...


def opened(file: IO[bytes], name: str) -> _Readable:
    """The text of an open recording, unpacked if it is packed with gzip.

    Raises BadRecording: it is packed otherwise, or in another encoding.
    """
    if isinstance(file, io.BufferedReader):
        start = file.peek(_START_BYTES)
    else:
        start = file.read(_START_BYTES)
        file.seek(0)
    if start.startswith(_GZIP):
        return _Unpacked(file, name)
    for magic, (kind, command) in _PACKED.items():
        if start.startswith(magic):
            raise BadRecording(f"{name} is packed with {kind}: `{command} {name} | rollcall replay -`")
    if encoding := wide_encoding(start):
        raise BadRecording(f"{name} is {encoding}; save it as UTF-8")
    return file


class _Unpacked:
    """A file that is packed with gzip."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = gzip.GzipFile(fileobj=file)
        self._name = name

    def read(self, size: int, /) -> bytes:
        """See `_Readable`."""
        try:
            return self._file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadRecording(f"{self._name} is damaged: it cannot be unpacked to its end") from error


def kind_problem(path: str) -> str | None:
    """Why a path cannot be read like a file or a pipe, as far as its kind tells; None when it can."""
    mode = os.stat(path).st_mode
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        return f"{path} is {'a socket' if stat.S_ISSOCK(mode) else 'a device'}, not a file"
    if stat.S_ISCHR(mode) and not os.path.samefile(path, os.devnull):
        with open(path, "rb", buffering=0) as device:
            return None if device.isatty() else f"{path} is a device, not a file"
    return None


def chunks_of(file: _Readable) -> Iterator[bytes | LongLine]:
    """A recording in chunks of whole lines (the last may lack its line break), with line feeds as line ends.

    Only a chunk is in memory at a time: a longer line is counted and passed over, and NULs before a line are dropped.
    """
    rest = b""
    while data := file.read(CHUNK_BYTES):
        data = rest + data
        if data.startswith((b"\0", BYTE_ORDER_MARK)):
            data = data.lstrip(b"\0").removeprefix(BYTE_ORDER_MARK).lstrip(b"\0")
        split = b"\r" if data.endswith(b"\r") else b""  # its line feed may be the next byte
        lines = with_line_feeds(data[: len(data) - len(split)])
        end = lines.rfind(b"\n") + 1
        rest = lines[end:] + split
        if end:
            yield lines[:end]
        elif len(rest) > MAX_LINE_BYTES:
            length, after = _end_of_line(file, len(rest))
            yield LongLine(length, rest[:MAX_LINE_BYTES])
            rest = after
    if rest:
        yield rest


def _end_of_line(file: _Readable, length: int) -> tuple[int, bytes]:
    """The length of a line of which so many bytes were read, and what was read behind it."""
    while data := file.read(CHUNK_BYTES):
        end = data.find(b"\n")
        if end >= 0:
            return length + len(data[:end].rstrip(b"\r")), data[end + 1 :]
        length += len(data)
    return length, b""
