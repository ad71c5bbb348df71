"""Opening a file that must be a regular one: never a FIFO or a device, on which opening or reading may wait for ever."""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from pathlib import Path
from typing import Final

from engine.config.regular_file import other_kind

_UNPACKED_AT_ONCE: Final = 1024 * 1024
"""Bytes of a compressed file that are in memory at a time."""


class NotRegular(OSError):
    """The path names no regular file; the message says what it names."""


def check_regular(path: Path, found: os.stat_result) -> None:
    """Raise NotRegular unless `found`, the status of `path`, is that of a regular file."""
    if (kind := other_kind(found)) is not None:
        raise NotRegular(f"{path} is {kind}, not a regular file")


def open_regular(path: Path, *, follows_links: bool = True) -> int:
    """A descriptor to read a regular file with.

    Raises:
        NotRegular: the path names something else, or a file that the kernel makes up while it is read (`/proc`).
        OSError: it cannot be opened.
    """
    # Asked before opening, because opening some devices has an effect; and again after it, because the path may have changed.
    check_regular(path, path.stat() if follows_links else path.lstat())
    links = 0 if follows_links else os.O_NOFOLLOW
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | links)
    try:
        check_regular(path, os.fstat(descriptor))
        if os.fstat(descriptor).st_size == 0 and os.pread(descriptor, 1, 0) and os.fstat(descriptor).st_size == 0:
            raise NotRegular(f"{path} is made by the kernel while it is read, so it is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unpacked(descriptor: int) -> int:
    """A descriptor of a nameless temporary file with what a gzip file holds, for the descriptor of that, which is closed.

    Of a damaged file, it holds what stands before the damage. Raises OSError: there is no room for it.
    """
    with os.fdopen(descriptor, "rb") as packed, tempfile.TemporaryFile(buffering=0) as plain:
        with gzip.GzipFile(fileobj=packed) as file:
            while True:
                try:
                    some = file.read(_UNPACKED_AT_ONCE)
                except (EOFError, zlib.error, gzip.BadGzipFile):
                    break
                if not some:
                    break
                while some:
                    some = some[plain.write(some) :]
        return os.dup(plain.fileno())
