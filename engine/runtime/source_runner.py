"""The sources of a service: made from the configuration, read into the writer, and watched. Read `SourceRunner.run`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from engine.clock import Clock
from engine.config.loader import Config
from engine.core.fleet import Fleet
from engine.runtime.feed_watch import FeedWatch
from engine.runtime.source_factory import source_of
from engine.sources.base import Batch, Gap, Source
from engine.sources.http import HttpSource
from engine.telemetry import Event, logger

OFFERED_BATCHES = 8
"""Batches of one source that may wait for the writer; beyond, the source waits (back-pressure)."""

SETTLE_S = 60.0
"""How long the restart of a source that failed waits for what it had offered; events that come twice change nothing."""

FEED_POLL_S = 0.5
"""Between two looks at the health of the sources."""

log = logger(__name__)


class SourceRunner:
    """Runs all sources, and knows how they are doing."""

    def __init__(self, config: Config, clock: Clock, fleet: Fleet) -> None:
        self._make = {entry.name: partial(source_of, entry, config, clock.now_ms) for entry in config.sources}
        self.sources: dict[str, Source] = {name: make() for name, make in self._make.items()}
        self.watch = FeedWatch(config.feed.max_lag_ms, config.feed.max_silence_ms, clock.now_ms())
        self._clock, self._fleet = clock, fleet
        self._caught_up = [source.caught_up_to for source in self.sources.values()]
        self._used: set[str] = set()  # sources that have run

    @property
    def push(self) -> HttpSource | None:
        """The source that events are sent to."""
        return next((found for found in self.sources.values() if isinstance(found, HttpSource)), None)

    def watermark_of(self, now_ms: int) -> int:
        """The instant (epoch ms) up to which nothing is missing: the least that any source is caught up to."""
        best = now_ms
        for caught_up_to in self._caught_up:
            upto = caught_up_to(now_ms)
            if upto is None:
                return 0
            best = min(best, upto)
        return best

    async def run_by_name(
        self,
        name: str,
        position_of: Callable[[str], Awaitable[str | None]],
        take: Callable[[Batch], None],
        note_gap: Callable[[Gap], None],
    ) -> None:
        """Read a source until cancelled or finished, from the position that is committed. Raises what it raises.

        Called again, it begins anew with a fresh source, which waits until it has caught up like any other.
        """
        if name in self._used:
            self.sources[name] = self._make[name]()
            self._caught_up = [source.caught_up_to for source in self.sources.values()]
        self._used.add(name)
        await self.run(self.sources[name], await position_of(name), take, note_gap)

    async def run(
        self, source: Source, position: str | None, take: Callable[[Batch], None], note_gap: Callable[[Gap], None]
    ) -> None:
        """Read a source until cancelled or finished, from a position on: batches go to `take`, gaps to `note_gap`."""
        room = asyncio.Semaphore(OFFERED_BATCHES)

        async def offer(batch: Batch) -> None:
            await room.acquire()
            acknowledge_source = batch.acknowledge

            def acknowledge(error: Exception | None) -> None:
                room.release()
                if acknowledge_source is not None:
                    acknowledge_source(error)

            batch.acknowledge = acknowledge
            for gap in batch.gaps:
                self.watch.note_gap(gap)
                note_gap(gap)
            take(batch)

        try:
            await source.run(offer, position)
        except Exception:
            # The next run reads the committed position: nothing of this one may be committed after it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    for _ in range(OFFERED_BATCHES):
                        await room.acquire()
            raise

    async def keep_watch(self, write: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Let rules know when a source gets into trouble or out of it, until cancelled; `write` does work in a transaction."""
        while True:
            await asyncio.sleep(FEED_POLL_S)
            now_ms = self._clock.now_ms()
            healths = [source.health(now_ms) for source in self.sources.values()]
            changed = self.watch.changes(healths, now_ms)
            if changed:
                await write(partial(self._note_trouble, changed, now_ms))
                self.watch.note(changed)  # not before: what could not be stored is tried again
            for name, trouble in changed:
                if trouble:
                    log.warning(Event.SOURCE_UNHEALTHY, source=name, trouble=trouble)
                else:
                    log.info(Event.SOURCE_RECOVERED, source=name)

    def in_trouble(self) -> dict[str, str]:
        """What was wrong with which source, by the alerts that are open."""
        alerts = (alert for some in self._fleet.alerts.open_alerts.by_subject.values() for alert in some)
        return {alert.source: alert.detail for alert in alerts if alert.source is not None}

    def _note_trouble(self, changed: Sequence[tuple[str, str | None]], now_ms: int) -> None:
        for name, trouble in changed:
            self._fleet.alerts.triggers.feed(name, trouble, now_ms)
