"""A growing file, read from a place that survives restarts: what `engine.sources.file.source` follows logs with.

A place is more than an offset. Files are renamed, copied and emptied, rewritten in place, and inodes are used again,
so a place also keeps fingerprints of the file's first bytes and of those just before the offset. Only a file that
shows both is continued; `Rewritten` is raised when the one at hand no longer does. Read `Tail.read`.
"""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from engine.sources.acceptance import MAX_LINE_BYTES, wide_encoding
from engine.sources.file.regular import open_regular, unpacked

CHUNK_BYTES: Final = 1024 * 1024
"""Bytes read at once: several thousand events, so that most batches are full. Longer than any line taken."""

HEAD_BYTES: Final = 4096
LAST_BYTES: Final = 256
"""Bytes that the fingerprints cover: of the file's start, and before the offset."""


class Rewritten(Exception):
    """What stands before the offset is not what was read; the message says how it shows."""


class WrongEncoding(OSError):
    """The file is no UTF-8 from its first character on; the message says what it is and what to do."""


class FilePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading stopped, in a form to be stored. Instants are epoch milliseconds, but for `mtime_ns`."""

    device: int
    inode: int
    offset: int
    line: int  # number of the next line, from 1
    skipping: bool = False  # inside a line that is too long
    long_from: int | None = None  # the offset at which that line began; None in the places of older versions
    head: str = ""  # fingerprint of the first min(HEAD_BYTES, offset) bytes
    last: str = ""  # fingerprint of the min(LAST_BYTES, offset) bytes before the offset
    mtime_ns: int = 0
    read_at_ms: int | None = None

    def text(self) -> str:
        """The place as JSON."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def parse(text: str | None) -> FilePlace | None:
        """The place that a text says; None for none, and for one that no version of this wrote."""
        try:
            return None if text is None else msgspec.json.decode(text, type=FilePlace)
        except (msgspec.MsgspecError, UnicodeError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChunk:
    """Bytes from the offset on; `at_end` when the file held no more of them at that moment."""

    data: bytes
    at_end: bool


class Tail:
    """An open file and how far it was read. `follows_links` says whether the path may be a symbolic link."""

    def __init__(self, path: Path, *, follows_links: bool = True, is_compressed: bool = False) -> None:
        """Open a file at its start.

        Raises:
            OSError: it cannot be opened, or is not a regular file.
        """
        self.path = path
        self._descriptor = open_regular(path, follows_links=follows_links)
        stat = os.fstat(self._descriptor)
        if is_compressed:
            self._descriptor = unpacked(self._descriptor)
        self.identity = (stat.st_dev, stat.st_ino)
        self.mtime_ns = stat.st_mtime_ns
        self.size = os.fstat(self._descriptor).st_size
        self._is_compressed = is_compressed
        self.offset = 0
        self.line = 1
        self.skipping = False
        self.long_from: int | None = None
        self._head = b""
        self._last = b""
        self._reserved = (-1, -1)  # the offset from which nothing but NULs was found, and the size of the file then

    def close(self) -> None:
        """Give the file back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def read(self) -> FileChunk:
        """The next bytes. `consume` moves the offset past them; NULs before a line are passed at once.

        Raises:
            Rewritten: the file is shorter than what was read, or shows other bytes before the offset.
            WrongEncoding: the file is UTF-16 or UTF-32.
        """
        stat = os.fstat(self._descriptor)
        self.size = stat.st_size
        if not self._is_compressed:
            self.mtime_ns = stat.st_mtime_ns
        if self.size < self.offset:
            raise Rewritten(f"it has {self.size} bytes, but {self.offset} bytes were already read")
        known = len(self._last)
        block = os.pread(self._descriptor, CHUNK_BYTES + known, self.offset - known)
        if not block.startswith(self._last):
            raise Rewritten("the part that was already read has changed")
        data = block[known:]
        if self.offset == 0 and (encoding := wide_encoding(data)):
            raise WrongEncoding(f"{self.path} is {encoding}; save it as UTF-8")
        # Nothing although the size says more: truncated meanwhile, or a file whose size is not true.
        at_end = not data or self.offset + len(data) >= self.size
        if data.endswith(b"\0"):
            text = data.rstrip(b"\0")
            if self._ends_in_nuls(self.offset + len(text)):
                data, at_end = text, True
        if data.startswith(b"\0") and not self.skipping and self._last.rstrip(b"\0")[-1:] in {b"", b"\n"}:
            return self._read_after_nuls(data, at_end)
        return FileChunk(data=data, at_end=at_end)

    def _ends_in_nuls(self, offset: int) -> bool:
        """Whether nothing but NULs follows: space that was reserved, over which lines will be written. It counts as not there."""
        if (offset, self.size) != self._reserved and self._end_of_nuls(offset) < self.size:
            return False
        self._reserved = (offset, self.size)
        return True

    def _read_after_nuls(self, data: bytes, at_end: bool) -> FileChunk:
        """Pass the NULs where a line should begin: the hole in a file that was emptied under a writer that went on where it was."""
        text = data.lstrip(b"\0")
        start = self.offset + len(data) - len(text)
        if not text:
            start = self._end_of_nuls(start)
        self.consume(bytes(min(start - self.offset, HEAD_BYTES)), 0)
        self.offset = start
        return FileChunk(data=text, at_end=at_end)

    def _end_of_nuls(self, offset: int) -> int:
        """The offset of the first byte from `offset` on that is no NUL, or the end of the file."""
        while True:
            try:
                offset = os.lseek(self._descriptor, offset, os.SEEK_DATA)  # past a hole, however large
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return self.size  # nothing but the hole is left
            block = os.pread(self._descriptor, CHUNK_BYTES, offset)
            text = block.lstrip(b"\0")
            offset += len(block) - len(text)
            if text or not block:
                return offset

    def begin_long_line(self) -> None:
        """From here on, up to the next line break, stands a line that is too long."""
        self.skipping, self.long_from = True, self.offset

    def end_long_line(self) -> None:
        """The line that is too long has ended before here."""
        self.skipping, self.long_from = False, None

    def start_of_long_line(self) -> bytes:
        """As much of the line that is too long as the quarantine keeps."""
        return b"" if self.long_from is None else os.pread(self._descriptor, MAX_LINE_BYTES, self.long_from)

    def consume(self, data: bytes, lines: int) -> None:
        """Move past bytes that were just read, in which so many lines end."""
        self.offset += len(data)
        self.line += lines
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + data[:HEAD_BYTES])[:HEAD_BYTES]
        self._last = (self._last + data[-LAST_BYTES:])[-LAST_BYTES:]

    def place(self, read_at_ms: int) -> FilePlace:
        """Where reading stands, last done at `read_at_ms`."""
        return FilePlace(
            device=self.identity[0],
            inode=self.identity[1],
            offset=self.offset,
            line=self.line,
            skipping=self.skipping,
            long_from=self.long_from,
            head=_fingerprint(self._head),
            last=_fingerprint(self._last),
            mtime_ns=self.mtime_ns,
            read_at_ms=read_at_ms,
        )

    def resume(self, place: FilePlace) -> bool:
        """Go to a place if this file shows its fingerprints; otherwise stay at the start and say False."""
        head = os.pread(self._descriptor, min(HEAD_BYTES, place.offset), 0)
        before = min(LAST_BYTES, place.offset)
        last = os.pread(self._descriptor, before, place.offset - before)
        if self.size < place.offset or (_fingerprint(head), _fingerprint(last)) != (place.head, place.last):
            return False
        self.offset, self.line = place.offset, place.line
        self.skipping, self.long_from = place.skipping, place.long_from
        self._head, self._last = head, last
        return True


def _fingerprint(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
