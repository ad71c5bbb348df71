"""Synchronous queries in a scenario: what they would say by its `answers`, and which are still to be made.

A query takes no time: whoever is asked about at an instant is answered at it, by the newest entry for that client at or
before then. Without an entry, or with one that cannot tell, the answer is unknown. Read `Queries` first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from engine.config.inventory import Inventory
from engine.core.presence.query import CONFIRM, STALE, QueryRequest
from engine.core.times import FOREVER
from engine.replay.scenarios.file import Answer

ROLL = "roll"
"""Why: the inventory names the client, and nobody has heard of it."""

STALE_PAUSE_MS = 1_000
"""How long after a stale answer the same is asked again at the earliest: only the clock can make a difference."""


class Queries:
    """The entries of one test, and the questions that wait for their instant."""

    def __init__(self, answers: Sequence[Answer], inventory: Inventory) -> None:
        self._entries: dict[str, list[Answer]] = {}
        for answer in sorted(answers, key=lambda entry: entry.at_ms):
            self._entries.setdefault(answer.client, []).append(answer)
        self._inventory = inventory
        self._waiting: list[tuple[int, int, QueryRequest]] = []  # instant, order
        self._order = 0
        self._asked: set[tuple[str, int, bool]] = set()  # the names of those that wait
        for answer in answers:
            # One that has connections is no absence; its events may begin in this very instant.
            if inventory.lists(answer.client) and not answer.connections:
                self._wait(QueryRequest(answer.client, ROLL, answer.at_ms), answer.at_ms)

    def _wait(self, ask: QueryRequest, at_ms: int) -> None:
        """One query answers everybody who wants to know the same at the same instant."""
        if (named := _named(ask, at_ms)) in self._asked:
            return
        self._asked.add(named)
        self._order += 1
        heapq.heappush(self._waiting, (at_ms, self._order, ask))

    def listed(self, client: str) -> bool:
        """Does a row of the inventory name the client by its whole id?"""
        return self._inventory.lists(client)

    def connections(self, client: str, at_ms: int) -> int | None:
        """What a query at this instant says; None: it cannot tell."""
        found = None
        for entry in self._entries.get(client, ()):
            if entry.at_ms <= at_ms:
                found = entry.connections
        return found

    def add(self, asks: Iterable[QueryRequest], now_ms: int, verdict: str = "") -> None:
        """Remember questions; `verdict` is that of the answer which made them."""
        earliest_ms = now_ms + STALE_PAUSE_MS if verdict == STALE else now_ms
        for ask in asks:
            self._wait(ask, max(ask.at_ms, earliest_ms))

    @property
    def next_ms(self) -> int:
        """When the next question is to be asked; FOREVER when none waits."""
        return self._waiting[0][0] if self._waiting else FOREVER

    def due(self, now_ms: int) -> QueryRequest | None:
        """The next question that is to be asked by now."""
        if self.next_ms > now_ms:
            return None
        at_ms, _, ask = heapq.heappop(self._waiting)
        self._asked.discard(_named(ask, at_ms))
        return ask

    def drop_hopeless(self, now_ms: int) -> None:
        """Forget the questions that would be asked for ever in vain: no entry will say anything about their client."""
        self._waiting = [entry for entry in self._waiting if self._is_worth_it(entry[2], now_ms)]
        heapq.heapify(self._waiting)
        self._asked = {_named(ask, at_ms) for at_ms, _, ask in self._waiting}

    def _is_worth_it(self, ask: QueryRequest, now_ms: int) -> bool:
        if ask.why in (CONFIRM, ROLL) or self.connections(ask.client, now_ms) is not None:
            return True
        return any(entry.at_ms > now_ms for entry in self._entries.get(ask.client, ()))


def _named(ask: QueryRequest, at_ms: int) -> tuple[str, int, bool]:
    """What makes two questions one; that of the roll is apart, because it may turn out not to be asked."""
    return ask.client, at_ms, ask.why == ROLL
