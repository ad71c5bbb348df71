"""Instants as people read them: RFC 3339 with milliseconds, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

FOREVER: Final = 1 << 60
"""An instant that never comes."""


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


def rfc3339(instant_ms: int) -> str:
    """Epoch milliseconds as `2026-01-01T00:00:05.000Z`; on a hot path, so the second is remembered."""
    seconds, milliseconds = divmod(instant_ms, 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"
