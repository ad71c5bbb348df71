"""The lock on a data folder: one process works in it, and can prove to a command of the same user that it is the one.

A second instance is refused instead of paging twice. A command asks the lock whether a service runs, never the port: any program may
have taken that. The lock file holds a key that only the user of the service can read. Whoever answers on the port is asked to sign
with it (`proof`) before a command sends it a token or believes it. Read `FolderLock.take`, then `holder_of`.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import os
import secrets
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import StoreError, StoreInUse

LOCK_NAME: Final = "rollcall.lock"

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
"""Events, alerts and requests are for the user of the service alone."""

LOOK_S: Final = 0.5
"""A command that looks whether the lock is held has it for an instant: taking it is tried for so long."""

RETRY_S: Final = 0.02
"""Between two tries."""

_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A link or a pipe with the lock's name must not make us write elsewhere, or wait."""


class Holder(NamedTuple):
    """The process that works in a data folder."""

    process: int | None  # its id; None when the file may not be read
    key: bytes | None  # what it signs with; None when the file may not be read


class FolderLock:
    """A lock that this process holds until `release`."""

    def __init__(self, file: int, key: bytes) -> None:
        self._file = file
        self._key = key

    @classmethod
    def take(cls, data: Path) -> FolderLock:
        """Make the folder if there is none, and lock it. StoreInUse while another process has it, StoreError when it cannot be."""
        try:
            _make_private(data)
            file = _regular(data / LOCK_NAME, os.O_RDWR | os.O_CREAT)
            os.fchmod(file, FILE_MODE)
        except OSError as error:
            raise StoreError(f"the data folder {data} cannot be used: {_reason(error)}") from error
        if not _locked(file, fcntl.LOCK_EX, within_s=LOOK_S):
            holder, _ = _read(file)
            os.close(file)
            raise StoreInUse(f"{data} is in use by another Rollcall process ({holder or 'unknown'}); stop it first")
        key = secrets.token_hex(32)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n{key}\n".encode(), 0)
        return cls(file, key.encode())

    def proof(self, challenge: str) -> str:
        """What only a process that can read the lock file can answer to a challenge."""
        return proof(self._key, challenge)

    def release(self) -> None:
        """Let another process have the folder; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def holder_of(data: Path) -> Holder | None:
    """The process that holds the lock on a data folder now; None: none does."""
    try:
        file = _regular(data / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError:
        return Holder(None, None)
    try:
        if _locked(file, fcntl.LOCK_SH):
            return None
        return Holder(*_read(file))
    finally:
        os.close(file)


def proof(key: bytes, challenge: str) -> str:
    """HMAC-SHA256 of the challenge, as hexadecimal digits."""
    return hmac.new(key, challenge.encode(), "sha256").hexdigest()


def _make_private(data: Path) -> None:
    """Make the folder for this user alone. One that exists is closed to others when nothing but our files lies in it."""
    data.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    found = data.stat()
    if found.st_uid != os.geteuid():
        return
    names = os.listdir(data)
    if stat.S_IMODE(found.st_mode) & 0o077 and all(
        name.startswith(("rollcall.", "status.", "rocketmq")) for name in names
    ):
        data.chmod(FOLDER_MODE)
    for name in names:
        path = data / name
        if name.startswith("rollcall.sqlite3") and path.is_file() and not path.is_symlink():
            path.chmod(FILE_MODE)  # written by an earlier version


def _regular(path: Path, flags: int) -> int:
    file = os.open(path, flags | _OPEN, FILE_MODE)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(0, f"{path.name} is not a regular file")
    return file


def _locked(file: int, kind: int, within_s: float = 0.0) -> bool:
    until_s = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= until_s:
                return False
            time.sleep(RETRY_S)
        else:
            return True


def _read(file: int) -> tuple[int | None, bytes | None]:
    process, _, key = os.pread(file, 256, 0).partition(b"\n")
    return int(process) if process.isdigit() else None, key.strip() or None


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"{LOCK_NAME} is a symbolic link; remove it"
    return error.strerror or str(error)
