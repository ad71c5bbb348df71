"""The one place that reads the time. All instants are UTC, as integers of epoch milliseconds."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Something that knows what time it is."""

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return time.time_ns() // 1_000_000
