"""Status queries in a scenario: what they answer, by its `answers`, and which are still waiting.

A query takes no time: it is answered at its own instant, by the newest entry for the client at or before that. Without such an
entry the answer is unknown. Read `ScriptedQueries` first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from engine.config.inventory import Inventory
from engine.core.presence.query import CONFIRM, STALE, QueryRequest
from engine.core.times import FOREVER
from engine.replay.scenarios.scenario import Answer

ROLL = "roll"
"""Reason of a query: the inventory lists the client, and no event of it has arrived."""

STALE_PAUSE_MS = 1_000
"""How long after a stale answer the same query is made again: only the clock can change the answer."""


class ScriptedQueries:
    """The `answers` of one test, and the queries that wait for their instant."""

    def __init__(self, answers: Sequence[Answer], inventory: Inventory) -> None:
        self._entries: dict[str, list[Answer]] = {}
        for answer in sorted(answers, key=lambda entry: entry.at_ms):
            self._entries.setdefault(answer.client, []).append(answer)
        self._inventory = inventory
        self._waiting: list[tuple[int, int, QueryRequest]] = []  # instant, order
        self._order = 0
        self._waiting_identities: set[tuple[str, int, bool]] = set()  # the identity of those that wait
        for answer in answers:
            # A client with connections is not absent; its first event may occur at this instant.
            if inventory.lists(answer.client) and not answer.connections:
                self._wait(QueryRequest(answer.client, ROLL, answer.at_ms), answer.at_ms)

    def _wait(self, request: QueryRequest, at_ms: int) -> None:
        """Add a query, unless the same one waits for the same instant."""
        if (identity := _identity(request, at_ms)) in self._waiting_identities:
            return
        self._waiting_identities.add(identity)
        self._order += 1
        heapq.heappush(self._waiting, (at_ms, self._order, request))

    def listed(self, client: str) -> bool:
        """Whether a row of the inventory has exactly this client id."""
        return self._inventory.lists(client)

    def connections(self, client: str, at_ms: int) -> int | None:
        """The number of connections that a query at this instant answers; None: unknown."""
        found = None
        for entry in self._entries.get(client, ()):
            if entry.at_ms <= at_ms:
                found = entry.connections
        return found

    def add(self, requests: Iterable[QueryRequest], now_ms: int, verdict: str = "") -> None:
        """Add queries; `verdict` is that of the answer that led to them."""
        earliest_ms = now_ms + STALE_PAUSE_MS if verdict == STALE else now_ms
        for request in requests:
            self._wait(request, max(request.at_ms, earliest_ms))

    @property
    def next_ms(self) -> int:
        """When the next query is due; FOREVER when none waits."""
        return self._waiting[0][0] if self._waiting else FOREVER

    def due(self, now_ms: int) -> QueryRequest | None:
        """Take the next query that is due; None when none is."""
        if self.next_ms > now_ms:
            return None
        at_ms, _, request = heapq.heappop(self._waiting)
        self._waiting_identities.discard(_identity(request, at_ms))
        return request

    def drop_hopeless(self, now_ms: int) -> None:
        """Drop the queries that would repeat for ever: no entry will ever answer about their client."""
        self._waiting = [entry for entry in self._waiting if self._can_be_answered(entry[2], now_ms)]
        heapq.heapify(self._waiting)
        self._waiting_identities = {_identity(request, at_ms) for at_ms, _, request in self._waiting}

    def _can_be_answered(self, request: QueryRequest, now_ms: int) -> bool:
        if request.why in (CONFIRM, ROLL) or self.connections(request.client, now_ms) is not None:
            return True
        return any(entry.at_ms > now_ms for entry in self._entries.get(request.client, ()))


def _identity(request: QueryRequest, at_ms: int) -> tuple[str, int, bool]:
    """What makes two queries the same. One for `ROLL` is separate, because it may be skipped when it is due."""
    return request.client, at_ms, request.why == ROLL
