"""SIGHUP asks a running service to load its files again. Read `ReloadSignal`."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable


class ReloadSignal:
    """Takes SIGHUP from its making until the process ends, so that it never ends the process by itself.

    What comes before `call` is remembered; what comes after the event loop has ended is dropped.
    """

    def __init__(self) -> None:
        self._ask: Callable[[], object] | None = None
        self._is_waiting = False
        if hasattr(signal, "SIGHUP"):  # not on every system
            signal.signal(signal.SIGHUP, self._received)

    def call(self, ask: Callable[[], object]) -> None:
        """Call `ask` for each SIGHUP from now on, and for those before once; it must be safe inside a signal handler."""
        self._ask = ask
        if self._is_waiting:
            ask()

    def _received(self, number: int, frame: object) -> None:
        ask = self._ask
        if ask is None:
            self._is_waiting = True
            return
        with contextlib.suppress(RuntimeError):  # the event loop has ended: nothing is loaded any more
            ask()
