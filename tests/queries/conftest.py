"""What several test modules of status queries need."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from engine.telemetry import setup_logging

Lines = Callable[[str], list[dict[str, Any]]]
"""The lines of an event that were logged so far, by its name."""


@pytest.fixture
def log() -> Iterator[Lines]:
    """The engine's log, read back."""
    stream = io.StringIO()
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    setup_logging("info", "json", stream)

    def lines(event: str) -> list[dict[str, Any]]:
        return [line for text in stream.getvalue().splitlines() if (line := json.loads(text))["event"] == event]

    yield lines
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level
