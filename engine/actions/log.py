"""Writes messages into the engine's own log: the action that needs no network.

A message is delivered when the log has taken it. A log that cannot be written (a full disk, a reader that has gone, a pipe that nobody
reads) is a target like any other that fails: the message is tried again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from engine.actions.base import Attempted, Delivered, Done, OutboxItem, Outcome, RetryLater, Untried
from engine.telemetry import NOT_WANTED

WITHIN_S: Final = 10.0
"""How long a message may wait for the log to take it."""

Written = Callable[[str | None], None]
"""Takes what became of some messages, in any thread: None when they are written, `NOT_WANTED` when they may not be, else the reason why not."""

Write = Callable[[Sequence[OutboxItem], Written], None]
"""Writes the `message` of each delivery's request, in order, and then calls the second argument once; must not block."""

DELIVERED = Delivered()


class LogSender:
    """Passes messages to `write`, many at once; each is delivered when it is written."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.prefetch = 256  # writing does not wait, so many can be taken at once

    async def send(self, item: OutboxItem) -> Attempted:
        """Write one message."""
        result: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self.submit([item], result.set_result)
        (outcome,) = await result
        assert isinstance(outcome.answer, Delivered | RetryLater | Untried)
        return outcome.answer

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Write messages; `done` is called when the log has taken them, or has not in time."""
        loop = asyncio.get_running_loop()
        call = _Call(items, done)
        call.timer = loop.call_later(WITHIN_S, call.finish, f"the log has not taken it within {WITHIN_S:g} s", True)

        def written(problem: str | None) -> None:
            with contextlib.suppress(
                RuntimeError
            ):  # the event loop has ended: the message is tried again after the next start
                loop.call_soon_threadsafe(partial(call.finish, problem))

        try:
            self._write(items, written)
        except Exception as error:  # noqa: BLE001  # a message that cannot be written must not stop the others
            call.finish(f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Nothing to close."""


class _Call:
    """Messages on their way into the log; what is known first of them counts."""

    def __init__(self, items: Sequence[OutboxItem], done: Done) -> None:
        self._items, self._done = items, done
        self._began_ns = time.monotonic_ns()
        self._is_over = False
        self.timer: asyncio.TimerHandle | None = None

    def finish(self, problem: str | None, may_have_arrived: bool = False) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self.timer is not None:
            self.timer.cancel()
        answer: Attempted = DELIVERED
        if problem == NOT_WANTED:
            answer = Untried()
        elif problem is not None:
            answer = RetryLater(reason=f"the log cannot be written: {problem}", may_have_arrived=may_have_arrived)
        now_ms, took_ms = time.time_ns() // 1_000_000, (time.monotonic_ns() - self._began_ns) // 1_000_000
        self._done(
            [Outcome(id=item.id, answer=answer, attempted_at_ms=now_ms, duration_ms=took_ms) for item in self._items]
        )
