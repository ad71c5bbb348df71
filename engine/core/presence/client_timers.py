"""The timers of single clients: holds, and the end of flapping or of too many takeovers.

There may be one for each client of a large fleet, so they are kept more compactly than others: holds of one length are due in the
order in which they began, and those of one instant share an entry. An entry whose hold has reverted is left where it is; the code
that takes it compares `since_ms` with the client's state.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from engine.core.presence.client_state import OFFLINE
from engine.core.timers import FLAPPING_STOPS, HOLDS
from engine.core.times import FOREVER

HoldEntry = tuple[int, list[str]]
"""(due, clients)"""


class HoldTimers:
    """Holds by their target status and length; an offline hold is an event-time timer (see `timers`)."""

    def __init__(self) -> None:
        self.kind: Final = HOLDS
        self._queues: dict[tuple[int, int], deque[HoldEntry]] = {}  # by (target, length)
        self._released: deque[tuple[int, int, list[str]]] = deque()  # held back too long: acts at, since, clients
        self._confirmed: list[tuple[int, int, int, str]] = []  # rest on an answer: due, order, since, client
        self._order = 0

    def add(self, target: int, since_ms: int, due_ms: int, client: str) -> None:
        """A client's hold is over at `due_ms`, which may be before others of its length that began earlier.

        That is so when a correction by an answer is undone: it brings back an old hold.
        """
        key = target, due_ms - since_ms
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
        if not queue or queue[-1][0] < due_ms:
            queue.append((due_ms, [client]))
        elif queue[-1][0] == due_ms:
            queue[-1][1].append(client)
        else:
            place = len(queue)
            while place and queue[place - 1][0] > due_ms:
                place -= 1
            queue.insert(place, (due_ms, [client]))

    def add_confirmed(self, since_ms: int, due_ms: int, client: str) -> None:
        """An offline hold is over at `due_ms` wherever the watermark is: an answer confirmed it, or is waited for no longer."""
        self._order += 1
        heapq.heappush(self._confirmed, (due_ms, self._order, since_ms, client))

    def next(self, watermark_ms: int) -> int:
        """When the next hold settles; `FOREVER` when none may."""
        best: int = self._released[0][0] if self._released else FOREVER
        if self._confirmed and self._confirmed[0][0] < best:
            best = self._confirmed[0][0]
        for (target, _), queue in self._queues.items():
            if queue and queue[0][0] < best and (target != OFFLINE or queue[0][0] <= watermark_ms):
                best = queue[0][0]
        return best

    def release(self, due_by_ms: int, to_ms: int) -> None:
        """Offline holds that were due by `due_by_ms` and held back by the watermark settle at `to_ms`.

        So they come after all that is due meanwhile, and the clock never goes back.
        """
        late: list[tuple[int, int, list[str]]] = []
        for (target, length_ms), queue in self._queues.items():
            while target == OFFLINE and queue and queue[0][0] <= due_by_ms:
                due_ms, clients = queue.popleft()
                late.append((due_ms, due_ms - length_ms, clients))
        late.sort()
        self._released.extend((to_ms, since_ms, clients) for _, since_ms, clients in late)

    def take_released(self, at_ms: int) -> list[tuple[int, list[str]]]:
        """Holds that were released to settle at `at_ms`: (since, clients) each."""
        found = []
        while self._released and self._released[0][0] == at_ms:
            _, since_ms, clients = self._released.popleft()
            found.append((since_ms, clients))
        return found

    def take_confirmed(self, at_ms: int) -> list[tuple[int, str]]:
        """Holds that an answer has confirmed, due by `at_ms`: (since, client) each."""
        found = []
        while self._confirmed and self._confirmed[0][0] <= at_ms:
            _, _, since_ms, client = heapq.heappop(self._confirmed)
            found.append((since_ms, client))
        return found

    def take_due(self, at_ms: int, watermark_ms: int) -> list[tuple[int, int, list[str]]]:
        """The other holds that are due at `at_ms`: (target, since, clients) each."""
        found = []
        for (target, length_ms), queue in self._queues.items():
            if queue and queue[0][0] == at_ms and (target != OFFLINE or at_ms <= watermark_ms):
                found.append((target, at_ms - length_ms, queue.popleft()[1]))
        return found

    def held_back(self, after_ms: int, upto_ms: int) -> Iterator[str]:
        """Clients whose offline hold was due after `after_ms` and by `upto_ms` and waits for the watermark."""
        for (target, _), queue in self._queues.items():
            for due_ms, clients in queue:
                if target != OFFLINE or due_ms > upto_ms:
                    break
                if due_ms > after_ms:
                    yield from clients

    def drop_reverted(self, is_held: Callable[[Sequence[str], int, int], bool]) -> None:
        """Drop entries in front that mean no hold any more; `is_held(clients, target, since_ms)`: do they mean one?"""
        for (target, length_ms), queue in self._queues.items():
            while queue and not is_held(queue[0][1], target, queue[0][0] - length_ms):
                queue.popleft()
        while self._confirmed and not is_held([self._confirmed[0][3]], OFFLINE, self._confirmed[0][2]):
            heapq.heappop(self._confirmed)

    def shift(self, step_ms: int) -> None:
        """The clock was set, and the holds of all clients were moved by that: each settles as long from now as before."""
        for key, queue in self._queues.items():
            self._queues[key] = deque((due_ms + step_ms, clients) for due_ms, clients in queue)
        self._released = deque(
            (at_ms + step_ms, since_ms + step_ms, clients) for at_ms, since_ms, clients in self._released
        )
        self._confirmed = [
            (due_ms + step_ms, order, since_ms + step_ms, client) for due_ms, order, since_ms, client in self._confirmed
        ]

    def restore(self, holds: dict[tuple[int, int], list[tuple[int, str]]]) -> None:
        """Start again with these holds: (target, length) -> (due, client) each; none is confirmed."""
        self._queues.clear()
        self._released.clear()
        self._confirmed.clear()
        for key, entries in holds.items():
            queue: deque[HoldEntry] = deque()
            for due_ms, client in sorted(entries):
                if queue and queue[-1][0] == due_ms:
                    queue[-1][1].append(client)
                else:
                    queue.append((due_ms, [client]))
            self._queues[key] = queue


class CalmTimers:
    """When a client may have stopped flapping, or have few takeovers again; takeovers go first in an instant."""

    TAKEOVERS: Final = 0
    FLAPPING: Final = 1

    def __init__(self) -> None:
        self.kind: Final = FLAPPING_STOPS
        self._heap: list[tuple[int, int, int, str]] = []  # due, what, order, client
        self._order = 0

    def add(self, due_ms: int, client: str, what: int) -> None:
        """Look at the client then; `what`: TAKEOVERS or FLAPPING."""
        self._order += 1
        heapq.heappush(self._heap, (due_ms, what, self._order, client))

    def next(self) -> int:
        """When the next client is looked at; `FOREVER`: none is."""
        return self._heap[0][0] if self._heap else FOREVER

    def pop(self) -> tuple[int, str]:
        """The next one: (what, client)."""
        _, what, _, client = heapq.heappop(self._heap)
        return what, client

    def drop_pointless(self, is_meant: Callable[[int, str], bool]) -> None:
        """Drop entries in front that mean nothing any more; `is_meant(what, client)`: does one?"""
        while self._heap and not is_meant(self._heap[0][1], self._heap[0][3]):
            heapq.heappop(self._heap)

    def clear(self) -> None:
        """Start again."""
        self._heap.clear()
