"""The sources of a service: made from the configuration, read into the writer, and watched. Read `Feeding.feed`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.clock import Clock
from engine.config.loader import Config
from engine.config.secret import Secret
from engine.config.sources import SourceConfig
from engine.core.fleet import Fleet
from engine.runtime.feed_watch import FeedWatch
from engine.sources.base import Batch, Gap, Source
from engine.sources.file.source import FileSource
from engine.sources.http import HttpSource
from engine.sources.rocketmq.source import rocketmq_source
from engine.sources.simulator.source import SimulatorSource
from engine.telemetry import Event, logger

OFFERED_BATCHES = 8
"""Batches of one source that may wait for the writer; beyond, the source waits (back-pressure)."""

FEED_POLL_S = 0.5

log = logger(__name__)


class Feeding:
    """All sources, and how they are doing."""

    def __init__(self, config: Config, clock: Clock, fleet: Fleet) -> None:
        self.sources = {entry.name: source_of(entry, config, clock.now_ms) for entry in config.sources}
        self.watch = FeedWatch(config.feed.max_lag_ms, config.feed.max_silence_ms, clock.now_ms())
        self._clock, self._fleet = clock, fleet
        self._caught_up = [source.caught_up_to for source in self.sources.values()]

    @property
    def push(self) -> HttpSource | None:
        """The source that events are sent to."""
        return next((found for found in self.sources.values() if isinstance(found, HttpSource)), None)

    def silence(self, now_ms: int) -> int:
        """Up to which instant nothing is missing: the least that any source is caught up to."""
        best = now_ms
        for caught_up_to in self._caught_up:
            upto = caught_up_to(now_ms)
            if upto is None:
                return 0
            best = min(best, upto)
        return best

    async def feed(
        self, source: Source, position: str | None, take: Callable[[Batch], None], note_gap: Callable[[Gap], None]
    ) -> None:
        """Read a source for good, from a position on: batches are given to `take`, gaps to `note_gap`."""
        room = asyncio.Semaphore(OFFERED_BATCHES)

        async def offer(batch: Batch) -> None:
            await room.acquire()
            told = batch.acknowledge

            def acknowledge(error: Exception | None) -> None:
                room.release()
                if told is not None:
                    told(error)

            batch.acknowledge = acknowledge
            for gap in batch.gaps:
                self.watch.note_gap(gap)
                note_gap(gap)
            take(batch)

        try:
            await source.run(offer, position)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error(Event.SOURCE_FAILED, source=source.name, error=repr(error))
            logging.getLogger(__name__).debug("source failed", exc_info=True)

    async def keep_watch(self, write: Callable[[Callable[[Any], None]], Awaitable[None]]) -> None:
        """Tell the rules when a feed gets into trouble or out of it, for good; `write` does it inside a transaction."""
        while True:
            await asyncio.sleep(FEED_POLL_S)
            now_ms = self._clock.now_ms()
            healths = [source.health(now_ms) for source in self.sources.values()]
            changed = self.watch.changes(healths, now_ms)
            if changed:
                await write(partial(self._tell, changed, now_ms))
                self.watch.note(changed)  # not before: what could not be stored is told again
            for name, trouble in changed:
                log.warning(Event.FEED_TROUBLE if trouble else Event.FEED_WELL, source=name, trouble=trouble or "")

    def in_trouble(self) -> dict[str, str]:
        """What was wrong with which source, by the alerts that are open."""
        alerts = (alert for some in self._fleet.book.active.values() for alert in some)
        return {alert.source: alert.detail for alert in alerts if alert.source is not None}

    def _tell(self, changed: Sequence[tuple[str, str | None]], now_ms: int, connection: object) -> None:
        for name, trouble in changed:
            self._fleet.book.feed(name, trouble, now_ms)


def source_of(entry: SourceConfig, config: Config, now_ms: Callable[[], int]) -> Source:
    """The source that an entry of the configuration names."""
    options = dict(entry.options)
    if entry.type == "file":
        return FileSource(
            name=entry.name,
            path=Path(options["path"]),
            follow=bool(options.get("follow", False)),
            now_ms=now_ms,
            max_future_ms=config.events.max_future_ms,
            window=4,
        )
    if entry.type == "rocketmq":
        return rocketmq_source(
            entry.name,
            {key: value.reveal() if isinstance(value, Secret) else value for key, value in options.items()},
            config.data / "rocketmq",
            now_ms,
            config.events.max_future_ms,
        )
    if entry.type == "simulator":
        return SimulatorSource(name=entry.name, now_ms=now_ms, grace_ms=config.debounce.offline_ms, **options)
    pushed: dict[str, Any] = {
        "name": entry.name,
        "now_ms": now_ms,
        "max_future_ms": config.events.max_future_ms,
        "max_lag_ms": config.feed.max_lag_ms,
        "grace_ms": config.debounce.offline_ms,
    }
    if entry.type == "amqp":
        from engine.sources.amqp.source import AmqpSource  # its library is not always installed

        login = {name: options.pop(name).reveal for name in ("access_key", "secret")}
        return AmqpSource(**pushed, **login, **options)
    return HttpSource(**pushed)
