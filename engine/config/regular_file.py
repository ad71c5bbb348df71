"""Reads the files that people name: regular files of a bounded size, and where it matters only inside certain folders.

A name may lead anywhere: to a FIFO, which would wait for ever, to a device, or through a link to a file whose lines nobody may see.
So the file is opened first, without waiting, and what was opened is checked, not the name: a link that is changed in between cannot
make another file out of it. Read `read_regular_file`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.core.foreign_text import foreign_text
from engine.errors import RollcallError

MAX_CERTIFICATES_BYTES = 4 << 20
"""Largest file of certificates: a system's own has a quarter of a million bytes."""

MAX_PATH_CHARACTERS: Final = 4096
"""Longest path that is shown; Linux knows none that is longer."""

ATTEMPTS: Final = 3
"""How often a file is opened whose folder is being replaced, as Kubernetes does with a ConfigMap, before it counts as outside."""

_CHUNK_BYTES: Final = 1 << 20

_OPEN: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}

_MORE_OF: Final = {
    "a folder": "is a folder, not a file",
    "a FIFO": "is a FIFO (a named pipe), not a regular file: reading it could wait for ever",
}
"""The sentences that say more than `is a device, not a regular file`."""


class UnreadableFile(RollcallError):
    """A file cannot be read; the message is a predicate (`is a folder, not a file`) and holds nothing of its content."""

    code = "unreadable-file"


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as text that every output can hold: bytes that are not UTF-8 and control characters as escapes."""
    return foreign_text(os.fsencode(path), MAX_PATH_CHARACTERS)


def other_kind(state: os.stat_result) -> str | None:
    """What a path leads to that is no regular file (`a folder`, `a FIFO`); None for a regular file."""
    if stat.S_ISREG(state.st_mode):
        return None
    return _KINDS.get(stat.S_IFMT(state.st_mode), "something else")


def read_regular_file(path: Path, max_bytes: int, *, inside: Sequence[Path] = ()) -> bytes:
    """The content of a regular file of at most `max_bytes`. It never waits for what is no regular file.

    Args:
        path: the file; links are followed.
        max_bytes: the most that is read; a larger file is refused.
        inside: with folders, the file that is opened must lie in one of them after all links are resolved.

    Raises: UnreadableFile with a sentence.
    """
    try:
        _check_kind(os.stat(path))  # before it is opened: to open a device may already do something
        for _ in range(ATTEMPTS):
            descriptor = os.open(path, _OPEN)
            try:
                state = os.fstat(descriptor)
                _check_kind(state)
                if not inside or _is_inside(_real_path(descriptor, path, state), inside):
                    return _content(descriptor, max_bytes)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {_reason(error)}") from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableFile("cannot be read: its name contains a character that no file name can have") from error
    folders = ", ".join(dict.fromkeys(shown_path(folder) for folder in inside))
    raise UnreadableFile(f"leads outside of {folders}: it is not read; put the file itself there")


def file_problem(path: Path) -> str | None:
    """Why `read_regular_file` could not open a file now, as its message says it; None when it could."""
    try:
        _check_kind(os.stat(path))
        os.close(os.open(path, _OPEN))
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {_reason(error)}"
    except ValueError:
        return "cannot be read: its name contains a character that no file name can have"
    except UnreadableFile as error:
        return str(error)
    return None


def _check_kind(state: os.stat_result) -> None:
    if (kind := other_kind(state)) is not None:
        raise UnreadableFile(_MORE_OF.get(kind, f"is {kind}, not a regular file"))


def _content(descriptor: int, max_bytes: int) -> bytes:
    found = bytearray()
    while len(found) <= max_bytes:
        chunk = os.read(descriptor, min(_CHUNK_BYTES, max_bytes + 1 - len(found)))
        if not chunk:
            return bytes(found)
        found += chunk
    limit = f"{max_bytes >> 20} MiB" if max_bytes >= 1 << 20 else f"{max_bytes >> 10} KiB"
    raise UnreadableFile(f"is larger than {limit}")


def _real_path(descriptor: int, path: Path, state: os.stat_result) -> str | None:
    """Where the opened file lies, all links resolved; None when that cannot be said, because something was replaced meanwhile.

    Linux knows it of the open file itself. Elsewhere the name is resolved, and must lead to the file that was opened.
    """
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        real = os.path.realpath(path)
        return real if os.path.samestat(os.stat(real), state) else None


def _is_inside(real: str | None, folders: Sequence[Path]) -> bool:
    if real is None:
        return False
    return any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders)


def _reason(error: OSError) -> str:
    """The system's words for an error, with a hint for those that people can act on."""
    if isinstance(error, PermissionError):
        return "Permission denied: give the user that Rollcall runs as the right to read it"
    return error.strerror or type(error).__name__
