"""One sweep through the clients: which remain, what each verdict means for it, and how it ends. Pure; read `Sweep.record`.

A verdict is final when nothing more follows from it. A contradiction is confirmed by a second query, and a client whose query
was unknown, failed, or was overtaken by an event is queried again in another pass. Counters hold final verdicts only, so a
sweep that a restart interrupts counts no client twice.

A result counts for the sweep that its client is part of, whatever it was requested for: no client is queried twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from engine.core.presence.client_state import OFFLINE, ONLINE
from engine.core.presence.query import AGREED, CORRECTED, IGNORED, UNCONFIRMED
from engine.queries.queue import DRY_RUN
from engine.stores.base import Tally

PASSES: Final = 3
"""How often a sweep queries a client without a final verdict before it counts as unknown or failed."""

NOTHING: Final = Tally()


class ClientVerdict(NamedTuple):
    """What a query's result meant for one client."""

    client: str
    verdict: str | None  # None: the result could not be stored
    problem: str | None = None  # why there was no number of connections


class Sweep:
    """A running sweep. The thread that applies results and the reconciler share it; `CurrentSweep` holds the lock."""

    def __init__(
        self, number: int, why: str, started_at_ms: int, clients: Iterable[str], counted: Tally = NOTHING
    ) -> None:
        """`counted`: the counters of the sweep before a restart."""
        self.number, self.why, self.started_at_ms = number, why, started_at_ms
        self.running_since_ms = started_at_ms  # of the steady clock; later than the start, after a restart
        self.remaining = dict.fromkeys(clients)  # clients without a final verdict, in the order of their queries
        self.total = counted.asked + len(self.remaining)
        self.tally = counted
        self.confirming: set[str] = set()  # contradicted, and waiting for the second query
        self._inconclusive: dict[str, str | None] = {}  # client -> why its last query had no number of connections

    @property
    def is_dry_run(self) -> bool:
        """Does it change nothing?"""
        return self.why == DRY_RUN

    def tally_of(self, verdicts: Iterable[ClientVerdict]) -> Tally:
        """What these verdicts add to the counters; changes nothing."""
        counted: dict[str, Tally] = {}  # of several verdicts about one client, the first final one
        for one in verdicts:
            more = _final(one)
            if more is not None and one.client in self.remaining:
                counted.setdefault(one.client, more)
        return _sum(counted.values())

    def record(self, verdicts: Iterable[ClientVerdict]) -> None:
        """Take these verdicts, which have been stored, into the counters and the remaining clients."""
        for one in verdicts:
            if one.client not in self.remaining:
                continue
            more = _final(one)
            if more is not None:
                del self.remaining[one.client]
                self.confirming.discard(one.client)
                self._inconclusive.pop(one.client, None)
                self.tally = _sum((self.tally, more))
            elif one.verdict == UNCONFIRMED:
                self.confirming.add(one.client)
            else:
                self.confirming.discard(one.client)
                self._inconclusive[one.client] = one.problem

    def to_query(self) -> list[str]:
        """The clients of the next pass."""
        return [client for client in self.remaining if client not in self.confirming]

    def tally_of_remaining(self, problem: str | None = None) -> Tally:
        """What the remaining clients count as if it ended now. `problem`: why no query can be sent any more, if that is so."""
        remaining = len(self.remaining)
        failed = remaining if problem else sum(self._inconclusive.get(c) is not None for c in self.remaining)
        return Tally(asked=remaining, unknown=remaining - failed, failed=failed)

    def finish(self, rest: Tally) -> None:
        """End it; `rest`: what the remaining clients count as."""
        self.tally = _sum((self.tally, rest))
        self.remaining.clear()
        self.confirming.clear()


def agrees(observed: int, connections: int) -> bool:
    """Does a number of connections agree with the observed status?"""
    return observed == (ONLINE if connections else OFFLINE)


def _final(verdict: ClientVerdict) -> Tally | None:
    """What a verdict adds to the counters; None: it is not final."""
    if verdict.verdict == CORRECTED:
        return Tally(asked=1, corrected=1)
    return Tally(asked=1, agreed=1) if verdict.verdict in {AGREED, IGNORED} else None


def _sum(tallies: Iterable[Tally]) -> Tally:
    columns = zip(Tally(), *tallies, strict=True)
    return Tally(*(sum(column) for column in columns))
