"""Webhooks from a process of their own, so that sending and deciding use two cores: the engine's side.

`SenderProcess` starts the other side (`engine.actions.webhook.process`), gives it jobs and takes its results
(`engine.actions.webhook.pipe` has the format). When the child ends it is started again, and what it was sending is to be tried
again, because it may have arrived. What the child logs appears in the engine's own log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.actions.base import Done, OutboxItem, Outcome, Rejected, RetryLater
from engine.actions.receiver_setup import ReceiverSetup
from engine.actions.webhook.connection_setup import ConnectionSetup
from engine.actions.webhook.pipe import MAX_FRAME_BYTES, USER_AGENT, Job, Result, SenderSetup, to_outcome
from engine.core.frames import Frames, frame
from engine.telemetry import Event, log_level, logger, relay

FRAME_JOBS: Final = 64
"""Jobs in one frame: the first of many is being sent while the rest are still being packed."""

PREFETCH: Final = 64
"""Jobs of one target beyond those being sent: the child goes on with them while its results are on the way back."""

RESTART_AFTER_S: Final = 1.0
"""Between two starts of a child that ends; the first restart does not wait."""

ENDS_TOO_MANY: Final = 3
ENDS_WITHIN_S: Final = 60.0
"""So many ends within so many seconds mean that the process keeps ending."""

PING_EVERY_S: Final = 10.0
"""A child that says nothing for so long is asked whether it is still there."""

PINGS_UNANSWERED: Final = 6
"""After so many it hangs, and is killed; half of them are a trouble."""

CLOSE_WITHIN_S: Final = 2.0
"""How long a stop waits for the child to end, and then for the last lines of its log."""

MAX_LOG_LINE_BYTES: Final = 64 * 1024
"""Of the child's log: a longer line is cut."""

log = logger(__name__)


class SenderProcess:
    """A `BatchSender` that sends webhooks from another process. Start it, submit, close."""

    def __init__(
        self,
        secrets: Mapping[str, str],
        deny: Sequence[str] = (),
        user_agent: str = USER_AGENT,
        per_target: int = 16,
        connections: Mapping[str, ConnectionSetup] | None = None,
        receivers: Mapping[str, ReceiverSetup] | None = None,
        send_until_s: Callable[[], float] | None = None,
    ) -> None:
        """`send_until_s`: until when something may be sent (seconds of `engine.clock.running_ms`); None: always."""
        self._send_until_s, self._told_until_s = send_until_s, 0.0
        self._setup = SenderSetup(
            dict(secrets),
            list(deny),
            user_agent,
            per_target,
            log_level(),
            dict(connections or {}),
            dict(receivers or {}),
        )
        self.prefetch = PREFETCH
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Result])
        self._given: dict[int, Done] = {}  # jobs that the child has
        self._waiting: list[tuple[Job, Done]] = []  # while there is no child
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._relay: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._ends: deque[float] = deque(maxlen=ENDS_TOO_MANY)  # when (monotonic) the child ended, newest last
        self._problem: str | None = None  # why there is no child
        self._pings = 0  # since it said something
        self._has_spoken = True  # since the last look
        self.restarts = 0

    async def start(self) -> None:
        """Start the child. Raises OSError when that cannot be done."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name="webhook sender")

    async def ready(self) -> None:
        """Wait until the child can send. Optional: what is submitted before waits in the pipe."""
        await self._ready.wait()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._process.pid if self._process else None

    def trouble(self) -> str | None:
        """Why webhooks are not sent, whatever their target; None while they are."""
        if self._keeper is not None and self._keeper.done():
            return "what keeps the process has ended"
        if self._process is None:
            return self._problem or "the process is not running"
        if len(self._ends) == ENDS_TOO_MANY and time.monotonic() - self._ends[0] < ENDS_WITHIN_S:
            return f"the process keeps ending: {ENDS_TOO_MANY} times within {ENDS_WITHIN_S:.0f} s; {self._problem}"
        if self._pings >= PINGS_UNANSWERED // 2:
            return f"the process has not answered for {self._pings * PING_EVERY_S:.0f} s"
        return None

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Pass items on; the outcomes come in batches through `done`."""
        jobs = [Job(item.id, item.key, item.target, dict(item.request), item.action) for item in items]
        if self._process is None:
            self._waiting += [(job, done) for job in jobs]
            return
        for job in jobs:
            self._given[job.id] = done
        self._write(jobs)

    def tell_lease(self) -> None:
        """Tell the child until when it may send, if that has changed."""
        if self._send_until_s is None or self._process is None:
            return
        until_s = self._send_until_s()
        if until_s != self._told_until_s:
            self._told_until_s = until_s
            self._write_frame(self._encoder.encode(until_s))

    def _write(self, jobs: Sequence[Job]) -> None:
        self.tell_lease()
        for at in range(0, len(jobs), FRAME_JOBS):
            for payload in self._payloads(jobs[at : at + FRAME_JOBS]):
                self._write_frame(payload)

    def _payloads(self, jobs: Sequence[Job]) -> Iterator[bytes]:
        """Jobs as frames hold them. One that no frame can hold is rejected, and the others are sent."""
        try:
            payload = self._encoder.encode(jobs)
            if len(payload) > MAX_FRAME_BYTES:
                raise ValueError(f"it has {len(payload)} bytes, more than {MAX_FRAME_BYTES}")
        except Exception as error:  # noqa: BLE001  # a number or a text that cannot be sent, whatever the library raises for it
            if len(jobs) > 1:
                for job in jobs:
                    yield from self._payloads([job])
                return
            answer = Rejected(reason=f"the request cannot be sent: {error}")
            outcome = Outcome(id=jobs[0].id, answer=answer, attempted_at_ms=time.time_ns() // 1_000_000)
            # Not from here: whoever submits is not prepared for an answer yet.
            asyncio.get_running_loop().call_soon(self._pass_on, [outcome])
        else:
            yield payload

    async def _spawn(self) -> None:
        # -P and PYTHONPATH: the child imports this very package, not what lies in the working directory.
        here = str(Path(__file__).parents[3])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]).rstrip(":"),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "engine.actions.webhook.process",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # one that ended at once is noticed by its output, too
            process.stdin.write(frame(self._encoder.encode(self._setup)))
        self._process, self._told_until_s = process, 0.0
        self.tell_lease()
        self._relay = asyncio.create_task(_relay_log(process), name="webhook sender log")
        waiting, self._waiting = self._waiting, []
        self._pings, self._has_spoken = 0, True
        asyncio.get_running_loop().call_later(PING_EVERY_S, self._ping, process)
        self._given.update((job.id, done) for job, done in waiting)
        self._write([job for job, _ in waiting])

    async def _keep(self) -> None:
        """Read results; when the child ends, have all its jobs tried again, and start another."""
        while True:
            assert self._process is not None
            await self._read_to_the_end(self._process)
            exit_code = await self._process.wait()
            log.warning(Event.WEBHOOK_PROCESS_ENDED, exit_code=exit_code, webhooks=len(self._given))
            self._process = None
            self._problem = f"it ended with exit code {exit_code}"
            self._ends.append(time.monotonic())
            self._give_up()
            self.restarts += 1
            if self.restarts > 1:
                await asyncio.sleep(RESTART_AFTER_S)
            while self._process is None:
                try:
                    await self._spawn()
                except Exception as error:  # whatever it is: without a child every webhook would wait for ever
                    log.error(Event.WEBHOOK_PROCESS_UNSTARTABLE, exc_info=error)
                    self._problem = f"it cannot be started: {error}"
                    await asyncio.sleep(RESTART_AFTER_S)

    async def _read_to_the_end(self, process: asyncio.subprocess.Process) -> None:
        """Read until it ends; one that sends invalid data is killed."""
        try:
            await self._read(process)
        except Exception as error:
            log.error(Event.WEBHOOK_PROCESS_GARBLED, exc_info=error)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        frames = Frames(MAX_FRAME_BYTES)
        while data := await process.stdout.read(2**18):
            self._pings, self._has_spoken = 0, True
            for payload in frames.feed(data):
                self._ready.set()
                self._pass_on([to_outcome(result) for result in self._decoder.decode(payload)])

    def _ping(self, process: asyncio.subprocess.Process) -> None:
        """Ask a child that has said nothing for a while; kill one that answers no more, which `_keep` notices."""
        if process is not self._process:
            return
        if self._has_spoken:
            self._pings = 0
        elif self._pings >= PINGS_UNANSWERED:
            silent_s = self._pings * PING_EVERY_S
            log.error(Event.WEBHOOK_PROCESS_GARBLED, error=f"it has not answered for {silent_s:.0f} s")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            return
        else:
            self._pings += 1
            self._write_frame(self._encoder.encode([]))
        self._has_spoken = False
        asyncio.get_running_loop().call_later(PING_EVERY_S, self._ping, process)

    def _write_frame(self, payload: bytes) -> None:
        """The end of the child is noticed by its output; what was written to it is tried again then."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(frame(payload))

    def _pass_on(self, outcomes: Sequence[Outcome]) -> None:
        by_done: dict[Done, list[Outcome]] = {}
        for outcome in outcomes:
            done = self._given.pop(outcome.id, None)
            if done is not None:
                by_done.setdefault(done, []).append(outcome)
        for done, some in by_done.items():
            try:
                done(some)
            except Exception as error:  # an error about one target must not keep results from the others
                log.error(Event.WEBHOOK_RESULTS_LOST, webhooks=len(some), exc_info=error)

    def _give_up(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        answer = RetryLater(reason="the process that sends webhooks ended", may_have_arrived=True, our_fault=True)
        self._pass_on([Outcome(id=id_, answer=answer, attempted_at_ms=now_ms) for id_ in list(self._given)])

    async def close(self) -> None:
        """End the child; its jobs stay without an outcome."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._given.clear()
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        if not await _has_ended(process):
            process.kill()
            await _has_ended(process)
        if self._relay is not None:
            await asyncio.wait({self._relay}, timeout=CLOSE_WITHIN_S)
            self._relay.cancel()
        # The pipes may still be held by others, and asyncio has no public name for them.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001


async def _has_ended(process: asyncio.subprocess.Process) -> bool:
    """Wait for its end, but not for ever: Python may wait for whoever holds its pipes, such as a program that the child started."""
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await process.wait()
    except TimeoutError:
        return False
    return True


async def _relay_log(process: asyncio.subprocess.Process) -> None:
    """Write what the child logs into the engine's log, until it ends."""
    assert process.stderr is not None
    rest = b""
    while data := await process.stderr.read(2**16):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MAX_LOG_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            relay(log, line, Event.WEBHOOK_PROCESS_OUTPUT)
    relay(log, rest, Event.WEBHOOK_PROCESS_OUTPUT)
