"""The end of a stop: a part of the service that does not end must not keep the process. Read `end_within`."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from engine.telemetry import Event, logger

STOP_WITHIN_S: Final = 25.0
"""Longest stop, in seconds: less than what service managers wait before they kill (30 s and more)."""

LAST_WORDS_S: Final = 1.0
"""How long the last line of the log may take to be written, in seconds."""

log = logger(__name__)


def end_within(seconds: float) -> None:
    """End this process with exit code 1 when it has not ended after so many seconds.

    Nothing is lost by that: what was not committed was not acknowledged either, and the next start is one as after a power cut.
    """
    threading.Thread(target=_end_after, args=(seconds,), name="stop-limit", daemon=True).start()


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    words = threading.Thread(target=lambda: log.error(Event.STOP_FORCED, seconds=seconds), daemon=True)
    words.start()
    words.join(LAST_WORDS_S)  # whoever reads the log may be what hangs
    os._exit(1)
