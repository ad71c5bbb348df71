"""The synthetic fleet as a source: invented devices that connect, flap and vanish in real time.

It behaves like a push source: every event is delivered once, starting now. Every start invents new channels, so that
nothing of an earlier run can be mistaken for the present one. Its devices do not exist, and its health says so. Read
`SimulatorSource.run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from engine.sources.base import MAX_BATCH_EVENTS, Batch, Offer, SourceHealth
from engine.sources.offer_window import OfferWindow
from engine.sources.retry_pause import RETRY_S, RetryPause
from engine.sources.simulator.synthetic import Arrival, SyntheticFleet, arrivals

TICK_S: Final = 0.1
"""Seconds between two looks at what has happened in the fleet."""


class SimulatorSource:
    """Plays the story of a fleet in real time."""

    type = "simulator"

    def __init__(
        self,
        *,
        name: str,
        now_ms: Callable[[], int],
        clients: int = 200,
        seed: int = 1,
        grace_ms: int = 30_000,
        tick_s: float = TICK_S,
        retry_s: tuple[float, ...] = RETRY_S,
        **behaviour: Any,
    ) -> None:
        """`grace_ms`: how long after a start it is not caught up; `behaviour`: any other field of `SyntheticFleet`."""
        self.name = name
        self._clients, self._seed, self._behaviour = clients, seed, behaviour
        self._now_ms = now_ms
        self._grace_ms, self._tick_s, self._retry_s = grace_ms, tick_s, retry_s
        self._started_at_ms: int | None = None  # None: not running
        self._played_to_ms: int | None = None
        self._last_event_at_ms: int | None = None
        self._trouble = ""

    async def run(self, offer: Offer, position: str | None = None) -> None:
        """Offer what happens in the fleet as it happens, until cancelled; `position` is ignored: every run is new."""
        self._started_at_ms = start_ms = self._now_ms()
        fleet = SyntheticFleet(clients=self._clients, seed=self._seed, start_ms=start_ms, **self._behaviour)
        story = arrivals(fleet)
        upcoming = next(story, None)
        try:
            while True:
                now_ms = self._now_ms()
                while upcoming is not None and upcoming.received_at_ms <= now_ms:
                    happened, upcoming = _until(now_ms, upcoming, story)
                    await self._store(offer, happened, now_ms)
                self._played_to_ms = now_ms
                await asyncio.sleep(self._tick_s)
        finally:
            self._started_at_ms = None

    async def _store(self, offer: Offer, happened: list[Arrival], now_ms: int) -> None:
        """Offer one batch until it is committed."""
        batch = Batch(
            source=self.name,
            received_at_ms=now_ms,
            events=[arrival.event for arrival in happened],
            raw=[arrival.line for arrival in happened],
        )
        window, retry = OfferWindow[None](1), RetryPause(self._retry_s)

        def not_stored(failure: Exception) -> float:
            self._trouble = f"not stored: {failure}"
            return retry.next_s()

        await window.offer(offer, batch, None)
        await window.next_commit(offer, not_stored)
        self._trouble = ""
        self._last_event_at_ms = now_ms

    def caught_up_to(self, now_ms: int) -> int | None:
        """The instant up to which the events are stored, epoch milliseconds; None until the grace period is over."""
        if self._started_at_ms is None or now_ms < self._started_at_ms + self._grace_ms:
            return None
        return self._played_to_ms

    def health(self, now_ms: int) -> SourceHealth:
        """How it is doing at `now_ms`."""
        return SourceHealth(
            name=self.name,
            type=self.type,
            connected=self._started_at_ms is not None,
            detail=self._trouble or f"synthetic fleet of {self._clients} simulated devices (seed {self._seed})",
            caught_up_to_ms=self.caught_up_to(now_ms),
            last_event_at_ms=self._last_event_at_ms,
        )


def _until(now_ms: int, first: Arrival, story: Iterator[Arrival]) -> tuple[list[Arrival], Arrival | None]:
    """What has happened by `now_ms`, one batch at most, and what comes next."""
    happened: list[Arrival] = []
    upcoming: Arrival | None = first
    while upcoming is not None and upcoming.received_at_ms <= now_ms and len(happened) < MAX_BATCH_EVENTS:
        happened.append(upcoming)
        upcoming = next(story, None)
    return happened, upcoming
