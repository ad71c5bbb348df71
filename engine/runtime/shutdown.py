"""The last resort of a stop: whatever hangs, the process ends. Read `end_within`."""

from __future__ import annotations

import os
import threading
from typing import Final

from engine.telemetry import Event, flush_log, logger

STOP_WITHIN_S: Final = 25.0
"""Longest stop: less than what service managers wait before they kill (30 s and more)."""

log = logger(__name__)


def end_within(seconds: float = STOP_WITHIN_S) -> None:
    """End this process with exit code 1 if it is still there after so many seconds.

    A thread that hangs in a library would else keep it for ever. What was committed stays; everything else comes again.
    """
    timer = threading.Timer(seconds, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    log.error(Event.STOP_FORCED, threads=[thread.name for thread in threading.enumerate() if thread.name != "log"][:20])
    flush_log(1.0)
    os._exit(1)
