"""The sources of a service: made from the configuration, read into the writer, and watched. Read `SourceRunner.run`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from engine.clock import Clock, SteadyClock, engine_clock
from engine.config.loader import Config
from engine.core.fleet import Fleet
from engine.core.times import duration_text, rfc3339, stepped_text
from engine.runtime.cell_filter import cell_filter
from engine.runtime.client_limit import ClientLimit
from engine.runtime.feed_watch import CLIENTS, CLOCK, CLOCK_SHOWN_MS, FeedWatch
from engine.runtime.refusals import RefusedShares
from engine.runtime.source_factory import MakePush, push_source, source_of
from engine.runtime.source_time import SourceTime
from engine.sources.base import Batch, Gap, Source, SourceHealth
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

    def __init__(
        self,
        config: Config,
        clock: Clock,
        fleet: Fleet,
        client_limit: ClientLimit | None = None,
        make_push: MakePush = push_source,
    ) -> None:
        """`make_push`: makes the source of events that are sent over HTTP."""
        self._clock = engine_clock(clock)
        self._steady = SteadyClock(self._clock)
        self._fleet = fleet
        self._client_limit = client_limit
        self._filter = cell_filter(config)
        self._make = {entry.name: partial(source_of, entry, config, self._clock, make_push) for entry in config.sources}
        self.sources: dict[str, Source] = {name: make() for name, make in self._make.items()}
        self._used: set[str] = set()  # sources that have run
        self.refusals = RefusedShares()
        self.watch = FeedWatch(config.feed.max_lag_ms, config.feed.max_silence_ms, self._steady.now_ms())
        self.steps = 0  # of the clock, since the start
        self._time = SourceTime(self._clock, self.sources.values(), config.debounce.offline_ms)
        self._last_events: dict[str, int] = {}  # by source: when an event was accepted last, of the steady clock
        self._step: tuple[str, int] | None = None  # what to say of the last step of the clock, and until when

    @property
    def push(self) -> HttpSource | None:
        """The source that events are sent to."""
        return next((found for found in self.sources.values() if isinstance(found, HttpSource)), None)

    def watermark_of(self, now_ms: int) -> int:
        """The instant (epoch ms) up to which nothing is missing: the least that any source is caught up to.

        A source that is blind, because what it reads is refused, is caught up to the first refusal.
        """
        return self._time.watermark(now_ms, self.refusals.blind)

    def healths(self) -> list[SourceHealth]:
        """The health of every source, with what is wrong with the events that it reads (`trouble`)."""
        now_ms, shifted_ms = self._clock.reading()
        found = []
        for name, source in self.sources.items():
            last_ms = self._last_events.get(name)
            found.append(
                replace(
                    source.health(now_ms),
                    caught_up_to_ms=self._time.caught_up_ms(source, now_ms),
                    last_event_at_ms=None if last_ms is None else last_ms + shifted_ms,
                    trouble=self.refusals.trouble(name),
                )
            )
        return found

    def _steady_healths(self) -> list[SourceHealth]:
        """The same as `FeedWatch` wants it, in the time of a clock that nobody sets."""
        shifted_ms = self._clock.shifted_ms
        return [
            replace(
                health,
                caught_up_to_ms=None if health.caught_up_to_ms is None else health.caught_up_to_ms - shifted_ms,
                last_event_at_ms=None if health.last_event_at_ms is None else health.last_event_at_ms - shifted_ms,
            )
            for health in self.healths()
        ]

    def not_flowing(self) -> list[tuple[str, str]]:
        """Sources that offline alerts wait for, because they lag or because all that they read is refused; and why."""
        found = []
        for health in self._steady_healths():
            reason = self.watch.not_flowing(health, self._steady.now_ms())
            if reason is None and health.name in self.refusals.blind:
                reason = f"degraded: {health.trouble}"
            if reason is not None:
                found.append((health.name, reason))
        return found

    def degraded(self) -> list[str]:
        """What is not as it should be, in sentences, although verdicts flow."""
        found = [
            f"source {name}: {trouble}"
            for name in self.sources
            if (trouble := self.refusals.trouble(name)) is not None and name not in self.refusals.blind
        ]
        return [*found, *self._others().values()]

    def _others(self) -> dict[str, str]:
        """What is in trouble beside the sources."""
        found = {}
        if (step := self._step_shown()) is not None:
            found[CLOCK] = step
        if self._client_limit is not None and (limit := self._client_limit.trouble(self._steady.now_ms())) is not None:
            found[CLIENTS] = limit
        return found

    def _step_shown(self) -> str | None:
        return self._step[0] if self._step is not None and self._steady.now_ms() < self._step[1] else None

    def clock_stepped(self, step_ms: int, now_ms: int) -> None:
        """The wall clock was set by `step_ms` and shows `now_ms`; what that means for deadlines is committed."""
        self.steps += 1
        what = stepped_text(step_ms)
        log.warning(Event.CLOCK_STEPPED, step=what, now=rfc3339(now_ms))
        self._step = f"{what} at {rfc3339(now_ms)}", self._steady.now_ms() + CLOCK_SHOWN_MS
        self.refusals.forgive()  # what was refused for its date may have been right

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
            if self._filter is not None and source.type != "http":
                self._filter.keep(batch)
            now_ms, shifted_ms = self._clock.reading()
            self.refusals.note(source.name, len(batch.events), batch.rejected, now_ms - shifted_ms)
            if batch.events:
                self._last_events[source.name] = now_ms - shifted_ms
            for gap in batch.gaps:
                self.watch.note_gap(replace(gap, noted_at_ms=gap.noted_at_ms - shifted_ms))
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
            steady_ms = self._steady.now_ms()
            self.refusals.look(steady_ms)
            if slept_ms := self._time.slept_ms:
                self._time.slept_ms = 0
                log.warning(Event.CLOCK_SLEPT, slept=duration_text(slept_ms // 1000 * 1000))
            changed = self.watch.changes(self._steady_healths(), steady_ms, self._others())
            if changed:
                await write(partial(self._note_trouble, changed))
                self.watch.note(changed)  # not before: what could not be stored is tried again
            for name, trouble in changed:
                if name == CLIENTS and trouble:
                    log.warning(Event.CLIENTS_REFUSED, trouble=trouble)
                elif name in self.sources and trouble:  # a step of the clock has a line of its own
                    log.warning(Event.SOURCE_UNHEALTHY, source=name, trouble=trouble)
                elif name in self.sources:
                    log.info(Event.SOURCE_RECOVERED, source=name)

    def recall(self, gaps: Sequence[Gap]) -> None:
        """Before the sources run: what was wrong before, by the alerts that are open and the gaps that the store knows, newest first."""
        self.watch.begin(self._steady.now_ms())
        steady_ms = self._steady.steady_ms
        noted = [replace(gap, noted_at_ms=steady_ms(gap.noted_at_ms)) for gap in gaps]
        self.watch.recall(self.in_trouble(), noted)

    def in_trouble(self) -> dict[str, str]:
        """What was wrong with which source, by the alerts that are open."""
        alerts = self._fleet.alerts.open_alerts.of_trigger("feed")
        return {alert.source: alert.detail for alert in alerts if alert.source is not None}

    def _note_trouble(self, changed: Sequence[tuple[str, str | None]]) -> None:
        now_ms = self._clock.now_ms()
        for name, trouble in changed:
            self._fleet.alerts.triggers.feed(name, trouble, now_ms)
