"""The one place that reads the time. All instants are UTC, as integers of epoch milliseconds.

`EngineClock` is what the service works by: the wall clock as it was read once, and from then on what the monotonic clock
has run. So holds and pauses last as long as they should, whatever is done to the wall clock. When the two differ by more than
`STEP_MS`, the wall clock was set: a *step*. The writer finds it (`step_ms`), commits what follows from it, and only then takes
it (`take`). A smaller difference is made up for little by little.

Whoever keeps an instant in memory and compares it with a later `now_ms` keeps it as `now_ms() - shifted_ms` (steady time,
which no step changes), or corrects it when `shifted_ms` has changed. Read `EngineClock`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

STEP_MS: Final = 1_000
"""The wall clock is this far from where it should be: it was set. Anything less is drift."""

SLEW_PART: Final = 20
"""Drift is made up for by at most one part in so many of the time that has passed: 50 ms a second, and never backwards."""

SUSPENDED_MS: Final = 1_000
"""The machine slept for longer than this: what happened meanwhile was not seen."""


class Clock(Protocol):
    """Something that knows what time it is."""

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return time.time_ns() // 1_000_000


_RUNNING: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def running_ms() -> int:
    """Milliseconds that have passed since some instant; no setting of the clock changes them, and a sleeping machine's count."""
    return time.clock_gettime_ns(_RUNNING) // 1_000_000


def awake_ms() -> int:
    """The same without the time in which the machine was asleep."""
    return time.monotonic_ns() // 1_000_000


class EngineClock:
    """The engine's time; see the module. May be read by any thread, `step_ms` and `take` are the writer's."""

    def __init__(
        self,
        wall_ms: Callable[[], int] | None = None,
        running: Callable[[], int] = running_ms,
        awake: Callable[[], int] = awake_ms,
    ) -> None:
        """`wall_ms`: reads the wall clock, epoch milliseconds."""
        self._wall_ms = wall_ms or SystemClock().now_ms
        self._running, self._awake = running, awake
        started = running()
        # (engine time, running time) at which both were compared last, and the steps taken until then: replaced as one.
        self._scale = (self._wall_ms(), started, 0)
        self._asleep_ms = started - awake()
        self._lock = threading.Lock()

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        at_ms, running, _ = self._scale
        return at_ms + self._running() - running

    @property
    def shifted_ms(self) -> int:
        """All steps that were taken since the start, together: what an instant from before them is to be moved by."""
        return self._scale[2]

    def reading(self) -> tuple[int, int]:
        """`now_ms` and `shifted_ms` of one and the same moment."""
        at_ms, running, shifted = self._scale
        return at_ms + self._running() - running, shifted

    def begin_at(self, at_ms: int) -> None:
        """Before anything has begun: the last run got to this instant. If the wall clock is behind it, that is a step."""
        with self._lock:
            _, _, shifted = self._scale
            ahead_ms = at_ms - self.now_ms()
            if ahead_ms > 0:
                self._scale = (at_ms, self._running(), shifted + ahead_ms)

    def step_ms(self) -> int:
        """By how much the wall clock was set, and the engine's time does not know yet; 0: by nothing. Makes up for drift."""
        with self._lock:
            at_ms, running, shifted = self._scale
            present = self._running()
            passed = present - running
            ahead_ms = self._wall_ms() - (at_ms + passed)
            if abs(ahead_ms) >= STEP_MS:
                return ahead_ms
            limit = passed // SLEW_PART
            if ahead_ms and limit:
                self._scale = (at_ms + passed + max(-limit, min(limit, ahead_ms)), present, shifted)
            return 0

    def take(self, step_ms: int) -> None:
        """The step is committed: from now on the engine's time is moved by it."""
        with self._lock:
            at_ms, running, shifted = self._scale
            self._scale = (at_ms + step_ms, running, shifted + step_ms)

    def slept_ms(self) -> int:
        """For how long the machine was asleep since this was asked last; 0: not long enough to matter."""
        with self._lock:
            asleep_ms = self._running() - self._awake()
            slept_ms = asleep_ms - self._asleep_ms
            if slept_ms < SUSPENDED_MS:
                return 0
            self._asleep_ms = asleep_ms
            return slept_ms


class SteadyClock:
    """The engine's time without its steps, for what is only ever measured: pauses, retries, deadlines in memory."""

    def __init__(self, clock: Clock) -> None:
        """A clock that knows no steps is steady already."""
        self._clock = clock

    def now_ms(self) -> int:
        """Milliseconds on a scale of its own, which at the start of the process is that of the engine's time."""
        if isinstance(self._clock, EngineClock):
            now_ms, shifted_ms = self._clock.reading()
            return now_ms - shifted_ms
        return self._clock.now_ms()

    @property
    def shifted_ms(self) -> int:
        """All steps that were taken since the start, together."""
        return self._clock.shifted_ms if isinstance(self._clock, EngineClock) else 0

    def engine_ms(self, steady_ms: int) -> int:
        """An instant of this clock as the engine's time shows it now."""
        return steady_ms + self.shifted_ms

    def steady_ms(self, engine_ms: int) -> int:
        """The way back."""
        return engine_ms - self.shifted_ms


def engine_clock(clock: Clock | None) -> EngineClock:
    """The clock itself if it is one of the engine's, else one that takes it for the wall clock."""
    if isinstance(clock, EngineClock):
        return clock
    return EngineClock(clock.now_ms if clock is not None else None)
