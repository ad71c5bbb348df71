"""The engine's clock, and what sources say across a step of it and a sleep of the machine."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import cast

import pytest

from engine.clock import EngineClock, SteadyClock, SystemClock, awake_ms, running_ms
from engine.config.loader import load_config
from engine.core.fleet import Fleet
from engine.runtime.source_runner import SourceRunner
from engine.runtime.source_time import SourceTime
from engine.sources.base import Offer, SourceHealth
from engine.sources.push_feed import PushFeed
from engine.telemetry import Event
from engine.testing import START_MS, FakeClock
from tests.written_log import WrittenLog

GRACE_MS = 30_000


class Said:
    """A source that says what a test wants."""

    name = type = "said"

    def __init__(self, caught_up_ms: int | None) -> None:
        self.caught_up_ms = caught_up_ms

    async def run(self, offer: Offer, position: str | None) -> None:
        raise NotImplementedError

    def caught_up_to(self, now_ms: int) -> int | None:
        return self.caught_up_ms

    def health(self, now_ms: int) -> SourceHealth:
        raise NotImplementedError


def watermark(clock: FakeClock, time: SourceTime) -> int:
    return time.watermark(clock.now_ms(), {})


def stepped(clock: FakeClock, ms: int) -> None:
    clock.set_wall(ms)
    assert clock.step_ms() == ms
    clock.take(ms)


def test_the_engines_time_goes_on_when_the_wall_clock_is_set_until_the_step_is_taken() -> None:
    clock = FakeClock()
    clock.set_wall(120_000)
    clock.advance(5)
    assert (clock.now_ms(), clock.step_ms()) == (START_MS + 5, 120_000)
    clock.take(120_000)
    assert (clock.now_ms(), clock.step_ms(), clock.shifted_ms) == (START_MS + 120_005, 0, 120_000)
    assert SteadyClock(clock).now_ms() == START_MS + 5


def test_drift_is_made_up_for_little_by_little_and_never_backwards() -> None:
    clock = FakeClock()
    clock.set_wall(-400)
    seen = []
    for _ in range(20):
        clock.advance(1_000)
        assert clock.step_ms() == 0
        seen.append(clock.now_ms())
    assert all(950 <= later - earlier <= 1_000 for earlier, later in itertools.pairwise(seen))
    assert seen[-1] == clock.at_ms


def test_a_run_that_had_got_further_than_the_wall_clock_shows_is_a_step_back() -> None:
    clock = FakeClock()
    steady = SteadyClock(clock).now_ms()
    clock.begin_at(START_MS + 7_200_000)
    assert (clock.now_ms(), clock.step_ms()) == (START_MS + 7_200_000, -7_200_000)
    assert SteadyClock(clock).now_ms() == steady
    clock.take(-7_200_000)
    assert (clock.now_ms(), SteadyClock(clock).now_ms()) == (START_MS, steady)


def test_the_systems_clocks_agree() -> None:
    clock = EngineClock()
    assert abs(clock.now_ms() - SystemClock().now_ms()) < 60_000
    assert running_ms() >= awake_ms() > 0


@pytest.mark.parametrize("step_ms", [-315_360_000_000, -120_000, 120_000, 315_360_000_000])
def test_what_a_source_said_before_a_step_is_worth_as_much_after_it(step_ms: int) -> None:
    clock, source = FakeClock(), Said(START_MS - 700)
    time = SourceTime(clock, [source], GRACE_MS)
    assert watermark(clock, time) == START_MS - 700
    stepped(clock, step_ms)
    clock.advance(10_000)
    assert watermark(clock, time) == START_MS + step_ms - 700  # a dead broker stays dead whatever the clock shows


def test_an_instant_from_the_future_is_not_believed() -> None:
    clock, source = FakeClock(), Said(START_MS + 60_000)
    assert watermark(clock, SourceTime(clock, [source], GRACE_MS)) == 0


def test_what_a_source_notes_in_the_moment_in_which_the_clock_is_put_back_does_not_undo_what_it_said_before() -> None:
    clock, source = FakeClock(), Said(START_MS - 700)
    time = SourceTime(clock, [source], GRACE_MS)
    assert watermark(clock, time) == START_MS - 700
    source.caught_up_ms = START_MS  # by the clock as it was, and asked for only when it has been set
    stepped(clock, -120_000)
    assert watermark(clock, time) == START_MS - 120_700
    source.caught_up_ms = clock.now_ms()
    assert watermark(clock, time) == clock.now_ms()


@pytest.mark.parametrize("step_ms", [-315_360_000_000, 120_000])
def test_the_grace_of_a_push_feed_lasts_as_long_as_it_should(step_ms: int) -> None:
    clock = FakeClock()
    feed = PushFeed(max_lag_ms=1_000, grace_ms=GRACE_MS, shifted_ms=lambda: clock.shifted_ms)
    feed.begin(clock.now_ms())
    stepped(clock, step_ms)
    clock.advance(GRACE_MS - 1)
    assert feed.caught_up_to(clock.now_ms(), None) is None
    clock.advance(1)
    assert feed.caught_up_to(clock.now_ms(), None) == clock.now_ms()


def test_after_a_sleep_what_rests_on_missing_events_waits_as_after_a_start() -> None:
    clock, source = FakeClock(), Said(None)
    time = SourceTime(clock, [source], GRACE_MS)
    clock.advance(3_600_000)
    clock.asleep_ms += 3_600_000
    source.caught_up_ms = clock.now_ms()
    assert watermark(clock, time) == START_MS
    clock.advance(GRACE_MS - 1)
    source.caught_up_ms = clock.now_ms()
    assert watermark(clock, time) == START_MS
    clock.advance(1)
    source.caught_up_ms = clock.now_ms()
    assert watermark(clock, time) == clock.now_ms()


def test_a_sleep_is_logged(tmp_path: Path, log: WrittenLog) -> None:
    (tmp_path / "rules.yaml").write_text("version: 1\nrules: []\n")
    (tmp_path / "config.yaml").write_text("version: 1\nsources: []\nrules: [rules.yaml]\n")
    clock = FakeClock()
    runner = SourceRunner(load_config(tmp_path / "config.yaml"), clock, cast(Fleet, None))
    clock.advance(7_200_000)
    clock.asleep_ms += 7_200_000
    runner.watermark_of(clock.now_ms())

    async def look() -> None:
        watch = asyncio.create_task(runner.keep_watch(lambda work: asyncio.sleep(0)))
        while not log.lines(Event.CLOCK_SLEPT):
            await asyncio.sleep(0.01)
        watch.cancel()

    asyncio.run(look())
    assert log.line(Event.CLOCK_SLEPT)["slept"] == "2h"
