"""Deadlines of one kind, earliest first, and the clock's alarm that all kinds share.

An entry that has become pointless is left where it is: `is_due` says so when it comes up. So that a long interval cannot
fill the memory with such entries, they are swept whenever the agenda has grown to twice what was left after the last sweep.

What rests on silence may act only up to the instant to which every source has been read. What was held back by that acts
at the instant at which it is released, not at its own (`TimerQueue.release`): the clock never goes back.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from engine.core.times import FOREVER

SWEPT_FROM = 1_024
"""Entries that are never worth a sweep."""


class NextWakeUp:
    """Nothing is due before `at_ms`: may be early, never late."""

    __slots__ = ("at_ms",)

    def __init__(self) -> None:
        self.at_ms = 0

    def by(self, due_ms: int) -> None:
        """Something is due then."""
        self.at_ms = min(self.at_ms, due_ms)


class TimerQueue:
    """A heap of (due, rank, order, item); of one instant the lower ranks first, then what was entered first."""

    def __init__(self, alarm: NextWakeUp, is_due: Callable[[Any, int], bool], *, silent: bool = False) -> None:
        """`is_due(item, due_ms)`: is the entry still meant? `silent`: do these deadlines rest on silence?"""
        self.silent = silent
        self._alarm = alarm
        self._is_due = is_due
        self._heap: list[tuple[int, int, int, Any]] = []
        self._released: deque[tuple[int, int, Any]] = deque()  # acts at, was due at, item
        self._order = 0
        self._limit = SWEPT_FROM

    @property
    def is_empty(self) -> bool:
        """Is there no entry at all?"""
        return not self._heap and not self._released

    def clear(self) -> None:
        """Forget every entry."""
        self._heap.clear()
        self._released.clear()

    def push(self, due_ms: int, item: Any, rank: int = 0) -> None:
        """Enter one deadline; one that never comes is not entered."""
        if due_ms >= FOREVER:
            return
        self._order += 1
        if len(self._heap) >= self._limit:
            is_due = self._is_due
            self._heap = [entry for entry in self._heap if is_due(entry[3], entry[0])]
            heapq.heapify(self._heap)
            self._limit = max(SWEPT_FROM, 2 * len(self._heap))
        heapq.heappush(self._heap, (due_ms, rank, self._order, item))
        self._alarm.by(due_ms)

    def next(self, watermark_ms: int) -> int:
        """When the next entry acts; `FOREVER` when none may. `watermark_ms`: up to where every source has been read."""
        released, heap, is_due = self._released, self._heap, self._is_due
        while released and not is_due(released[0][2], released[0][1]):
            released.popleft()
        while heap and not is_due(heap[0][3], heap[0][0]):
            heapq.heappop(heap)
        best = released[0][0] if released else FOREVER
        if heap and heap[0][0] < best and (not self.silent or heap[0][0] <= watermark_ms):
            best = heap[0][0]
        return best

    def pop(self, at_ms: int) -> Any:
        """The entry that acts at `at_ms`, which `next` has just said."""
        if self._released and self._released[0][0] <= at_ms:
            return self._released.popleft()[2]
        return heapq.heappop(self._heap)[3]

    def release(self, due_by_ms: int, to_ms: int) -> None:
        """What should have acted by `due_by_ms` and was held back acts at `to_ms`."""
        heap = self._heap
        while self.silent and heap and heap[0][0] <= due_by_ms:
            due_ms, _, _, item = heapq.heappop(heap)
            if self._is_due(item, due_ms):
                self._released.append((to_ms, due_ms, item))
