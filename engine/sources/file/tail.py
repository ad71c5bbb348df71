"""A growing file, read from a place that survives restarts: what `engine.sources.file.source` follows logs with.

A place is more than an offset. Files are renamed, copied and emptied, rewritten in place, and inodes are used again,
so a place also keeps fingerprints of the file's first bytes and of those just before the offset. Only a file that
shows both is continued; `Rewritten` is raised when the one at hand no longer does. Read `Tail.read`, then `find` and
`successors`.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from engine.sources.file.regular import NotRegular, check_regular, open_regular

CHUNK_BYTES: Final = 1024 * 1024
"""Bytes read at once: several thousand events, so that most batches are full. Longer than any line taken."""

HEAD_BYTES: Final = 4096
LAST_BYTES: Final = 256
"""Bytes that the fingerprints cover: of the file's start, and before the offset."""

LOOKS: Final = 20
"""At files that are being renamed, until two looks agree."""

_ROTATED: Final = re.compile(r"[.-][0-9][0-9T_.:-]*")  # log.1, log-20260101, log.2026-01-01_00
_COUNTED: Final = re.compile(r"\.([0-9]{1,4})")  # log.1 is newer than log.2; longer numbers are dates


class Rewritten(Exception):
    """What stands before the offset is not what was read; the message says how it shows."""


class FilePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading stopped, in a form to be stored. Instants are epoch milliseconds, but for `mtime_ns`."""

    device: int
    inode: int
    offset: int
    line: int  # number of the next line, from 1
    skipping: bool = False  # inside a line that is too long
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

    def __init__(self, path: Path, *, follows_links: bool = True) -> None:
        """Open a file at its start.

        Raises:
            OSError: it cannot be opened, or is not a regular file.
        """
        self.path = path
        self._descriptor = open_regular(path, follows_links=follows_links)
        stat = os.fstat(self._descriptor)
        self.identity = (stat.st_dev, stat.st_ino)
        self.mtime_ns = stat.st_mtime_ns
        self.size = stat.st_size
        self.offset = 0
        self.line = 1
        self.skipping = False
        self._head = b""
        self._last = b""

    def close(self) -> None:
        """Give the file back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def read(self) -> FileChunk:
        """The next bytes. Reading does not move the offset: `consume` does.

        Raises:
            Rewritten: the file is shorter than what was read, or shows other bytes before the offset.
        """
        stat = os.fstat(self._descriptor)
        self.size, self.mtime_ns = stat.st_size, stat.st_mtime_ns
        if self.size < self.offset:
            raise Rewritten(f"it has {self.size} bytes, but {self.offset} bytes were already read")
        known = len(self._last)
        block = os.pread(self._descriptor, CHUNK_BYTES + known, self.offset - known)
        if not block.startswith(self._last):
            raise Rewritten("the part that was already read has changed")
        data = block[known:]
        # Nothing although the size says more: truncated meanwhile, or a file whose size is not true.
        return FileChunk(data=data, at_end=not data or self.offset + len(data) >= self.size)

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
            head=_fingerprint(self._head),
            last=_fingerprint(self._last),
            mtime_ns=self.mtime_ns,
            read_at_ms=read_at_ms,
        )

    def resume(self, place: FilePlace) -> bool:
        """Go to a place if this file shows its fingerprints; otherwise stay at the start and say False."""
        fd = self._descriptor
        head = os.pread(fd, min(HEAD_BYTES, place.offset), 0)
        before = min(LAST_BYTES, place.offset)
        last = os.pread(fd, before, place.offset - before)
        if self.size < place.offset or (_fingerprint(head), _fingerprint(last)) != (place.head, place.last):
            return False
        self.offset, self.line, self.skipping = place.offset, place.line, place.skipping
        self._head, self._last = head, last
        return True


def find(path: Path, place: FilePlace) -> Tail | None:
    """The file in which a place continues: the one at `path`, or the one it was moved or copied to beside it."""
    candidates = [path, *_rotated(path)]
    if place.offset == 0:
        candidates = [c for c in candidates if _identity(c) == (place.device, place.inode)]
    for candidate in sorted(candidates, key=lambda c: _identity(c) != (place.device, place.inode)):
        try:
            tail = Tail(candidate, follows_links=candidate == path)
        except OSError:
            continue  # gone or packed away since it was listed
        if tail.resume(place):
            return tail
        tail.close()
    return None


def successors(path: Path, identity: tuple[int, int] | None, mtime_ns: int) -> list[Path]:
    """Files with content that follow one that was read to its end (or is gone), oldest first, `path` itself the last.

    Rotation may have happened several times. Counted names tell their order; dated ones, and a file that is gone, go by
    the time of the last change.
    """
    rotated = [p for p in _rotated(path) if _identity(p) not in (identity, _identity(path))]
    own_count = next((_count(path, p) for p in _rotated(path) if _identity(p) == identity), None)
    if own_count is not None and all(_count(path, p) is not None for p in rotated):
        later = [(-(_count(path, p) or 0), p) for p in rotated if (_count(path, p) or 0) < own_count]
    else:
        later = [(_mtime_ns(p), p) for p in rotated if _mtime_ns(p) > mtime_ns]
    current = [path] if _identity(path) not in (None, identity) else []
    return [p for p in [*(p for _, p in sorted(later)), *current] if _has_content(p, follows_links=p == path)]


def oldest_after(path: Path, place: FilePlace) -> Tail:
    """The oldest file that came after the one of a place, which is gone; open. Raises OSError when none can be opened."""
    oldest = (successors(path, None, place.mtime_ns) or [path])[0]
    return Tail(oldest, follows_links=oldest == path)


def next_file(path: Path, identity: tuple[int, int] | None, mtime_ns: int) -> Tail | None:
    """The first of the `successors`, open, so that no later rotation can put another one in its place; None for none.

    Raises:
        OSError: names change so fast that no two looks agree.
    """
    for _ in range(LOOKS):
        before = successors(path, identity, mtime_ns)
        names = [_identity(p) for p in before]
        try:
            tail = Tail(before[0], follows_links=before[0] == path) if before else None
        except OSError:
            continue  # renamed since it was listed
        # A listing made while files are renamed may miss one: only two that agree are believed.
        agree = [_identity(p) for p in successors(path, identity, mtime_ns)] == names
        if agree and (tail is None or tail.identity == names[0]):
            return tail
        if tail is not None:
            tail.close()
    raise OSError(f"the files beside {path} are being renamed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the disk found.

    `later` is the file that follows the one that is read, `chunk` what can be read next (None: `rewritten` says why nothing can).
    `trouble` says what is wrong with the path that the source has to read.
    """

    later: Tail | None = None
    chunk: FileChunk | None = None
    rewritten: str = ""
    trouble: str = ""


def look(path: Path, tail: Tail) -> Look:
    """Look whether the path still names the file that is read, then read on in it: in this order, see `FileSource`.

    Raises:
        OSError: the file cannot be read, or the names beside it change too fast.
    """
    later, trouble = None, ""
    try:
        found = path.stat()
        check_regular(path, found)
    except FileNotFoundError:
        trouble = f"waiting for {path}, which no longer exists"
    except NotRegular as error:
        trouble = str(error)
    if trouble or (found.st_dev, found.st_ino) != tail.identity:
        # Opened now: until the old file's end is committed, another rotation may replace the file at the path again.
        later = next_file(path, tail.identity, tail.mtime_ns)
    try:
        chunk = tail.read()
    except Rewritten as how:
        return Look(later=later, rewritten=f"{tail.path} was truncated or rewritten: {how}", trouble=trouble)
    except BaseException:
        if later is not None:
            later.close()
        raise
    return Look(later=later, chunk=chunk, trouble=trouble)


def _rotated(path: Path) -> list[Path]:
    """Names beside `path` that a rotation may have given to earlier files."""
    try:
        beside = list(path.parent.iterdir())
    except OSError:
        return []
    return [p for p in beside if p.name.startswith(path.name) and _ROTATED.fullmatch(p.name[len(path.name) :])]


def _count(path: Path, rotated: Path) -> int | None:
    found = _COUNTED.fullmatch(rotated.name[len(path.name) :])
    return int(found[1]) if found else None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino)


def _has_content(path: Path, *, follows_links: bool) -> bool:
    """Whether it is a regular file that is not empty."""
    try:
        found = path.stat(follow_symlinks=follows_links)
        check_regular(path, found)
    except OSError:
        return False
    return found.st_size > 0


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _fingerprint(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
