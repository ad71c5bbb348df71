"""Instants as people read them: RFC 3339 with milliseconds, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

FOREVER: Final = 1 << 60
"""An instant that never comes."""

MAX_REMEMBERED: Final = 4096
"""Seconds whose text is remembered: instants of a moment's events lie close together."""

_MILLISECONDS: Final = [f".{millisecond:03d}Z" for millisecond in range(1000)]
_seconds: dict[int, str] = {}


def rfc3339(instant_ms: int) -> str:
    """Epoch milliseconds as `2026-01-01T00:00:05.000Z`; on a hot path, so the texts of its parts are remembered."""
    second = instant_ms // 1000
    text = _seconds.get(second)
    if text is None:
        if len(_seconds) >= MAX_REMEMBERED:
            _seconds.clear()
        text = _seconds[second] = (EPOCH + timedelta(seconds=second)).isoformat()[:19]
    return text + _MILLISECONDS[instant_ms - second * 1000]


DURATION_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def duration_text(duration_ms: int) -> str:
    """Milliseconds as the shortest text that people write for a duration: 362000 is `6m2s`, 0 is `0s`."""
    parts = []
    for name, unit_ms in DURATION_UNITS:
        count, duration_ms = divmod(duration_ms, unit_ms)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def stepped_text(step_ms: int) -> str:
    """That this machine's clock was set, as people read it: `clock stepped by +2m`."""
    return f"clock stepped by {'-' if step_ms < 0 else '+'}{duration_text(abs(step_ms))}"
