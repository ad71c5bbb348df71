"""Where log lines go: a stream that may be broken, full or read by nobody, and that must never be what stops the engine.

A thread of its own writes, so whoever logs never waits and never sees an error. What waits for the thread is limited; lines beyond
that, and lines that the stream refuses, are lost and counted. Read `LogOutput.write` and `trouble`.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, Final, NamedTuple

MAX_WAITING_BYTES: Final = 4 * 2**20
"""Log text that may wait for the stream: some seconds of a storm. What comes on top of it is lost and counted."""

WRITE_BYTES: Final = 64 * 2**10
"""Written at once, at most: as much as a pipe holds."""

BLOCKED_AFTER_S: Final = 5.0
"""A write that takes longer means that nobody reads the log."""

Written = Callable[[str | None], None]
"""Called once for a text, in any thread: None when it is written, else why it is lost. Must not block."""


IsWanted = Callable[[], bool]
"""Asked in the thread that writes, right before it does: shall a text still be written?"""

NOT_WANTED: Final = "it is not wanted any more"


class LogTrouble(NamedTuple):
    """Why the log is not written at present, and since when (epoch milliseconds)."""

    reason: str
    since_ms: int


class _Text(NamedTuple):
    data: bytes
    lines: int
    written: Written | None
    is_wanted: IsWanted | None


class LogOutput:
    """Writes lines to a stream. `write` may be called from any thread; it never blocks and never raises.

    A stream without a file descriptor (a test's) is written to at once.
    """

    def __init__(self, stream: IO[str] | None, encoding: str = "utf-8") -> None:
        """`stream` None: standard error was closed before the process started."""
        self.lost = 0  # lines, since the start
        self._stream, self._encoding = stream, encoding
        self._fd = _descriptor(stream)
        self._changed = threading.Condition()
        self._texts: deque[_Text] = deque()
        self._waiting_bytes = 0
        self._began_s: float | None = None  # monotonic: when the write under way began
        self._trouble: LogTrouble | None = None
        self._thread: threading.Thread | None = None

    def write(self, text: str, written: Written | None = None, is_wanted: IsWanted | None = None) -> None:
        """Write whole lines, without their last line break; `written` gets `NOT_WANTED` when `is_wanted` says no, and nothing is lost then."""
        data = text.encode(self._encoding, "backslashreplace") + b"\n"
        one = _Text(data, data.count(b"\n"), written, is_wanted)
        if self._fd is None:
            self._settle([one], self._write_directly(text))
            return
        if sys.is_finalizing():  # Python ends: no thread can be started any more, and trying to waits for ever
            self._settle([one], "the process ends")
            return
        with self._changed:
            is_full = self._waiting_bytes + len(data) > MAX_WAITING_BYTES and bool(self._texts)
            if not is_full:
                self._texts.append(one)
                self._waiting_bytes += len(data)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        if is_full:
            self._settle([one], "the log is not read, and no more lines can wait")

    def trouble(self) -> LogTrouble | None:
        """Why lines are not written at present; None while they are."""
        with self._changed:
            began_s, trouble = self._began_s, self._trouble
        taken_s = time.monotonic() - began_s if began_s is not None else 0.0
        if taken_s <= BLOCKED_AFTER_S:
            return trouble
        return LogTrouble("the log is not read: writing to it blocks", _now_ms() - round(taken_s * 1000))

    def flush(self, within_s: float) -> bool:
        """Wait until everything is written, at most so long; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._texts and self._began_s is None, within_s)

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._texts:
                    self._changed.wait()
                batch = self._take()
                self._began_s = time.monotonic()
            batch = self._wanted(batch)
            count, problem = self._write_batch(b"".join(text.data for text in batch))
            with self._changed:
                self._began_s = None
                self._changed.notify_all()
            done = 0
            for at, text in enumerate(batch):
                done += len(text.data)
                if done > count:
                    self._settle(batch[:at], None)
                    self._settle(batch[at:], problem)
                    break
            else:
                self._settle(batch, None)

    def _wanted(self, batch: list[_Text]) -> list[_Text]:
        """Those texts that shall still be written; who waits for the others is told."""
        kept = []
        for text in batch:
            if text.is_wanted is None or text.is_wanted():
                kept.append(text)
            elif text.written is not None:
                with contextlib.suppress(Exception):
                    text.written(NOT_WANTED)
        return kept

    def _take(self) -> list[_Text]:
        batch, size = [self._texts.popleft()], 0
        size = len(batch[0].data)
        while self._texts and size + len(self._texts[0].data) <= WRITE_BYTES:
            batch.append(self._texts.popleft())
            size += len(batch[-1].data)
        self._waiting_bytes -= size
        return batch

    def _write_batch(self, data: bytes) -> tuple[int, str | None]:
        """Write to the descriptor: how many bytes it took, and why not all."""
        assert self._fd is not None
        view, count = memoryview(data), 0
        while count < len(data):
            try:
                count += os.write(self._fd, view[count:])
            except BlockingIOError:  # somebody made the descriptor non-blocking, and it is full: wait as usual
                with contextlib.suppress(OSError, ValueError):
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll(1_000)
            except OSError as error:
                if count and not data[:count].endswith(b"\n"):
                    with contextlib.suppress(OSError):  # the half line must not run into the next one
                        os.write(self._fd, b"\n")
                return count, os.strerror(error.errno) if error.errno else str(error)
        return count, None

    def _write_directly(self, text: str) -> str | None:
        if self._stream is None:
            return "standard error is closed"
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except Exception as error:  # noqa: BLE001  # whatever the stream is, logging must not be what fails
            return f"{type(error).__name__}: {error}"
        return None

    def _settle(self, texts: list[_Text], problem: str | None) -> None:
        """These are written, or lost because of `problem`."""
        if not texts:
            return
        with self._changed:
            if problem is None:
                self._trouble = None
            else:
                self.lost += sum(text.lines for text in texts)
                since_ms = self._trouble.since_ms if self._trouble is not None else _now_ms()
                self._trouble = LogTrouble(problem, since_ms)
        for text in texts:
            if text.written is not None:
                with contextlib.suppress(Exception):  # an error of the listener's must not end this thread
                    text.written(problem)


def occupy_standard_descriptors() -> None:
    """Open `/dev/null` where the process was started with a closed standard input, output or error.

    Else the next file or socket gets that number, and a library that prints would write into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the lowest free number


def _descriptor(stream: IO[str] | None) -> int | None:
    try:
        return stream.fileno() if stream is not None else None
    except (OSError, ValueError, AttributeError):
        return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
