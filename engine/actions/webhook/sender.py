"""Webhooks from a process of their own, so that sending and deciding use two cores.

The engine's side is `SenderProcess`, the other side is `main`, run as `python -m engine.actions.webhook.sender`. They speak over the
child's standard input and output in frames: four bytes of length (big endian), then MessagePack. The first frame says how to
send (secrets included: they stand on no command line and in no environment), every other one is a list of jobs, answered by
lists of results in whatever order they come. The child ends when its input does, so it never outlives the engine; when the
child dies it is started again, and what it had in hand is to be tried again, because it may have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engine.actions.base import Answer, Delivered, Done, OutboxItem, Outcome, Rejected, RetryLater, Untried
from engine.actions.webhook.request import USER_AGENT, WebhookSender

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 256 * 2**20
"""Both sides are ours; a longer frame means that they have lost each other."""

FRAME_JOBS = 64
"""Jobs in one frame: the first of many is on its way while the rest are still being packed."""

PREFETCH = 64
"""Of one target, beyond what is under way: what the child goes on with while its results are on the way to us."""

GATHER_S = 0.002
"""How long results may be gathered while the child has more to do; with nothing more to do they leave at once."""

LENGTH = struct.Struct(">I")
DELIVERED, RETRY_LATER, REJECTED, UNTRIED = 0, 1, 2, 3
RESTART_AFTER_S = 1.0
"""Between two starts of a child that dies; the first restart does not wait."""


class Setup(msgspec.Struct, array_like=True):
    """The first frame: how to send."""

    secrets: dict[str, str]
    deny: list[str]
    user_agent: str
    per_target: int


class Job(msgspec.Struct, array_like=True, gc=False):
    """One item, as much of it as sending needs."""

    id: int
    key: str
    target: str
    request: dict[str, Any]


class Result(msgspec.Struct, array_like=True, gc=False):
    """What became of one job. `kind` is DELIVERED, RETRY_LATER, REJECTED or UNTRIED."""

    id: int
    kind: int
    attempted_at_ms: int
    reason: str = ""
    retry_after_ms: int | None = None
    may_have_arrived: bool = False
    our_fault: bool = False


def to_result(id_: int, answer: Answer, at_ms: int) -> Result:
    """An answer as it crosses the pipe."""
    if isinstance(answer, Delivered):
        return Result(id_, DELIVERED, at_ms)
    if isinstance(answer, Rejected):
        return Result(id_, REJECTED, at_ms, answer.reason)
    return Result(
        id_, RETRY_LATER, at_ms, answer.reason, answer.retry_after_ms, answer.may_have_arrived, answer.our_fault
    )


_TAKEN, _UNTRIED = Delivered(), Untried()


def to_outcome(result: Result) -> Outcome:
    """The other way round."""
    answer: Answer | Untried = _TAKEN
    if result.kind == UNTRIED:
        answer = _UNTRIED
    elif result.kind == REJECTED:
        answer = Rejected(reason=result.reason)
    elif result.kind == RETRY_LATER:
        answer = RetryLater(
            reason=result.reason,
            retry_after_ms=result.retry_after_ms,
            may_have_arrived=result.may_have_arrived,
            our_fault=result.our_fault,
        )
    return Outcome(id=result.id, answer=answer, attempted_at_ms=result.attempted_at_ms)


class Frames:
    """Cuts what comes through a pipe into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete with `data`. Raises ValueError for one that is too long."""
        self._buffer += data
        found, at = [], 0
        while len(self._buffer) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, at)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            if len(self._buffer) - at < LENGTH.size + length:
                break
            at += LENGTH.size
            found.append(bytes(self._buffer[at : at + length]))
            at += length
        if at:
            del self._buffer[:at]
        return found


def frame(payload: bytes) -> bytes:
    """A payload with its length before it."""
    return LENGTH.pack(len(payload)) + payload


class SenderProcess:
    """A `BatchSender` whose webhooks leave from another process. Start it, submit, close."""

    def __init__(
        self, secrets: Mapping[str, str], deny: Sequence[str] = (), user_agent: str = USER_AGENT, per_target: int = 16
    ) -> None:
        self._setup = Setup(dict(secrets), list(deny), user_agent, per_target)
        self.prefetch = PREFETCH
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Result])
        self._given: dict[int, Done] = {}  # what the child has in hand
        self._waiting: list[tuple[Job, Done]] = []  # while there is no child
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.restarts = 0

    async def start(self) -> None:
        """Start the child. Raises OSError when that cannot be done."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name="webhook sender")

    async def ready(self) -> None:
        """Wait until the child can send; nobody has to, what is submitted before waits in the pipe."""
        await self._ready.wait()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._process.pid if self._process else None

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Pass items on; the outcomes come in batches through `done`."""
        jobs = [Job(item.id, item.key, item.target, dict(item.request)) for item in items]
        if self._process is None:
            self._waiting += [(job, done) for job in jobs]
            return
        for job in jobs:
            self._given[job.id] = done
        self._write(jobs)

    def _write(self, jobs: Sequence[Job]) -> None:
        assert self._process is not None and self._process.stdin is not None
        for at in range(0, len(jobs), FRAME_JOBS):
            # A child that just died is noticed by its output; what was written to it is tried again then.
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(frame(self._encoder.encode(jobs[at : at + FRAME_JOBS])))

    async def _spawn(self) -> None:
        # -P and PYTHONPATH: the child imports this very package, not what lies in the working directory.
        here = str(Path(__file__).parents[2])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]).rstrip(":"),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "engine.actions.webhook.sender",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # one that died at once is noticed by its output, too
            process.stdin.write(frame(self._encoder.encode(self._setup)))
        self._process = process
        waiting, self._waiting = self._waiting, []
        self._given.update((job.id, done) for job, done in waiting)
        self._write([job for job, _ in waiting])

    async def _keep(self) -> None:
        """Read results; when the child dies, say so for all it had in hand, and start another."""
        while True:
            assert self._process is not None
            await self._read_to_the_end(self._process)
            await self._process.wait()
            self._process = None
            self._give_up()
            self.restarts += 1
            if self.restarts > 1:
                await asyncio.sleep(RESTART_AFTER_S)
            while self._process is None:
                try:
                    await self._spawn()
                except Exception:  # whatever it is: without a child every delivery would wait for ever
                    log.exception("the sending process cannot be started; tried again")
                    await asyncio.sleep(RESTART_AFTER_S)

    async def _read_to_the_end(self, process: asyncio.subprocess.Process) -> None:
        """Read until it ends; one that cannot be understood any more is ended, as if it had died."""
        try:
            await self._read(process)
        except Exception:
            log.exception("the sending process is not understood; it is started again")
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        frames = Frames()
        while data := await process.stdout.read(2**18):
            for payload in frames.feed(data):
                self._ready.set()
                self._tell([to_outcome(result) for result in self._decoder.decode(payload)])

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        told: dict[Done, list[Outcome]] = {}
        for outcome in outcomes:
            done = self._given.pop(outcome.id, None)
            if done is not None:
                told.setdefault(done, []).append(outcome)
        for done, some in told.items():
            try:
                done(some)
            except Exception:  # a fault of ours about one target must not keep the others from being told
                log.exception("the outcomes of %d deliveries could not be taken", len(some))

    def _give_up(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        answer = RetryLater(reason="the sending process ended", may_have_arrived=True, our_fault=True)
        self._tell([Outcome(id=id_, answer=answer, attempted_at_ms=now_ms) for id_ in list(self._given)])

    async def close(self) -> None:
        """End the child; what it had in hand stays without an outcome."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._given.clear()
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(2):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass(slots=True)
class _Line:
    """One target's jobs in the child: those not begun, and how many are under way."""

    jobs: deque[Job] = field(default_factory=deque)
    under_way: int = 0


class _Child(asyncio.Protocol):
    """The child's end: jobs in, results out."""

    def __init__(self, out: asyncio.WriteTransport, ended: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._out = out
        self._ended = ended
        self._frames = Frames()
        self._decoder = msgspec.msgpack.Decoder(list[Job])
        self._encoder = msgspec.msgpack.Encoder()
        self._lines: dict[str, _Line] = {}
        self._waiting = 0  # jobs not begun, of all targets
        self._results: list[Result] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._per_target = 0
        self.sender: WebhookSender | None = None

    def data_received(self, data: bytes) -> None:
        """The first frame says how to send, the others what."""
        for payload in self._frames.feed(data):
            if self.sender is None:
                setup = msgspec.msgpack.decode(payload, type=Setup)
                self.sender = WebhookSender(setup.secrets, setup.deny, setup.user_agent)
                self._per_target = setup.per_target
                self._flush()  # an empty list of results: we are there
                continue
            for job in self._decoder.decode(payload):
                self._line_up(self.sender, job)

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine is gone, and so are we."""
        self._ended.set()

    def _line_up(self, sender: WebhookSender, job: Job) -> None:
        line = self._lines.get(job.target)
        if line is None:
            line = self._lines[job.target] = _Line()
        line.jobs.append(job)
        self._waiting += 1
        if line.under_way < self._per_target:
            line.under_way += 1
            task = self._loop.create_task(self._work(sender, job.target, line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, sender: WebhookSender, target: str, line: _Line) -> None:
        """One job of a target after the other, until none is left."""
        while line.jobs:
            job = line.jobs.popleft()
            self._waiting -= 1
            answer = await _carry_out(sender, job)
            self._tell(to_result(job.id, answer, time.time_ns() // 1_000_000))
            if isinstance(answer, RetryLater):
                self._hand_back(line)
        line.under_way -= 1
        if not line.under_way:
            self._lines.pop(target, None)

    def _hand_back(self, line: _Line) -> None:
        """The target is in trouble: what was not begun goes back, for the engine to decide."""
        now_ms = time.time_ns() // 1_000_000
        self._waiting -= len(line.jobs)
        for job in line.jobs:
            self._tell(Result(job.id, UNTRIED, now_ms))
        line.jobs.clear()

    def _tell(self, result: Result) -> None:
        if not self._results:
            # With more to do, results gather; else someone may be waiting for this one.
            if self._waiting:
                self._loop.call_later(GATHER_S, self._flush)
            else:
                self._loop.call_soon(self._flush)
        self._results.append(result)

    def _flush(self) -> None:
        results, self._results = self._results, []
        if self._out.is_closing():
            self._ended.set()  # the engine was killed; what we tell nobody is sent again after its next start
            return
        self._out.write(frame(self._encoder.encode(results)))


async def _carry_out(sender: WebhookSender, job: Job) -> Answer:
    try:
        return await sender.post(job.key, job.request)
    except Exception as error:  # noqa: BLE001  # one job never costs the others; the text may hold a secret
        return RetryLater(reason=f"sending failed: {type(error).__name__}", may_have_arrived=True)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    _, child = await loop.connect_read_pipe(lambda: _Child(out, ended), sys.stdin)
    await ended.wait()
    if child.sender is not None:
        await child.sender.close()


def main() -> None:
    """Send what comes through standard input until it ends. Signals are the engine's business: it ends us when it is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Each request leaves some cyclic garbage; looking for it every few hundred objects costs a tenth of the time.
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)
    try:
        import uvloop
    except ImportError:  # not available everywhere
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


if __name__ == "__main__":
    main()
