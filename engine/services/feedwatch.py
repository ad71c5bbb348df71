"""Is a feed dead? A source that is not caught up, disconnected, silent or has a gap is an alert of trigger `feed`."""

from __future__ import annotations

from collections.abc import Iterable

from engine.durations import format_duration
from engine.sources.base import Gap, SourceHealth

GAP_SHOWN_MS = 600_000
"""How long a gap keeps its feed in trouble: long enough to be seen, and to be asked about."""


class FeedWatch:
    """Turns health into trouble and says what changed. Pure but for what it remembers."""

    def __init__(self, max_lag_ms: int, max_silence_ms: int | None, started_at_ms: int) -> None:
        self._max_lag_ms = max_lag_ms
        self._max_silence_ms = max_silence_ms
        self._started_at_ms = started_at_ms
        self._trouble: dict[str, str] = {}
        self._gaps: dict[str, Gap] = {}

    @property
    def trouble(self) -> dict[str, str]:
        """What is wrong now: source -> a sentence."""
        return dict(self._trouble)

    def note_gap(self, gap: Gap) -> None:
        """A source found that messages it never read are gone."""
        self._gaps[gap.source] = gap

    def changes(self, healths: Iterable[SourceHealth], now_ms: int) -> list[tuple[str, str | None]]:
        """Sources that came into trouble, or out of it (None), since the last look."""
        found: list[tuple[str, str | None]] = []
        for health in healths:
            trouble = self._judge(health, now_ms)
            before = self._trouble.get(health.name)
            if trouble is not None and before is None:
                self._trouble[health.name] = trouble
                found.append((health.name, trouble))
            elif trouble is None and before is not None:
                del self._trouble[health.name]
                found.append((health.name, None))
        return found

    def _judge(self, health: SourceHealth, now_ms: int) -> str | None:
        gap = self._gaps.get(health.name)
        if gap is not None and now_ms - gap.noted_at_ms < GAP_SHOWN_MS:
            return f"gap: {gap.reason}"
        if not health.connected:
            return f"disconnected: {health.detail}"
        behind_ms = now_ms - max(health.caught_up_to_ms or 0, self._started_at_ms)
        if behind_ms > self._max_lag_ms:
            return f"degraded: not caught up for {format_duration(behind_ms // 1000 * 1000)}; {health.detail}"
        if self._max_silence_ms is not None:
            silent_ms = now_ms - max(health.last_event_at_ms or 0, self._started_at_ms)
            if silent_ms > self._max_silence_ms:
                return f"silent: no event for {format_duration(silent_ms // 1000 * 1000)}"
        return None
