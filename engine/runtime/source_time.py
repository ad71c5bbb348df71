"""The instants of sources, across steps of the clock and a sleep of the machine. Read `SourceTime.watermark`.

A source says up to when it has read everything, in the engine's time of the moment in which it noted that. When the clock was set
meanwhile, that is moved; what lies in the future is not believed. After a sleep nothing was watched: what rests on missing events
waits for as long as after a start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.clock import EngineClock
from engine.sources.base import Source

NOT_BELIEVED_MS = 1_000
"""An instant that lies further in the future than this was noted by the clock as it was before it was set."""


class SourceTime:
    """Knows up to when each source has read everything. Used by the writer's thread and by the event loop."""

    def __init__(self, clock: EngineClock, sources: Collection[Source], grace_ms: int) -> None:
        """`sources`: those that run now, a view that changes when one is restarted. `grace_ms`: how long after a sleep the sources get to catch up."""
        self.slept_ms = 0  # in the newest sleep, until it is taken note of
        self._clock, self._grace_ms = clock, grace_ms
        self._sources = sources
        self._said: dict[
            str, tuple[int, int]
        ] = {}  # by source: what it said last, and the steps taken when it said so first
        self._asleep_since_ms = 0  # steady: when the machine fell asleep
        self._grace_until_ms = 0  # steady: until then that is what the sources are caught up to

    def caught_up_ms(self, source: Source, now_ms: int) -> int | None:
        """Up to when a source has read everything, as the engine's time is now; None: not known."""
        said_ms = source.caught_up_to(now_ms)
        if said_ms is None:
            return None
        shifted_ms = self._clock.shifted_ms
        before = self._said.get(source.name)
        if before is None or before[0] != said_ms:
            if said_ms > now_ms and said_ms > self._clock.now_ms() + NOT_BELIEVED_MS:
                # Noted in the moment in which the clock was put back. What it said before that still holds.
                return None if before is None else before[0] + shifted_ms - before[1]
            before = self._said[source.name] = (said_ms, shifted_ms)
        found_ms = said_ms + shifted_ms - before[1]
        if found_ms > now_ms and found_ms > self._clock.now_ms() + NOT_BELIEVED_MS:
            return None
        return found_ms

    def watermark(self, now_ms: int, blind: Mapping[str, int]) -> int:
        """The least that any source has read up to, at most `now_ms`; 0: one does not know. `blind`: since when (steady)."""
        best = now_ms
        for source in list(self._sources):
            upto = self.caught_up_ms(source, now_ms)
            if upto is None:
                return 0
            best = min(best, upto)
        shifted_ms = self._clock.shifted_ms
        if blind:
            best = min(best, min(list(blind.values()), default=best) + shifted_ms)
        return self._after_a_sleep(best, shifted_ms)

    def _after_a_sleep(self, best: int, shifted_ms: int) -> int:
        slept_ms = self._clock.slept_ms()
        if not slept_ms and not self._grace_until_ms:
            return best
        steady_ms = self._clock.now_ms() - shifted_ms
        if slept_ms:
            self.slept_ms = slept_ms
            if steady_ms >= self._grace_until_ms:
                self._asleep_since_ms = steady_ms - slept_ms
            self._grace_until_ms = steady_ms + self._grace_ms
        if steady_ms >= self._grace_until_ms:
            self._grace_until_ms = 0
            return best
        return min(best, self._asleep_since_ms + shifted_ms)
