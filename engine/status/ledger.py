"""A small file that says when the last call was made: a restart must not spend the same second's budget twice.

One process holds it at a time, by a lock that ends with the process however it ends. The time is the file's own, touched at
every start and end of a call. Calls of the process before ended, at the latest, when it did, so whoever takes the file over
soon after its last touch keeps quiet for one full second first.
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
"""A last call older than this, more than any call lasts and clocks are set by, is past; one in the future is not."""

LOOK_EVERY_S: Final = 0.05
"""How often a process that waits for another's end looks."""


class StatusBusy(RollcallError):
    """Another process of ours asks the same service now; two budgets would be twice the rate."""


class Ledger:
    """Holds `path`, in a folder that exists, until `close`. `now_s`: wall clock, seconds since the epoch.

    `within_s`: how long to wait for another process that has it. Somebody's single query is over soon, and must not keep a
    service from starting. Raises StatusBusy when it still has it then, RollcallError when it cannot be written.
    """

    def __init__(self, path: Path, now_s: Callable[[], float] = time.time, *, within_s: float = 0.0) -> None:
        self._path = path
        self._now_s = now_s
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RollcallError(f"{path} cannot be written: {error.strerror}") from error
        try:
            _lock(self._file, within_s)
            told = os.stat(self._file)
            if told.st_size == 0:  # new: nobody has made a call
                os.write(self._file, b"The time of this file is that of the last status query.\n")
                os.utime(self._file, (0, 0))
                told = os.stat(self._file)
        except BlockingIOError as error:
            os.close(self._file)
            raise StatusBusy(f"another rollcall asks for statuses now: it holds {path}") from error
        except OSError as error:
            os.close(self._file)
            raise RollcallError(f"{path} cannot be written: {error.strerror}") from error
        is_recent = told.st_mtime > now_s() - RECENT_S
        self._quiet_s = HOLD_S if is_recent else 0.0

    def touch(self) -> None:
        """A call is made now. Raises RollcallError when that cannot be written down."""
        now_s = self._now_s()
        try:
            os.utime(self._file, (now_s, now_s))
        except OSError as error:
            raise RollcallError(f"{self._path} cannot be written: {error.strerror}") from error

    def quiet_s(self) -> float:
        """Seconds to keep quiet from the opening on because of calls made before it: one second, or none."""
        return self._quiet_s

    def close(self) -> None:
        """Let another process have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _lock(file: int, within_s: float) -> None:
    """Take the lock; BlockingIOError when another process has it all the time."""
    until_s = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until_s:
                raise
            time.sleep(LOOK_EVERY_S)
