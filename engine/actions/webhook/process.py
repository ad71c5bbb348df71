"""The process that sends webhooks: `python -m engine.actions.webhook.process`, started by `engine.actions.webhook.sender`.

It reads jobs from standard input and writes results to standard output, in the frames of `engine.actions.webhook.pipe`. It ends
when its input does, so it never outlives the engine. Its log lines are JSON on standard error; the engine reads them and writes
them into its own log. Read `_Child`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import resource
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from engine.actions.base import Attempted, Rejected, RetryLater, Untried
from engine.actions.webhook.pipe import MAX_FRAME_BYTES, NOTIFY, UNTRIED, Job, Result, SenderSetup, to_result
from engine.actions.webhook.request import WebhookSender
from engine.clock import running_ms
from engine.core.frames import Frames, frame
from engine.telemetry import Event, logger, setup_logging

GATHER_S: Final = 0.002
"""How long results may be collected while more jobs wait; without any they are written at once."""

MAX_FILES: Final = 65_536
"""Files and connections that this process may have open: more than its deliveries in memory need."""

if TYPE_CHECKING:
    from engine.actions.notify import ReceiverSender

log = logger(__name__)


@dataclass(slots=True)
class _TargetJobs:
    """The jobs of one target: those not begun, and how many are being sent."""

    jobs: deque[Job] = field(default_factory=deque)
    under_way: int = 0


class _Child(asyncio.Protocol):
    """Jobs in, results out."""

    def __init__(self, out: asyncio.WriteTransport, ended: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._out = out
        self._ended = ended
        self._frames = Frames(MAX_FRAME_BYTES)
        self._decoder = msgspec.msgpack.Decoder(list[Job] | float)
        self._send_until_s = math.inf  # by `running_ms`
        self._encoder = msgspec.msgpack.Encoder()
        self._targets: dict[str, _TargetJobs] = {}
        self._waiting = 0  # jobs not begun, of all targets
        self._results: list[Result] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._per_target = 0
        self.sender: WebhookSender | None = None
        self.notifier: ReceiverSender | None = None  # without receivers, none is needed

    def data_received(self, data: bytes) -> None:
        """The first frame is the setup, every other one a list of jobs or an end of the lease."""
        for payload in self._frames.feed(data):
            if self.sender is None:
                setup = msgspec.msgpack.decode(payload, type=SenderSetup)
                setup_logging(setup.log_level, "json")
                hidden = [secret for receiver in setup.receivers.values() for secret in receiver.secrets()]
                self.sender = WebhookSender(
                    setup.secrets, setup.deny, setup.user_agent, setup.connections, hidden, self._may_send
                )
                if setup.receivers:
                    from engine.actions.notify import (
                        ReceiverSender,  # most services have none, and start sooner without it
                    )

                    self.notifier = ReceiverSender(setup.receivers, self.sender, setup.user_agent)
                self._per_target = setup.per_target
                self._flush()  # an empty list of results: ready
                continue
            jobs = self._decoder.decode(payload)
            if isinstance(jobs, float):
                self._send_until_s = jobs
                continue
            if not jobs:
                self._flush()  # a ping: whatever there is, perhaps nothing, is the answer
            for job in jobs:
                self._enqueue(self.sender, job)

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine has ended: end too."""
        self._ended.set()

    def _enqueue(self, sender: WebhookSender, job: Job) -> None:
        waiting = self._targets.get(job.target)
        if waiting is None:
            waiting = self._targets[job.target] = _TargetJobs()
        waiting.jobs.append(job)
        self._waiting += 1
        if waiting.under_way < self._per_target:
            waiting.under_way += 1
            task = self._loop.create_task(self._work(sender, job.target, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, sender: WebhookSender, target: str, waiting: _TargetJobs) -> None:
        """One job of a target after the other, until none is left."""
        while waiting.jobs:
            job = waiting.jobs.popleft()
            self._waiting -= 1
            waited = (
                await self.notifier.wait(job.request) if job.action == NOTIFY and self.notifier is not None else None
            )
            began_ns = time.monotonic_ns()
            answer = waited or (await self._carry_out(sender, job) if self._may_send() else Untried())
            if isinstance(answer, Untried):
                waiting.jobs.appendleft(job)
                self._waiting += 1
                self._hand_back(waiting)
                break
            took_ms = (time.monotonic_ns() - began_ns) // 1_000_000
            self._add(to_result(job.id, answer, time.time_ns() // 1_000_000, took_ms))
            if isinstance(answer, RetryLater):
                self._hand_back(waiting)
        waiting.under_way -= 1
        if not waiting.under_way:
            self._targets.pop(target, None)

    def _may_send(self) -> bool:
        return running_ms() / 1000 < self._send_until_s

    async def _carry_out(self, sender: WebhookSender, job: Job) -> Attempted:
        try:
            if job.action == NOTIFY:
                if self.notifier is None:
                    return Rejected(reason=f"the configuration has no receiver {job.request.get('receiver')}")
                return await self.notifier.send(job.key, job.request)
            return await sender.post(job.key, job.request)
        except Exception as error:  # one job must not cost the others
            # Only the kind of the error is shown: its text may hold a secret.
            log.error(
                Event.SENDER_FAILED, action=job.action, delivery=job.id, error=type(error).__name__, exc_info=error
            )
            return RetryLater(reason=f"sending failed: {type(error).__name__}", may_have_arrived=True)

    def _hand_back(self, waiting: _TargetJobs) -> None:
        """The target fails, or the lease is over: return what was not begun, for the engine to decide."""
        now_ms = time.time_ns() // 1_000_000
        self._waiting -= len(waiting.jobs)
        for job in waiting.jobs:
            self._add(Result(job.id, UNTRIED, now_ms))
        waiting.jobs.clear()

    def _add(self, result: Result) -> None:
        if not self._results:
            # While more jobs wait, results are collected; otherwise the engine may be waiting for this one.
            if self._waiting:
                self._loop.call_later(GATHER_S, self._flush)
            else:
                self._loop.call_soon(self._flush)
        self._results.append(result)

    def _flush(self) -> None:
        results, self._results = self._results, []
        if self._out.is_closing():
            self._ended.set()  # the engine was killed: webhooks without a recorded result are sent again after its next start
            return
        self._out.write(frame(self._encoder.encode(results)))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    _, child = await loop.connect_read_pipe(lambda: _Child(out, ended), sys.stdin)
    await ended.wait()
    if child.sender is not None:
        await child.sender.close()


def allow_connections() -> None:
    """Let this process have as many files open as the system allows it: by default it is 1,024, which 64 targets that hang use up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # then it has to do with what it has
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """Send what comes through standard input until it ends. Signals are ignored: the engine ends this process when it is done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    allow_connections()
    # Each request leaves some cyclic garbage; collecting it every few hundred objects costs a tenth of the time.
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
