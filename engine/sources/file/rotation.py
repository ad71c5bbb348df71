"""What rotation does to a file that is followed: where reading goes on. Read `look` first, then `find` and `next_file`.

A name says little (see `rotated_names`): files are known by their inode while they are renamed, and by their fingerprints when
they are copied, compressed, or an inode is used again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.sources.file.regular import NotRegular, check_regular
from engine.sources.file.rotated_names import RotatedName, rotated_names
from engine.sources.file.tail import FileChunk, FilePlace, Rewritten, Tail, WrongEncoding

LOOKS: Final = 20
"""At files that are being renamed, until two looks agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the disk found.

    `later` is the file that follows the one that is read, `chunk` what can be read next (None: `rewritten` or `unreadable` says why
    nothing can). `trouble` says what is wrong with the path that the source has to read.
    """

    later: Tail | None = None
    chunk: FileChunk | None = None
    rewritten: str = ""
    unreadable: str = ""
    trouble: str = ""


def look(path: Path, tail: Tail) -> Look:
    """Look whether the path still names the file that is read, then read on in it: in this order, see `FileSource`.

    Raises:
        OSError: the file cannot be read, or the names beside it change too fast.
    """
    later, trouble, found = None, "", None
    try:
        found = path.stat()
        check_regular(path, found)
    except FileNotFoundError:
        trouble = f"waiting for {path}, which no longer exists"
    except NotRegular as error:
        trouble = str(error)
    if trouble or found is None or (found.st_dev, found.st_ino) != tail.identity:
        # Opened now: until the old file's end is committed, another rotation may replace the file at the path again.
        later = next_file(path, tail)
    try:
        return Look(later=later, chunk=tail.read(), trouble=trouble)
    except Rewritten as how:
        return Look(later=later, rewritten=f"{tail.path} was truncated or rewritten: {how}", trouble=trouble)
    except WrongEncoding as error:
        return Look(later=later, unreadable=str(error), trouble=trouble)
    except BaseException:
        if later is not None:
            later.close()
        raise


def find(path: Path, place: FilePlace) -> Tail | None:
    """The file in which a place continues: the one at `path`, or the one it was moved, copied or packed to beside it."""
    own = (place.device, place.inode)
    candidates = [_at(path), *_readable(rotated_names(path))]
    if place.offset == 0:
        candidates = [one for one in candidates if _identity(one) == own]
    for one in sorted(candidates, key=lambda c: (_identity(c) != own, c.is_compressed)):
        try:
            tail = _open(path, one)
        except OSError:
            continue  # gone or packed away since it was listed
        if tail.resume(place):
            return tail
        tail.close()
    return None


def oldest_after(path: Path, place: FilePlace) -> Tail:
    """The oldest file that came after the one of a place, which is gone; open. Raises OSError when none can be opened."""
    return _open(path, (_successors(path, None, place.mtime_ns) or [_at(path)])[0])


def next_file(path: Path, tail: Tail) -> Tail | None:
    """The first of the files that follow the one of a `tail`, open, so that no later rotation can put another one in its place.

    A file that begins with everything that was read is a copy, or was written anew with more at its end: it is read on from there.
    None: no file follows.

    Raises:
        OSError: names change so fast that no two looks agree.
    """
    for _ in range(LOOKS):
        before = _successors(path, tail.identity, tail.mtime_ns)
        names = [_identity(one) for one in before]
        try:
            later = _open(path, before[0]) if before else None
        except OSError:
            continue  # renamed since it was listed
        # A listing made while files are renamed may miss one: only two that agree are believed.
        agree = [_identity(one) for one in _successors(path, tail.identity, tail.mtime_ns)] == names
        if agree and (later is None or later.identity == names[0]):
            if later is not None:
                later.resume(tail.place(0))
            return later
        if later is not None:
            later.close()
    raise OSError(f"the files beside {path} are being renamed")


def _successors(path: Path, identity: tuple[int, int] | None, mtime_ns: int) -> list[RotatedName]:
    """Files with content that follow one that was read to its end (or is gone), oldest first, the one at `path` the last.

    Rotation may have happened several times. Counted names tell their order; dated ones, and a file that is gone, go by
    the time of the last change.
    """
    current = _at(path)
    names = rotated_names(path)
    own = next((one for one in names if _identity(one) == identity), None)
    is_within = (
        own is not None and own.is_within
    )  # another log may have such a name, unless this one was renamed to one
    known = (identity, _identity(current))
    rotated = [one for one in _readable(names) if one.is_within == is_within and _identity(one) not in known]
    if own is not None and own.number is not None and all(one.number is not None for one in rotated):
        later = sorted((-(one.number or 0), one) for one in rotated if (one.number or 0) < own.number)
    else:
        later = sorted((_mtime_ns(one), one) for one in rotated if _mtime_ns(one) > mtime_ns)
    last = [current] if _identity(current) not in {None, identity} else []
    return [one for one in [*(one for _, one in later), *last] if _has_content(path, one)]


def _readable(names: list[RotatedName]) -> list[RotatedName]:
    """Without packed files that are still being written: the file that they are made from is there until they are complete."""
    plain = {one.path.name for one in names}
    return [one for one in names if not (one.is_compressed and one.path.name.removesuffix(".gz") in plain)]


def _at(path: Path) -> RotatedName:
    """The path itself, which the newest file has."""
    return RotatedName(path, False, False, 0)


def _open(path: Path, one: RotatedName) -> Tail:
    return Tail(one.path, follows_links=one.path == path, is_compressed=one.is_compressed)


def _identity(one: RotatedName) -> tuple[int, int] | None:
    found = _stat(one.path)
    return None if found is None else (found.st_dev, found.st_ino)


def _mtime_ns(one: RotatedName) -> int:
    found = _stat(one.path)
    return 0 if found is None else found.st_mtime_ns


def _has_content(path: Path, one: RotatedName) -> bool:
    """Whether it is a regular file that is not empty, and no link unless it is the path itself."""
    try:
        found = one.path.stat(follow_symlinks=one.path == path)
        check_regular(one.path, found)
    except OSError:
        return False
    return found.st_size > 0


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
