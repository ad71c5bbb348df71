"""Is a feed dead? A source that is not caught up, disconnected, silent or has a gap is an alert of trigger `feed`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.durations import format_duration
from engine.sources.base import Gap, SourceHealth

GAP_SHOWN_MS = 600_000
"""How long a gap keeps its feed in trouble: long enough to be seen, and to be asked about."""


class FeedWatch:
    """Turns health into trouble and says what changed. Pure but for what it is told to note."""

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

    def recall(self, trouble: Mapping[str, str]) -> None:
        """What was wrong before the restart: it ends when the source is well, or is there no more."""
        self._trouble.update(trouble)

    def changes(self, healths: Iterable[SourceHealth], now_ms: int) -> list[tuple[str, str | None]]:
        """Sources that came into trouble, or out of it (None), since what was noted last."""
        now = {health.name: self._judge(health, now_ms) for health in healths}
        begun = [(name, trouble) for name, trouble in now.items() if trouble is not None and name not in self._trouble]
        return [*begun, *((name, None) for name in self._trouble if now.get(name) is None)]

    def note(self, changed: Iterable[tuple[str, str | None]]) -> None:
        """These changes are known now, and are not told again."""
        for name, trouble in changed:
            if trouble is None:
                self._trouble.pop(name, None)
            else:
                self._trouble[name] = trouble

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
