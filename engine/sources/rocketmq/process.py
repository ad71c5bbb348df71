"""The process that holds a native RocketMQ client: `python -m engine.sources.rocketmq.process`, started by `engine.sources.rocketmq.client`.

The native library may end its process at any time; here that costs no more than the requests under way. One process is one consumer or
one producer. It reads requests from standard input and answers on standard output, in the frames of `engine.sources.rocketmq.pipe`. It
ends when its input does, and when the engine is killed. Its log lines are JSON on standard error. `--probe` only says whether the
library loads. Read `_Child`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from engine.core.foreign_text import foreign_text
from engine.core.frames import LENGTH_BYTES, frame, payload_bytes
from engine.sources.rocketmq.addresses import NameServers
from engine.sources.rocketmq.binding import PullConsumer, library
from engine.sources.rocketmq.native_producer import NativeProducer
from engine.sources.rocketmq.pipe import (
    BROKER_TIMEOUT,
    MAX_FRAME_BYTES,
    MAX_REASON_CHARS,
    MISSING,
    RENEW,
    Answer,
    ClientSetup,
    ListAnswer,
    Listed,
    ListRequest,
    NativeLibraryMissing,
    PullAnswer,
    Pulled,
    PullRequest,
    QueueName,
    Request,
    Status,
    StoreAnswer,
    Stored,
    StoreRequest,
)
from engine.telemetry import setup_logging

BEAT_S: Final = 1.0
"""Between two reports of how this process is; the engine ends one that is silent."""

LOOK_UP_S: Final = 5.0
LOOK_UP_AGAIN_S: Final = 1.0
"""Between two look-ups of the name servers' addresses, while there is a client and while there is none."""

LOOK_UP_AT_MOST_S: Final = 120.0
"""How long a look-up may take before this process gives up: another one begins anew."""

UNWELL_S: Final = 10.0
"""How long no server may have answered before new addresses of the name servers are a reason to begin anew."""

THREADS: Final = 520
"""Requests under way at a time: each queue has one, a list of queues another."""

THREAD_STACK_BYTES: Final = 512 * 1024

MAX_MEMORY_BYTES: Final = 1024 * 2**20
"""Memory that this process may hold; above it, it ends before the machine suffers. What a server sends decides how much the library takes."""

MAX_DATA_BYTES: Final = 1536 * 2**20
"""The same as the system enforces it, with the stacks of all threads: what goes beyond is refused, and the library ends the process."""

_SET_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_FIRST_TO_GO: Final = "800"  # the kernel ends this process before the engine when memory runs out

_NOT_YET: Final = "connecting"


class _Child:
    """Requests in, answers out; the client between them begins once a name server has an address."""

    def __init__(self, setup: ClientSetup, out: BinaryIO) -> None:
        self._setup = setup
        self._out = out
        self._turn = threading.Lock()  # to write
        self._encoder = msgspec.msgpack.Encoder()
        self._consumer: PullConsumer | None = None
        self._producer: NativeProducer | None = None
        self._given: frozenset[str] = frozenset()  # addresses that the library has
        self._answered_s = time.monotonic()  # when a server answered last
        self._look_up_since_s: float | None = None
        self._status = Status(_NOT_YET, "")
        self._names = NameServers(setup.connection)

    def begin(self) -> None:
        """Start what goes on beside the requests."""
        for work in (self._look_up, self._beat):
            threading.Thread(target=_or_end, args=(work,), daemon=True).start()

    def answer(self, asked: Request) -> None:
        """Carry out one request. Whatever goes wrong is the answer."""
        try:
            self._say(self._carried_out(asked))
        except Exception as fault:  # noqa: BLE001  # a request without an answer would be waited for
            self._say(_failed(asked, foreign_text(f"internal error: {fault!r}", MAX_REASON_CHARS)))

    def _carried_out(self, asked: Request) -> Answer:
        if isinstance(asked, StoreRequest) and self._producer is not None:
            stored = self._producer.store(asked)
            self._note(stored.confirmed)
            return StoreAnswer(asked.id, stored)
        if isinstance(asked, PullRequest) and self._consumer is not None:
            name = QueueName(asked.topic, asked.broker, asked.queue)
            pulled = self._consumer.pull_on(name, asked.tags, asked.offset, asked.at_most)
            self._note(pulled.status != BROKER_TIMEOUT)
            return PullAnswer(asked.id, pulled)
        if isinstance(asked, ListRequest) and self._consumer is not None:
            listed = self._consumer.queues(asked.topic)
            self._note(bool(listed.queues))
            return ListAnswer(asked.id, listed)
        return _failed(asked, self._status.trouble or _NOT_YET)

    def _note(self, is_answered: bool) -> None:
        if is_answered:
            self._answered_s = time.monotonic()

    def _say(self, answer: Answer) -> None:
        message = frame(self._encoder.encode(answer))
        with self._turn:
            self._out.write(message)
            self._out.flush()

    # Beside the requests

    def _beat(self) -> None:
        while True:
            self._say(self._status)
            time.sleep(BEAT_S)
            if _memory_bytes() > MAX_MEMORY_BYTES:
                _end(1, f"the RocketMQ client held more than {MAX_MEMORY_BYTES >> 20} MiB of memory")
            since_s = self._look_up_since_s
            if since_s is not None and time.monotonic() - since_s > LOOK_UP_AT_MOST_S:
                _end(1, f"looking up the name servers took more than {LOOK_UP_AT_MOST_S:.0f} s")

    def _look_up(self) -> None:
        while True:
            self._look_up_since_s = time.monotonic()
            found = self._names.look_up()
            self._look_up_since_s = None
            is_new = not self._given.issuperset(found.addresses)
            if not self._given and found.addresses:
                self._connect(found.addresses)
            elif is_new and time.monotonic() - self._answered_s > UNWELL_S:
                # What the library does in between is not waited for: a connection that hangs would hold it up.
                _end(RENEW, "the name servers have other addresses now")
            self._report(Status("" if self._given else found.unresolved or _NOT_YET, found.unresolved))
            time.sleep(LOOK_UP_S if self._given else LOOK_UP_AGAIN_S)

    def _connect(self, addresses: tuple[str, ...]) -> None:
        numbers = msgspec.structs.replace(
            self._setup.connection, name_servers=";".join(addresses), name_server_domain=""
        )
        if self._setup.send_timeout_ms is None:
            consumer = PullConsumer(numbers)
            if not consumer.start():
                _end(1, f"the native RocketMQ client does not start: {consumer.why()}")
            self._consumer = consumer
        else:
            self._producer = NativeProducer(numbers, self._setup.send_timeout_ms)
        self._given = frozenset(addresses)
        self._answered_s = time.monotonic()

    def _report(self, status: Status) -> None:
        if status != self._status:
            self._status = status
            self._say(status)


def _failed(asked: Request, why: str) -> Answer:
    if isinstance(asked, PullRequest):
        return PullAnswer(asked.id, Pulled(BROKER_TIMEOUT, 0, 0, 0, [], [], -1, -1, why))
    if isinstance(asked, ListRequest):
        return ListAnswer(asked.id, Listed([], why))
    return StoreAnswer(asked.id, Stored(False, why))


def _end(code: int, why: str = "") -> None:
    """End at once, without the library: leaving a cluster may take seconds, and nothing is lost without it."""
    if why:
        print(why, file=sys.stderr, flush=True)
    os._exit(code)


def _or_end(work: Callable[[], None]) -> None:
    """Run what must go on as long as this process does."""
    try:
        work()
    except BrokenPipeError:
        _end(0)  # the engine has ended
    except NativeLibraryMissing as missing:
        _end(MISSING, str(missing))
    except BaseException as fault:  # noqa: BLE001  # without it this process would only seem to work
        _end(1, f"internal error: {fault!r}")


def _memory_bytes() -> int:
    """Memory that this process holds; 0 where that is not known."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _protect() -> None:
    """The engine goes first: this process ends with it, writes no memory image that holds secrets, and is ended before it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Input and output, out of the library's reach: what it prints goes to standard error."""
    inwards, outwards = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return os.fdopen(inwards, "rb", 2**16), os.fdopen(outwards, "wb", 2**16)


def _read(stream: BinaryIO) -> bytes:
    """One frame; empty at the end of the input."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return b""
    length = payload_bytes(head)
    if length > MAX_FRAME_BYTES:
        return b""
    body = stream.read(length)
    return body if len(body) == length else b""


def serve() -> None:
    """Answer requests until the input ends."""
    _protect()
    inwards, outwards = _own_pipes()
    first = _read(inwards)
    if not first:
        return
    setup = msgspec.msgpack.decode(first, type=ClientSetup)
    setup_logging(setup.log_level, "json")
    threading.stack_size(THREAD_STACK_BYTES)
    child = _Child(setup, outwards)
    child.begin()
    threads = ThreadPoolExecutor(THREADS)
    decoder = msgspec.msgpack.Decoder(Request)
    while payload := _read(inwards):
        threads.submit(_or_end, partial(child.answer, decoder.decode(payload)))
    _end(0)


def probe() -> int:
    """Whether the library loads: 0, or `MISSING` and the reason on standard output."""
    _protect()
    try:
        library()
    except NativeLibraryMissing as missing:
        print(missing)
        return MISSING
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--probe"]:
        sys.exit(probe())
    serve()
