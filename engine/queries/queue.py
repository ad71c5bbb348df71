"""The queue of clients to be queried, most urgent first, with one entry a client. Pure; read `QueryQueue`.

Urgency is a number, lower first: operators, then rules that verify before they fire, then doubts, confirmations and long holds,
then the sweep. A client that is queued already is not queried twice: a more urgent request raises its entry, and everyone who
waits for the result gets it. Confirmations and dry runs have entries of their own, because a result that was requested for
another reason means something different there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Final

from engine.core.presence.query import CONFIRM, DOUBT, HELD, VERIFY

OPERATOR: Final = "operator"
"""Why: a person or another process wants to know."""
SWEEP: Final = "sweep"
"""Why: a sweep queries every client, or those that a gap concerns."""
DRY_RUN: Final = "dry run"
"""Why: to find out what a sweep would correct. The result is not applied."""

URGENCY: Final = {OPERATOR: 0, VERIFY: 1, DOUBT: 2, CONFIRM: 2, HELD: 2, SWEEP: 4, DRY_RUN: 4}
"""Lower goes first. A reason that is not listed here, of a later version, is as urgent as a doubt."""

EXACT_URGENCY: Final = 3
"""The urgency of a sweep's client whose cached answer disagreed: before the rest, so that batches stay full."""

BATCHED: Final = frozenset({SWEEP, DRY_RUN})
"""Reasons for which a cached answer that agrees with the believed status is enough, so several clients share one call."""

_SEPARATE: Final = frozenset({CONFIRM, DRY_RUN})


class QueueEntry:
    """One client to be queried. Only its queue and the scheduler change it."""

    __slots__ = ("at_ms", "client", "failures", "is_queued", "needs_exact", "urgency", "waiters", "why")

    def __init__(self, client: str, why: str, at_ms: int) -> None:
        self.client = client
        self.why = why
        self.urgency = URGENCY.get(why, 2)
        self.at_ms = at_ms  # not before
        self.failures = 0  # calls without a usable answer
        self.waiters: list[Future[Any]] = []  # each gets the applied result
        self.needs_exact = why not in BATCHED  # a cached answer is not enough
        self.is_queued = True

    @property
    def key(self) -> tuple[str, str]:
        """The queue holds one entry for each key."""
        return self.client, self.why if self.why in _SEPARATE else ""


class QueryQueue:
    """Entries that wait for their query. Not safe between threads: callers that share it hold a lock."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], QueueEntry] = {}
        self._later: list[tuple[int, int, QueueEntry]] = []  # a heap: at_ms, order
        self._ready: list[tuple[int, int, QueueEntry]] = []  # a heap: urgency, order
        self._order = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, client: str, why: str, at_ms: int, waiter: Future[Any] | None = None) -> QueueEntry:
        """Queue a client, to be queried not before `at_ms`. An entry that is queued already is joined, and raised if need be."""
        request = QueueEntry(client, why, at_ms)
        entry = self._entries.get(request.key)
        if entry is None:
            entry = self._entries[request.key] = request
            self._push(entry)
        elif request.urgency < entry.urgency or at_ms < entry.at_ms:
            if request.urgency < entry.urgency:
                entry.urgency, entry.why = request.urgency, why
            entry.at_ms = min(entry.at_ms, at_ms)
            self._push(entry)  # its old place in the heap is skipped later
        entry.needs_exact = entry.needs_exact or request.needs_exact
        if waiter is not None:
            entry.waiters.append(waiter)
        return entry

    def put_back(self, entry: QueueEntry, at_ms: int) -> None:
        """Queue an entry again that was taken. It joins an entry that was added for its client meanwhile."""
        newer = self._entries.get(entry.key)
        if newer is not None:
            newer.waiters += entry.waiters
            newer.failures = max(newer.failures, entry.failures)
            return
        entry.at_ms, entry.is_queued = at_ms, True
        self._entries[entry.key] = entry
        self._push(entry)

    def take(self, now_ms: int, limit: int = 1) -> list[QueueEntry]:
        """The most urgent entry that may be queried now, with others up to `limit` in all where one call can serve several."""
        taken: list[QueueEntry] = []
        self._move_ready(now_ms)
        while self._ready and len(taken) < limit:
            urgency, _, entry = self._ready[0]
            if not entry.is_queued or urgency != entry.urgency:
                heapq.heappop(self._ready)
                continue
            if taken and entry.needs_exact:
                break
            heapq.heappop(self._ready)
            entry.is_queued = False
            del self._entries[entry.key]
            taken.append(entry)
            if entry.needs_exact:
                break
        return taken

    def next_ms(self, now_ms: int) -> int | None:
        """When the next entry may be queried: now or later. None: the queue is empty."""
        self._move_ready(now_ms)
        while self._ready and not (self._ready[0][2].is_queued and self._ready[0][0] == self._ready[0][2].urgency):
            heapq.heappop(self._ready)
        if self._ready:
            return now_ms
        while self._later and not self._later[0][2].is_queued:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def drop(self, why: str) -> Iterator[QueueEntry]:
        """Remove the entries with this reason; yields each."""
        for entry in [entry for entry in self._entries.values() if entry.why == why]:
            entry.is_queued = False
            del self._entries[entry.key]
            yield entry

    def clear(self) -> Iterator[QueueEntry]:
        """Remove all entries; yields each."""
        entries, self._entries = list(self._entries.values()), {}
        self._later.clear()
        self._ready.clear()
        for entry in entries:
            entry.is_queued = False
        yield from entries

    def _push(self, entry: QueueEntry) -> None:
        self._order += 1
        heapq.heappush(self._later, (entry.at_ms, self._order, entry))

    def _move_ready(self, now_ms: int) -> None:
        """Make ready the entries whose instant has come; of equal urgency, the one added first goes first."""
        while self._later and self._later[0][0] <= now_ms:
            _, order, entry = heapq.heappop(self._later)
            if entry.is_queued and entry.at_ms <= now_ms:
                heapq.heappush(self._ready, (entry.urgency, order, entry))
