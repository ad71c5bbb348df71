"""The log of a service as a pipe that somebody reads, who can stop, be gone, and come back. Read `LogPipe`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path
from typing import BinaryIO

SMALL_BYTES = 4096
"""A pipe that few lines fill."""


class LogPipe:
    """A FIFO in the folder of a service; what is read from it is appended to `log.jsonl`, where `Service.log_text` finds it."""

    def __init__(self, folder: Path) -> None:
        self._path, self._kept = folder / "log", folder / "log.jsonl"
        os.mkfifo(self._path)
        self._kept.touch()
        self._wanted = threading.Event()
        self._reader: int | None = None
        self._thread: threading.Thread | None = None
        self.read()

    def writing(self) -> BinaryIO:
        """A new end to write to, for a process. The reader must be there."""
        writing = self._path.open("wb", buffering=0)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALL_BYTES)
        return writing

    def read(self) -> None:
        """Read from now on (again)."""
        if self._reader is None:
            self._reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        self._wanted.set()
        self._thread = threading.Thread(target=self._pump, args=(self._reader,), daemon=True)
        self._thread.start()

    def stop_reading(self) -> None:
        """Be there, and read nothing: the pipe is full."""
        self._stop()
        filling = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(filling, b"\n")  # empty lines say nothing when they are read in the end
        os.close(filling)

    def _stop(self) -> None:
        self._wanted.clear()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Be gone."""
        self._stop()
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None

    def _pump(self, reader: int) -> None:
        with self._kept.open("ab") as kept:
            while self._wanted.is_set():
                try:
                    data = os.read(reader, 65_536)
                except BlockingIOError:
                    data = b""
                kept.write(data)
                kept.flush()
                if not data:
                    threading.Event().wait(0.02)  # nobody writes at present
