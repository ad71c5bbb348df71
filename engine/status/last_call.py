"""A small file whose time is that of the last call: a restart must not spend the same second's budget twice.

One process holds it at a time, by a lock that ends with the process however it ends. The file's time is set at every start
and end of a call. Calls of the process before ended, at the latest, when that process did, so a process that opens the file
soon after the last call makes no call for one full second first.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.errors import RollcallError
from engine.status.budget import HOLD_S

RECENT_S: Final = 10.0
"""An older last call, longer ago than any call lasts and clocks are corrected by, does not matter; one in the future does."""

POLL_S: Final = 0.05
"""How often a process that waits for another one looks whether that has ended."""


class StatusBusy(RollcallError):
    """Another process of ours queries the same service now; two budgets would be twice the rate."""


class LastCallFile:
    """Holds `path`, in a folder that exists, until `close`. `now_s`: wall clock, seconds since the epoch.

    `within_s`: how long to wait for another process that holds it: a single query from the command line is over soon, and must not
    keep a service from starting. Raises StatusBusy when it is still held then, RollcallError when it cannot be written.
    """

    def __init__(self, path: Path, now_s: Callable[[], float] = time.time, *, within_s: float = 0.0) -> None:
        self._path = path
        self._now_s = now_s
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            _lock(self._file, within_s)
            found = os.stat(self._file)
            if found.st_size == 0:  # new: nobody has made a call
                os.write(self._file, b"The time of this file is that of the last status query.\n")
                os.utime(self._file, (0, 0))
                found = os.stat(self._file)
        except BlockingIOError as error:
            os.close(self._file)
            raise StatusBusy(f"another Rollcall process is sending status queries: it has locked {path}") from error
        except OSError as error:
            os.close(self._file)
            raise self._unwritable(error) from error
        is_recent = found.st_mtime > now_s() - RECENT_S
        self._quiet_s = HOLD_S if is_recent else 0.0

    def touch(self) -> None:
        """A call is made now. Raises RollcallError when that cannot be written down."""
        now_s = self._now_s()
        try:
            os.utime(self._file, (now_s, now_s))
        except OSError as error:
            raise self._unwritable(error) from error

    def quiet_s(self) -> float:
        """Seconds without calls, from the opening on, that earlier calls require: one second, or none."""
        return self._quiet_s

    def close(self) -> None:
        """Let another process have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _unwritable(self, error: OSError) -> RollcallError:
        return RollcallError(f"{self._path} cannot be written: {error.strerror}")


def _lock(file: int, within_s: float) -> None:
    """Take the lock. BlockingIOError when another process held it all the time."""
    until_s = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until_s:
                raise
            time.sleep(POLL_S)
