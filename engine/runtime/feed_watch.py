"""Which sources are in trouble: not caught up, disconnected, without events, or with a gap. Trouble fires `feed` alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from engine.core.times import duration_text
from engine.sources.base import Gap, SourceHealth

GAP_SHOWN_MS = 600_000
"""How long a gap keeps its source in trouble: long enough to be seen, and to query the clients that it may concern."""

SILENT = "silent"
"""How the trouble of a source begins that is well, except that no events come."""


CLOCK_SHOWN_MS = 600_000
"""How long a step of the clock is shown as trouble: long enough to be seen."""

CLOCK = "engine clock"
"""What a step of the clock is trouble of, beside the sources: no source can have this name."""


CLIENTS = "client limit"
"""What it is trouble of that new clients are refused; no source can have this name either."""


class FeedWatch:
    """Turns the health of sources into trouble, and says what changed since `note` was called last. No I/O.

    Its instants are those of a clock that nobody sets: `SourceRunner` hands over the health of sources in that time.
    """

    def __init__(self, max_lag_ms: int, max_silence_ms: int | None, started_at_ms: int) -> None:
        self._max_lag_ms = max_lag_ms
        self._max_silence_ms = max_silence_ms
        self._started_at_ms = started_at_ms
        self._trouble: dict[str, str] = {}
        self._recalled: set[str] = set()  # in trouble before the restart, and not known to be well since
        self._gaps: dict[str, Gap] = {}
        self._found: Counter[str] = Counter()

    @property
    def trouble(self) -> dict[str, str]:
        """What is wrong now: source -> a sentence."""
        return dict(self._trouble)

    @property
    def gaps_found(self) -> Mapping[str, int]:
        """How many gaps were noted, by source."""
        return dict(self._found)

    def note_gap(self, gap: Gap) -> None:
        """A source found that messages it never read are gone; a batch that is offered again says so again."""
        if self._gaps.get(gap.source) != gap:
            self._gaps[gap.source] = gap
            self._found[gap.source] += 1

    def begin(self, now_ms: int) -> None:
        """The sources are read from now on. A standby has not read any: that long is no lag and no silence of theirs."""
        self._started_at_ms = now_ms

    def recall(self, trouble: Mapping[str, str], gaps: Iterable[Gap] = ()) -> None:
        """What was wrong before the restart, gaps newest first: it ends when the source is well, or is there no more."""
        self._trouble.update(trouble)
        self._recalled |= trouble.keys()
        for gap in gaps:
            self._gaps.setdefault(gap.source, gap)

    def changes(
        self, healths: Iterable[SourceHealth], now_ms: int, others: Mapping[str, str] | None = None
    ) -> list[tuple[str, str | None]]:
        """Sources that came into trouble, or out of it (None), since what was noted last. `others`: what else is in trouble."""
        now: dict[str, str | None] = {health.name: self._judge(health, now_ms) for health in healths}
        now |= others or {}
        begun = [(name, trouble) for name, trouble in now.items() if trouble is not None and name not in self._trouble]
        return [*begun, *((name, None) for name in self._trouble if now.get(name) is None)]

    def note(self, changed: Iterable[tuple[str, str | None]]) -> None:
        """These changes are known now: `changes` does not return them again."""
        for name, trouble in changed:
            self._recalled.discard(name)
            if trouble is None:
                self._trouble.pop(name, None)
            else:
                self._trouble[name] = trouble

    def not_flowing(self, health: SourceHealth, now_ms: int) -> str | None:
        """Why offline alerts wait for a source for longer than it may lag; None: they do not."""
        if not health.connected:
            return health.detail
        behind_ms = now_ms - max(health.caught_up_to_ms or 0, self._started_at_ms)
        if behind_ms > self._max_lag_ms:
            return f"not caught up for {duration_text(behind_ms // 1000 * 1000)}; {health.detail}"
        return None

    def _judge(self, health: SourceHealth, now_ms: int) -> str | None:
        gap = self._gaps.get(health.name)
        if gap is not None and now_ms - gap.noted_at_ms < GAP_SHOWN_MS:
            return f"gap: {gap.reason}"
        if health.is_connecting and now_ms - self._started_at_ms <= self._max_lag_ms:
            return self._trouble.get(health.name)  # a start needs its time: that alone is no alert, and ends none
        reason = self.not_flowing(health, now_ms)
        if reason is not None:
            return f"degraded: {reason}" if health.connected else f"disconnected: {reason}"
        if health.trouble is not None:
            return f"degraded: {health.trouble}"
        if self._is_silent(health, now_ms):
            silent_ms = now_ms - max(health.last_event_at_ms or 0, self._started_at_ms)
            return f"{SILENT}: no event for {duration_text(silent_ms // 1000 * 1000)}"
        return self._still_in_doubt(health)

    def _is_silent(self, health: SourceHealth, now_ms: int) -> bool:
        last_ms = max(health.last_event_at_ms or 0, self._started_at_ms)
        return self._max_silence_ms is not None and now_ms - last_ms > self._max_silence_ms

    def _still_in_doubt(self, health: SourceHealth) -> str | None:
        """A restart alone makes no source well: it has to have caught up since, or an event to have come."""
        if health.name not in self._recalled:
            return None
        trouble = self._trouble[health.name]
        if trouble.startswith(SILENT):
            well = self._max_silence_ms is None or (health.last_event_at_ms or 0) >= self._started_at_ms
        else:
            well = (health.caught_up_to_ms or 0) >= self._started_at_ms
        return None if well else trouble
