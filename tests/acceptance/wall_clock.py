"""A wall clock of its own for one service, that a test sets while the service runs; the monotonic clock goes on as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PATCH = """
import os
import time

_path, _real = os.environ["WALL_CLOCK"], time.time_ns


def _set():
    try:
        with open(_path) as file:
            return int(file.read() or 0) * 1_000_000
    except OSError:
        return 0


time.time_ns = lambda: _real() + _set()
time.time = lambda: time.time_ns() / 1e9
"""


class WallClock:
    """`environment` is what `Service.start` takes; `ahead_ms` is how far the service's wall clock is ahead of the real one."""

    def __init__(self, folder: Path) -> None:
        place = folder / "wall-clock"
        place.mkdir()
        (place / "sitecustomize.py").write_text(PATCH)
        self._file = place / "ahead"
        self.environment: dict[str, Any] = {"PYTHONPATH": str(place), "WALL_CLOCK": str(self._file)}
        self.set(0)

    def set(self, ahead_ms: int) -> None:
        """The service's wall clock shows this much more than the real one (less: negative)."""
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead_ms))
        new.replace(self._file)
