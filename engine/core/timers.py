"""Timers: what acts at an instant by itself, in one order for all kinds.

`TIMERS` is the whole list of kinds, in the order in which those of one instant act. Each kind says whether it is an
*event-time timer* (it acts only up to the watermark, the instant to which every source has been read, because an event that
is still waiting to be read may make it pointless) and whether it keeps a replay running after its last event.

A `TimerQueue` holds the timers of one kind. An entry that has become pointless is left where it is: `is_due` says so when it
comes up. So that a long interval cannot fill the memory with such entries, they are removed whenever the queue has grown to
twice what was left after the last time.

An event-time timer that was held back by the watermark acts at the instant at which it is released, not at its own
(`TimerQueue.release`): the clock never goes back. Read `TIMERS`, then `TimerTable.next`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from engine.core.times import FOREVER

CLEANED_FROM: Final = 1_024
"""A queue of fewer entries than this is never searched for pointless ones."""


class TimerKind:
    """One kind of timers, see the module's text."""

    __slots__ = ("event_time", "keeps_replay_running", "measures", "name")

    def __init__(
        self, name: str, *, event_time: bool = False, keeps_replay_running: bool = True, measures: bool = True
    ) -> None:
        """`measures`: it waits for so much time to pass, and not for an instant that people wrote down."""
        self.name: Final = name
        self.measures: Final = measures
        self.event_time: Final = event_time
        self.keeps_replay_running: Final = keeps_replay_running


FLAPPING_STOPS: Final = TimerKind("flapping stops")
HOLDS: Final = TimerKind("holds settle", event_time=True)
QUORUM_TEXTS: Final = TimerKind("what quorums say of the instant in which they were reached")
OUTAGES: Final = TimerKind("outages are over", event_time=True)
SUPPRESSIONS: Final = TimerKind("time intervals and silences end", keeps_replay_running=False, measures=False)
THROTTLES: Final = TimerKind("throttles have room")
FORS: Final = TimerKind("`for` is over")
OFFLINE_FORS: Final = TimerKind("`for` of an offline alert is over", event_time=True)
CHILDREN: Final = TimerKind("alerts that have parents are due")
QUERY_DEADLINES: Final = TimerKind("no answer came in time")
GROUPS: Final = TimerKind("groups and bundles are notified")
FEED_REMINDERS: Final = TimerKind("reminders about sources", keeps_replay_running=False)
REMINDERS: Final = TimerKind("reminders", event_time=True, keeps_replay_running=False)
OTHER_ESCALATIONS: Final = TimerKind(
    "steps of escalations about sources, and those that have waited for the end of a silence"
)
ESCALATIONS: Final = TimerKind("steps of escalations", event_time=True)
SCHEDULES: Final = TimerKind("schedules", keeps_replay_running=False, measures=False)
RATE_LIMITS: Final = TimerKind("summaries of held deliveries")

TIMERS: Final = (
    FLAPPING_STOPS,
    HOLDS,
    QUORUM_TEXTS,
    OUTAGES,
    SUPPRESSIONS,
    THROTTLES,
    FORS,
    OFFLINE_FORS,
    CHILDREN,
    QUERY_DEADLINES,
    GROUPS,
    FEED_REMINDERS,
    REMINDERS,
    OTHER_ESCALATIONS,
    ESCALATIONS,
    SCHEDULES,
    RATE_LIMITS,
)
"""Every kind, in the order in which those of one instant act: what resolves goes before what it would release."""


class NextWakeUp:
    """No timer is due before `at_ms`: it may be too early, never too late."""

    __slots__ = ("at_ms",)

    def __init__(self) -> None:
        self.at_ms = 0

    def by(self, due_ms: int) -> None:
        """A timer is due then."""
        self.at_ms = min(self.at_ms, due_ms)


class TimerQueue:
    """The timers of one kind: a heap of (due, rank, order, item); of one instant the lower ranks first, then the order of entry."""

    def __init__(self, kind: TimerKind, wake_up: NextWakeUp, is_due: Callable[[Any, int], bool]) -> None:
        """`is_due(item, due_ms)`: is the entry still meant?"""
        self.kind: Final = kind
        self._event_time: Final = kind.event_time
        self._wake_up = wake_up
        self._is_due = is_due
        self._heap: list[tuple[int, int, int, Any]] = []
        self._released: deque[tuple[int, int, Any]] = deque()  # acts at, was due at, item
        self._order = 0
        self._limit = CLEANED_FROM

    @property
    def is_empty(self) -> bool:
        """Is there no entry at all?"""
        return not self._heap and not self._released

    def clear(self) -> None:
        """Remove every entry."""
        self._heap.clear()
        self._released.clear()

    def push(self, due_ms: int, item: Any, rank: int = 0) -> None:
        """Enter one timer; one that never acts is not entered."""
        if due_ms >= FOREVER:
            return
        self._order += 1
        if len(self._heap) >= self._limit:
            is_due = self._is_due
            self._heap = [entry for entry in self._heap if is_due(entry[3], entry[0])]
            heapq.heapify(self._heap)
            self._limit = max(CLEANED_FROM, 2 * len(self._heap))
        heapq.heappush(self._heap, (due_ms, rank, self._order, item))
        self._wake_up.by(due_ms)

    def shift(self, step_ms: int) -> None:
        """The clock was set: what is left to wait stays what it was. The instants that the items know move with their entries."""
        self._heap = [(due_ms + step_ms, rank, order, item) for due_ms, rank, order, item in self._heap]
        self._released = deque((at_ms + step_ms, due_ms + step_ms, item) for at_ms, due_ms, item in self._released)

    def next(self, watermark_ms: int) -> int:
        """When the next entry acts; `FOREVER` when none may. `watermark_ms`: see the module's text."""
        released, heap, is_due = self._released, self._heap, self._is_due
        while released and not is_due(released[0][2], released[0][1]):
            released.popleft()
        while heap and not is_due(heap[0][3], heap[0][0]):
            heapq.heappop(heap)
        best = released[0][0] if released else FOREVER
        if heap and heap[0][0] < best and (not self._event_time or heap[0][0] <= watermark_ms):
            best = heap[0][0]
        return best

    def pop(self, at_ms: int) -> Any:
        """The entry that acts at `at_ms`, which `next` has just said."""
        if self._released and self._released[0][0] <= at_ms:
            return self._released.popleft()[2]
        return heapq.heappop(self._heap)[3]

    def release(self, due_by_ms: int, to_ms: int) -> None:
        """What should have acted by `due_by_ms` and was held back by the watermark acts at `to_ms`."""
        heap = self._heap
        while self._event_time and heap and heap[0][0] <= due_by_ms:
            due_ms, _, _, item = heapq.heappop(heap)
            if self._is_due(item, due_ms):
                self._released.append((to_ms, due_ms, item))


class Timer:
    """A queue and what is done with its items: `act(item, at_ms)`."""

    __slots__ = ("act", "kind", "queue")

    def __init__(self, queue: TimerQueue, act: Callable[[Any, int], None]) -> None:
        self.queue: Final = queue
        self.kind: Final = queue.kind
        self.act: Final = act

    def run(self, at_ms: int) -> None:
        """Act on the earliest entry; `next` said that it acts at `at_ms`."""
        self.act(self.queue.pop(at_ms), at_ms)


class TimerTable:
    """The queues that share a `NextWakeUp`, in the order of `TIMERS`. Raises ValueError for queues that are not."""

    def __init__(self, timers: Sequence[Timer]) -> None:
        places = [TIMERS.index(timer.kind) for timer in timers]
        if places != sorted(set(places)):
            raise ValueError("timers must stand in the order of TIMERS, each kind once")
        self._timers: Final = list(timers)

    def next(self, watermark_ms: int) -> tuple[int, Timer | None]:
        """When the earliest timer acts, and which one; (`FOREVER`, None) when none may."""
        best: int = FOREVER
        found: Timer | None = None
        for timer in self._timers:
            queue = timer.queue
            if not queue.is_empty:
                due_ms = queue.next(watermark_ms)
                if due_ms < best:
                    best, found = due_ms, timer
        return best, found

    def next_keeping_replay_running(self) -> int:
        """When the earliest timer acts of a kind that keeps a replay running."""
        best: int = FOREVER
        for timer in self._timers:
            if timer.kind.keeps_replay_running and not timer.queue.is_empty:
                best = min(best, timer.queue.next(FOREVER))
        return best

    def shift(self, step_ms: int) -> None:
        """The clock was set: every kind that measures time is moved. The others know what to do by themselves."""
        for timer in self._timers:
            if timer.kind.measures:
                timer.queue.shift(step_ms)

    def release(self, due_by_ms: int, to_ms: int) -> None:
        """Event-time timers that should have acted by `due_by_ms` and were held back by the watermark act at `to_ms`."""
        for timer in self._timers:
            if timer.kind.event_time:
                timer.queue.release(due_by_ms, to_ms)
