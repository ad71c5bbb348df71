"""The engine's side of a native RocketMQ client: a process that is started, asked, watched, and started again when it ends.

The library ends its process for a name that does not resolve, and a hostile server may make it do worse. So it lives in a child
(`engine.sources.rocketmq.process`), one a source and one for commands. When a child ends, whatever it was asked fails, and who asked
tries again: positions and messages are kept on this side, so nothing is lost and nothing is read twice. Read `ClientProcess`.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Final

import msgspec

from engine.core.foreign_text import foreign_text
from engine.core.frames import Frames, frame
from engine.errors import RollcallError
from engine.sources.retry_pause import RetryPause
from engine.sources.rocketmq.pipe import (
    MAX_FRAME_BYTES,
    MAX_REASON_CHARS,
    RENEW,
    Answer,
    ClientSetup,
    NativeLibraryMissing,
    Request,
    Status,
)
from engine.telemetry import Event, logger, relay

RESTART_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a child that ended is started again: longer after each end in a row."""

GOOD_LIFE_S: Final = 60.0
"""A child that lived so long had a good start: the next end is the first one again."""

STABLE_S: Final = 10.0
"""After several ends in a row, how long a child must have worked before all counts as well again."""

SILENT_S: Final = 30.0
"""A child that says nothing for so long hangs, and is ended."""

ANSWER_S: Final = 120.0
"""A child that does not answer one request for so long hangs, and is ended. The library gives up after ten seconds itself."""

CLOSE_S: Final = 0.5
"""How long a child may take to end when its input has ended."""

READ_BYTES: Final = 2**20
POLL_MS: Final = 1_000

MAX_OUTPUT_LINES: Final = 100
MAX_LINE_BYTES: Final = 4 * 1024
"""Of what one child writes that is no log line, so many lines are logged, and so much of each."""

LAST_WORDS_S: Final = 2.0
"""How long what an ended child said last may take to be read; longer only when what it has started still has its standard error."""

PROBE_S: Final = 60.0

log = logger(__name__)


class ClientGone(RollcallError):
    """The process of the native client has ended, or there is none just now; the message says why."""


def require_library() -> None:
    """Return when the native library loads, in a process of its own. NativeLibraryMissing says what to do."""
    try:
        done = subprocess.run(
            [*_command(), "--probe"], env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeLibraryMissing(f"whether the native RocketMQ library loads cannot be found out: {error}") from error
    if done.returncode:
        said = foreign_text((done.stdout or done.stderr).strip(), MAX_REASON_CHARS * 2)
        raise NativeLibraryMissing(said or f"loading the native RocketMQ library {_ended(done.returncode)}")


class ClientProcess:
    """One child. `begin`, then `ask`, from any thread; `close` in the end. `owner` names it in the log.

    `trouble` says why it does not work just now (empty: it does), `unresolved` which name servers it goes on without.
    """

    def __init__(self, setup: ClientSetup, owner: str) -> None:
        """Nothing is started yet."""
        self._setup, self._owner = setup, owner
        self._encoder, self._decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Answer)
        self._lock = threading.Lock()  # of the next three
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, SimpleQueue[Any]] = {}
        self._number = 0
        self._turn = threading.Lock()  # to write to the child
        self._closed = threading.Event()
        self._known = threading.Event()  # whether it works
        self._said: deque[str] = deque(maxlen=8)  # what the child wrote that is no log line
        self._pause = RetryPause(RESTART_S)
        self._relaying: threading.Thread | None = None
        self._ends = 0  # in a row
        self._started_s = 0.0
        self._keeper = threading.Thread(target=self._keep, name=f"rocketmq client {owner}", daemon=True)
        self.trouble = ""
        self.unresolved = ""
        self.restarts = 0

    def begin(self) -> None:
        """Start the child, and a thread that keeps one running."""
        self._keeper.start()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        process = self._process
        return process.pid if process is not None else None

    def wait_until_known(self, within_s: float) -> None:
        """Return when the client has begun, or it is known why it does not."""
        self._known.wait(within_s)

    def ask(self, request: Request, within_s: float = ANSWER_S) -> Any:
        """The answer to a request, whose number is set here. Blocks. ClientGone when the child ends before it answers.

        `within_s`: a child that does not answer for so long is ended.
        """
        slot: SimpleQueue[Any] = SimpleQueue()
        with self._lock:
            process = self._process
            if process is None or self._closed.is_set():
                raise ClientGone(self.trouble or "the RocketMQ client is being started")
            self._number += 1
            request.id = self._number
            self._waiting[request.id] = slot
        message = frame(self._encoder.encode(request))
        with suppress(OSError, ValueError), self._turn:  # that it ended is noticed by its output
            _write(process, message)
        try:
            found = slot.get(timeout=within_s)
        except Empty:
            with self._lock:
                self._waiting.pop(request.id, None)
            self._said.append(f"it did not answer for {within_s:.0f} s")
            process.kill()
            raise ClientGone("the RocketMQ client does not answer: it is started again") from None
        if isinstance(found, ClientGone):
            raise found
        return found

    def close(self) -> None:
        """End the child; requests under way fail. Returns when it is gone."""
        self._closed.set()
        with self._lock:
            process = self._process
        if process is not None:
            self._end(process)
        if self._keeper.ident is not None:
            self._keeper.join(CLOSE_S)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to end by ending its input, then make it."""
        if self._turn.acquire(timeout=CLOSE_S):  # else somebody waits to write to a child that hangs
            try:
                _close(process.stdin)
            finally:
                self._turn.release()
        try:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # In the keeper's thread, which the child must not survive: it lives as long as there is to be a child

    def _keep(self) -> None:
        while not self._closed.is_set():
            try:
                process = self._spawn()
            except Exception as error:  # noqa: BLE001  # whatever it is: without a child nothing would ever be read
                self.trouble = f"the RocketMQ client cannot be started: {foreign_text(str(error), MAX_REASON_CHARS)}"
                log.error(Event.ROCKETMQ_PROCESS_UNSTARTABLE, owner=self._owner, error=str(error))
                self._known.set()
                self._closed.wait(self._pause.next_s())
                continue
            self._read_to_the_end(process)
            self._buried(process)
        self._fail("the RocketMQ client is closed")

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._said.clear()
        process = subprocess.Popen(
            _command(), env=_environment(), bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        with suppress(OSError, AttributeError):  # fewer and larger reads
            fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, READ_BYTES)
        self._relaying = threading.Thread(
            target=self._relay, args=(process,), name=f"rocketmq log {self._owner}", daemon=True
        )
        self._relaying.start()
        with suppress(OSError):
            _write(process, frame(self._encoder.encode(self._setup)))
        self._started_s = time.monotonic()
        with self._lock:
            self._process = process
        if self._closed.is_set():
            self._end(process)
        return process

    def _read_to_the_end(self, process: subprocess.Popen[bytes]) -> None:
        """Pass answers on until the child ends; one that hangs or sends invalid data is ended."""
        try:
            self._read(process)
        except Exception as error:  # noqa: BLE001  # whatever a child sends costs that child only
            self._said.append(f"it sent invalid data: {foreign_text(str(error), MAX_REASON_CHARS)}")
            process.kill()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        frames, fd = Frames(MAX_FRAME_BYTES), process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        heard_s = time.monotonic()
        while True:
            if not poll.poll(POLL_MS):
                if time.monotonic() - heard_s > SILENT_S:
                    self._said.append(f"it said nothing for {SILENT_S:.0f} s")
                    process.kill()
                continue
            data = os.read(fd, READ_BYTES)
            if not data:
                return
            heard_s = time.monotonic()
            for payload in frames.feed(data):
                self._pass_on(self._decoder.decode(payload))

    def _pass_on(self, answer: Answer) -> None:
        if isinstance(answer, Status):
            self._note(answer)
            return
        with self._lock:
            slot = self._waiting.pop(answer.id, None)
        if slot is not None:
            slot.put(answer.found)

    def _note(self, status: Status) -> None:
        if status.unresolved and status.unresolved != self.unresolved:
            log.warning(Event.ROCKETMQ_NAME_UNRESOLVED, owner=self._owner, reason=status.unresolved)
        self.unresolved = foreign_text(status.unresolved, MAX_REASON_CHARS)
        if status.trouble:
            if status.unresolved:
                self.trouble = self.unresolved
                self._known.set()
            return
        self._known.set()
        if self._ends < 2 or time.monotonic() - self._started_s > STABLE_S:
            self.trouble = ""

    def _buried(self, process: subprocess.Popen[bytes]) -> None:
        """The child has ended: say so, let all requests fail, and wait before there is another."""
        code = process.wait()
        with self._turn:
            _close(process.stdin)
        _close(process.stdout)
        with self._lock:
            self._process = None
        if self._closed.is_set():
            return
        if time.monotonic() - self._started_s > GOOD_LIFE_S:
            self._pause.reset()
            self._ends = 0
        if code == RENEW:
            why = "the RocketMQ client is started again: its name servers have other addresses now"
        else:
            self._ends += 1
            if self._relaying is not None:
                self._relaying.join(LAST_WORDS_S)  # else why it ended may still be in the pipe
            said = _telling(self._said)
            why = f"the RocketMQ client {_ended(code)}{f' ({said})' if said else ''}; it is started again"
            log.warning(Event.ROCKETMQ_PROCESS_ENDED, owner=self._owner, exit_code=code, reason=why)
        self.restarts += 1
        self.trouble = why
        self._known.set()
        self._fail(why)
        self._closed.wait(self._pause.next_s())

    def _fail(self, why: str) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for slot in waiting.values():
            slot.put(ClientGone(why))

    # In a thread of its own

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        """Write what the child logs into the engine's log, until it ends; remember what it says beside that."""
        assert process.stderr is not None
        rest, left = b"", MAX_OUTPUT_LINES
        with process.stderr as stream:
            while data := stream.read(2**14):
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[:MAX_LINE_BYTES]
                for line in filter(None, lines):
                    if not line.startswith(b"{"):
                        self._said.append(foreign_text(line[:MAX_LINE_BYTES], MAX_REASON_CHARS))
                        left -= 1
                    if left > 0:
                        relay(log, line[:MAX_LINE_BYTES], Event.ROCKETMQ_PROCESS_OUTPUT)


def _command() -> list[str]:
    # -P: the child imports this very package, not what lies in the working directory.
    return [sys.executable, "-P", "-m", "engine.sources.rocketmq.process"]


def _environment() -> dict[str, str]:
    here = str(Path(__file__).parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]).rstrip(":")}


def _write(process: subprocess.Popen[bytes], message: bytes) -> None:
    assert process.stdin is not None
    view = memoryview(message)
    while view:
        view = view[process.stdin.write(view) or 0 :]


def _close(stream: IO[bytes] | None) -> None:
    with suppress(OSError, ValueError):
        assert stream is not None
        stream.close()


def _ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended by itself (exit code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"


def _telling(said: deque[str]) -> str:
    """Of what a child wrote last, what says most: the text of an exception in the library, or the last line."""
    lines = list(said)
    for line in reversed(lines):
        if "what():" in line:
            return line.partition("what():")[2].strip()
    return lines[-1] if lines else ""
