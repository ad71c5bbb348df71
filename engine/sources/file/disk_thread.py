"""A thread for whatever touches the disk: a disk that hangs must stop neither the event loop nor the end of the process.

A call to a network share that is gone, or to a dying disk, may never return, and nothing can interrupt it. So the event loop
never makes such a call, and the thread is a daemon: the process ends without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DiskThread:
    """Makes calls one after the other, in their order. The thread starts with the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._is_started = False

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call; the future of the running event loop has its result."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def call() -> None:
            result: Any = None
            failure: Exception | None = None
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  # whatever it is, who waits is told
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, done, result, failure)

        self.post(call)
        return done

    def post(self, work: Callable[[], object]) -> None:
        """Make a call that nobody waits for; it must not raise."""
        if not self._is_started:
            self._is_started = True
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        self._calls.put(work)

    def end(self) -> None:
        """Let the thread end after the calls before this one. Does not wait for it."""
        if self._is_started:
            self._calls.put(None)

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            work()


def _settle(done: asyncio.Future[T], result: T, failure: Exception | None) -> None:
    if done.done():
        return  # cancelled meanwhile
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)
