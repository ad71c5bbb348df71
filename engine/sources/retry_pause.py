"""How long a source waits before it tries again: longer after each failure in a row, up to a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

RETRY_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the first, second … retry; the last one is kept."""


class RetryPause:
    """Counts failures in a row. `steps_s`: seconds before the first, second … retry; the last one is kept."""

    def __init__(self, steps_s: Sequence[float] = RETRY_S) -> None:
        self.steps_s = steps_s
        self._failures = 0

    def next_s(self) -> float:
        """Count one more failure; seconds to wait after it."""
        pause_s = self.steps_s[min(self._failures, len(self.steps_s) - 1)]
        self._failures += 1
        return pause_s

    def reset(self) -> None:
        """It went well: the next failure is the first one again."""
        self._failures = 0
