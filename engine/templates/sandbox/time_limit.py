"""Stops a rendering that takes too long, from outside of it.

The meter makes templates pay for their work, so none should ever come near this limit. Should one do so all the same, another
thread raises an exception in the thread that renders: the text fails like any other, and the engine goes on. Ask `longest_s` how long
a rendering has been going on. Read `TimeLimit.run`.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from engine.templates.sandbox.meter import LimitExceeded

MAX_SECONDS: Final = 5.0
"""Longest rendering of one text, in seconds: twenty times what the budget takes on a slow machine, so that a busy one is no reason."""

LOOK_EVERY_S: Final = 0.25
"""Between two looks at what is being rendered, in seconds."""

T = TypeVar("T")
V = TypeVar("V")


class _Stopped(BaseException):
    """Raised in the thread that renders. No `except Exception` of a template's filter holds it up."""


class _Running:
    """One rendering: when it began, and whether it was told to stop."""

    __slots__ = ("began", "is_stopped")

    def __init__(self, began: float) -> None:
        self.began = began
        self.is_stopped = False


class TimeLimit:
    """Watches renderings, each in its own thread. `max_seconds`: how long one may take."""

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self._max_seconds = max_seconds
        self._running: dict[int, _Running] = {}
        self._lock = threading.Lock()
        self._something_runs = threading.Event()
        self._watcher: threading.Thread | None = None

    def run(self, work: Callable[[V], T], value: V) -> T:
        """`work(value)`. Raises LimitExceeded when that takes too long."""
        thread = threading.get_ident()
        if thread in self._running:  # inside another rendering, which is watched
            return work(value)
        entry = _Running(time.monotonic())
        try:
            self._enter(thread, entry)
            return work(value)
        except _Stopped:
            slow = LimitExceeded(f"the template took longer than {self._max_seconds:g} s and was stopped")
            slow.is_slow = True
            raise slow from None
        finally:
            self._leave(thread, entry)

    def longest_s(self) -> float:
        """How long the rendering that began first has been going on, in seconds; 0 when there is none."""
        began = [entry.began for entry in list(self._running.values())]
        return time.monotonic() - min(began) if began else 0.0

    def _enter(self, thread: int, entry: _Running) -> None:
        self._running[thread] = entry
        if not self._something_runs.is_set():
            self._something_runs.set()
        watcher = self._watcher
        if watcher is None or not watcher.is_alive():  # the first time, or in a process that was forked
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = threading.Thread(target=self._watch, name="template-time-limit", daemon=True)
                self._watcher.start()

    def _leave(self, thread: int, entry: _Running) -> None:
        """No exception arrives after this, not even one that was on its way."""
        while True:
            try:
                with self._lock:
                    self._running.pop(thread, None)
                    if entry.is_stopped:
                        _raise_in(thread, None)
                return
            except _Stopped:
                continue

    def _watch(self) -> None:
        while True:
            self._something_runs.wait()
            time.sleep(LOOK_EVERY_S)
            with self._lock:
                if not self._running:
                    self._something_runs.clear()
                latest = time.monotonic() - self._max_seconds
                for thread, entry in list(self._running.items()):
                    if entry.began < latest:
                        entry.is_stopped = True
                        _raise_in(thread, _Stopped)  # again with every look, should something hold it up


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in a thread at its next step; None takes back one that was not raised yet."""
    wanted = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), wanted)


TIME_LIMIT: Final = TimeLimit()
"""Watches every rendering of this process."""
