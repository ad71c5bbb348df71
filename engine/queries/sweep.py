"""One sweep through the clients: who is left, what each answer means for it, and how it ends. Pure; read `Sweep.take`.

A client's answer is final when nothing more follows from it: a contradiction is asked once more (`confirm`), and what could
not be said, failed, or was overtaken by an event is asked again in another pass. Counters hold final answers only, so a
sweep that a restart interrupts counts nobody twice.

Whoever asked, an answer counts for the sweep that its client is part of: nobody is asked twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from engine.core.presence.client_state import OFFLINE, ONLINE
from engine.core.presence.query import AGREED, CORRECTED, IGNORED, UNCONFIRMED
from engine.queries.queue import DRY_RUN
from engine.stores.base import Tally

PASSES: Final = 3
"""How often a sweep goes through those who could not be said before they count as unknown or failed."""


NOBODY: Final = Tally()


class Said(NamedTuple):
    """An answer that was judged."""

    client: str
    verdict: str | None  # None: it could not be stored
    problem: str | None = None  # why there was no number


class Sweep:
    """A sweep under way. Used by whoever judges answers and by the reconciler, which share a lock."""

    def __init__(self, number: int, why: str, started_at_ms: int, clients: Iterable[str], done: Tally = NOBODY) -> None:
        """`done`: what had been counted before a restart."""
        self.number, self.why, self.started_at_ms = number, why, started_at_ms
        self.begun_ms = started_at_ms  # or gone on with, after a restart
        self.left = dict.fromkeys(clients)  # those whose answer is not final, in the order of asking
        self.total = done.asked + len(self.left)
        self.tally = done
        self.confirming: set[str] = set()  # contradicted, and asked once more
        self._unsaid: dict[str, str | None] = {}  # client -> why its last answer said nothing

    @property
    def is_dry(self) -> bool:
        """Does it change nothing?"""
        return self.why == DRY_RUN

    def count(self, said: Iterable[Said]) -> Tally:
        """What these answers add to the counters; changes nothing."""
        counted: dict[str, Tally] = {}  # of several answers about one client, the first that is final
        for one in said:
            more = self._final(one)
            if more is not None and one.client in self.left:
                counted.setdefault(one.client, more)
        return _sum(counted.values())

    def take(self, said: Iterable[Said]) -> None:
        """These answers have been stored."""
        for one in said:
            if one.client not in self.left:
                continue
            more = self._final(one)
            if more is not None:
                del self.left[one.client]
                self.confirming.discard(one.client)
                self._unsaid.pop(one.client, None)
                self.tally = _sum((self.tally, more))
            elif one.verdict == UNCONFIRMED:
                self.confirming.add(one.client)
            else:
                self.confirming.discard(one.client)
                self._unsaid[one.client] = one.problem

    def _final(self, said: Said) -> Tally | None:
        """What one answer adds to the counters; None: it is not the last word."""
        if said.verdict == CORRECTED:
            return Tally(asked=1, corrected=1)
        return Tally(asked=1, agreed=1) if said.verdict in {AGREED, IGNORED} else None

    def upcoming(self) -> list[str]:
        """Whom to ask in the next pass."""
        return [client for client in self.left if client not in self.confirming]

    def rest(self, problem: str | None = None) -> Tally:
        """What those who are left count as when it ends now; `problem`: nobody can be asked any more."""
        failed = len(self.left) if problem else sum(self._unsaid.get(client) is not None for client in self.left)
        return Tally(asked=len(self.left), unknown=len(self.left) - failed, failed=failed)

    def end(self, rest: Tally) -> None:
        """Nobody is left."""
        self.tally = _sum((self.tally, rest))
        self.left.clear()
        self.confirming.clear()


def agrees(observed: int, connections: int) -> bool:
    """Is a number of connections what is observed?"""
    return observed == (ONLINE if connections else OFFLINE)


def _sum(tallies: Iterable[Tally | None]) -> Tally:
    columns = zip(Tally(), *(tally for tally in tallies if tally is not None), strict=True)
    return Tally(*(sum(column) for column in columns))
