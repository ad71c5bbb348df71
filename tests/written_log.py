"""What the engine logs while a test runs, as JSON lines in memory. Read `WrittenLog.lines`."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from engine.telemetry import Event, setup_logging


class WrittenLog:
    """The log of a test."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """All that was written."""
        return self._stream.getvalue()

    def lines(self, event: Event) -> list[dict[str, Any]]:
        """The lines about one event, oldest first."""
        return [line for line in map(json.loads, self.text.splitlines()) if line["event"] == str(event)]

    def line(self, event: Event) -> dict[str, Any]:
        """The only line about an event."""
        (found,) = self.lines(event)
        return found


@contextmanager
def written_log(level: str = "info") -> Iterator[WrittenLog]:
    """Log into memory inside the block."""
    config, root = structlog.get_config(), logging.getLogger()
    handlers, root_level = root.handlers[:], root.level
    stream = io.StringIO()
    setup_logging(level, "json", stream)
    try:
        yield WrittenLog(stream)
    finally:
        structlog.configure(**config)
        root.handlers[:] = handlers
        root.setLevel(root_level)
