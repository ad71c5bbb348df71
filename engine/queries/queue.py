"""Who waits to be asked about, most urgent first: a queue with one entry a client. Pure; read `AskQueue`.

Urgency is a number, lower first: operators, then rules that want to be sure before they page, then doubts, confirmations and
long holds, then the sweep. A client that waits already is not asked twice: a more urgent wish lifts its entry, and whoever
waits for the answer is told. Confirmations and dry runs are entries of their own, because an answer given to somebody else
means something different there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Final

from engine.core.presence.query import CONFIRM, DOUBT, HELD, VERIFY

OPERATOR: Final = "operator"
"""Why: a person, or a business process, wants to know."""
SWEEP: Final = "sweep"
"""Why: a sweep goes through the clients."""
DRY_RUN: Final = "dry run"
"""Why: what would a sweep correct? The answer is not applied."""

URGENCY: Final = {OPERATOR: 0, VERIFY: 1, DOUBT: 2, CONFIRM: 2, HELD: 2, SWEEP: 4, DRY_RUN: 4}
"""Lower goes first. What a later version calls otherwise is as urgent as a doubt."""

EXACT: Final = 3
"""As urgent as this is a client of a sweep whose cached answer disagreed: before the rest, so that calls stay full."""

SEVERAL: Final = frozenset({SWEEP, DRY_RUN})
"""Reasons for which a cached answer that agrees with the belief will do, so that several clients go into one call."""

_APART: Final = frozenset({CONFIRM, DRY_RUN})


class Entry:
    """One client to be asked about. Only its queue and the asker change it."""

    __slots__ = ("alone", "at_ms", "client", "failures", "told", "urgency", "waits", "why")

    def __init__(self, client: str, why: str, at_ms: int) -> None:
        self.client = client
        self.why = why
        self.urgency = URGENCY.get(why, 2)
        self.at_ms = at_ms  # not before
        self.failures = 0  # calls that got no usable answer
        self.told: list[Future[Any]] = []  # who waits for the verdict
        self.alone = why not in SEVERAL  # needs an exact answer
        self.waits = True  # is it in the queue?

    @property
    def key(self) -> tuple[str, str]:
        """What there is one entry of."""
        return self.client, self.why if self.why in _APART else ""


class AskQueue:
    """Entries that wait. Not safe between threads: whoever shares it holds a lock."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._later: list[tuple[int, int, Entry]] = []  # at_ms, order
        self._ready: list[tuple[int, int, Entry]] = []  # urgency, order
        self._order = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, client: str, why: str, at_ms: int, told: Future[Any] | None = None) -> Entry:
        """Ask about a client, not before `at_ms`; joins the entry that waits already, and lifts it."""
        wish = Entry(client, why, at_ms)
        entry = self._entries.get(wish.key)
        if entry is None:
            entry = self._entries[wish.key] = wish
            self._push(entry)
        elif wish.urgency < entry.urgency or at_ms < entry.at_ms:
            if wish.urgency < entry.urgency:
                entry.urgency, entry.why = wish.urgency, why
            entry.at_ms = min(entry.at_ms, at_ms)
            self._push(entry)  # where it lay before, it is passed over
        entry.alone = entry.alone or wish.alone
        if told is not None:
            entry.told.append(told)
        return entry

    def put_back(self, entry: Entry, at_ms: int) -> None:
        """Ask once more for an entry that was taken; one that came for its client meanwhile takes it in."""
        there = self._entries.get(entry.key)
        if there is not None:
            there.told += entry.told
            there.failures = max(there.failures, entry.failures)
            return
        entry.at_ms, entry.waits = at_ms, True
        self._entries[entry.key] = entry
        self._push(entry)

    def take(self, now_ms: int, most: int = 1) -> list[Entry]:
        """The most urgent entry that may be asked now, with up to `most` in all where one call can serve several."""
        found: list[Entry] = []
        self._ripen(now_ms)
        while self._ready and len(found) < most:
            urgency, _, entry = self._ready[0]
            if not entry.waits or urgency != entry.urgency:
                heapq.heappop(self._ready)
                continue
            if found and entry.alone:
                break
            heapq.heappop(self._ready)
            entry.waits = False
            del self._entries[entry.key]
            found.append(entry)
            if entry.alone:
                break
        return found

    def next_ms(self, now_ms: int) -> int | None:
        """When the next entry may be asked: now or later, None: nobody waits."""
        self._ripen(now_ms)
        while self._ready and not (self._ready[0][2].waits and self._ready[0][0] == self._ready[0][2].urgency):
            heapq.heappop(self._ready)
        if self._ready:
            return now_ms
        while self._later and not self._later[0][2].waits:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def drop(self, why: str) -> Iterator[Entry]:
        """Drop those who are asked for this reason, and say who it was."""
        for entry in [entry for entry in self._entries.values() if entry.why == why]:
            entry.waits = False
            del self._entries[entry.key]
            yield entry

    def clear(self) -> Iterator[Entry]:
        """Drop everybody, and say who it was."""
        entries, self._entries = list(self._entries.values()), {}
        self._later.clear()
        self._ready.clear()
        for entry in entries:
            entry.waits = False
        yield from entries

    def _push(self, entry: Entry) -> None:
        self._order += 1
        heapq.heappush(self._later, (entry.at_ms, self._order, entry))

    def _ripen(self, now_ms: int) -> None:
        """Those whose instant has come, in the order in which they came."""
        while self._later and self._later[0][0] <= now_ms:
            _, order, entry = heapq.heappop(self._later)
            if entry.waits and entry.at_ms <= now_ms:
                heapq.heappush(self._ready, (entry.urgency, order, entry))
