"""Applies query results inside the writer's transaction, with the corrections and the sweep's counters that follow.

`apply` runs in the transaction and changes nothing but the fleet and the store, both of which are as before when it fails;
`committed` is called when it has committed. Read `ResultApplier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from engine.core.presence.client_state import NEVER, OFFLINE, ONLINE, STATUS_NAMES, ClientState
from engine.core.presence.query import CORRECTED, StatusAnswer
from engine.core.times import rfc3339
from engine.queries.current_sweep import CurrentSweep
from engine.queries.results import QueryResult
from engine.queries.sweep import NOTHING, ClientVerdict, Sweep
from engine.stores.base import NewCorrection, Sweeps

MAX_CHANNELS_RECORDED = 8
"""A correction records what the events said about so many of the client's newest connections."""


class QueriedFleet(Protocol):
    """The part of the fleet that takes answers."""

    clock_ms: int

    def state_of(self, client: str) -> ClientState:
        """The client's state, uncommitted changes included."""
        ...

    def answer(self, answer: StatusAnswer, now_ms: int) -> str:
        """Take an answer; the verdict, see `core.presence.query`."""
        ...


class ResultApplier:
    """Applies results, and counts them for the running sweep. `apply` and `committed` are called in the writer's thread."""

    def __init__(self, fleet: QueriedFleet, store: Sweeps, current: CurrentSweep) -> None:
        self.corrections = 0  # since the start
        self._fleet, self._store, self._current = fleet, store, current
        # Of the transaction that has not committed yet:
        self._verdicts: list[ClientVerdict] = []
        self._counted_for: Sweep | None = None
        self._corrected = 0

    def apply(self, results: Sequence[QueryResult]) -> list[str]:
        """Inside the transaction: apply results; a verdict for each. The sweep's counters are written with them."""
        verdicts, corrections = [], []
        for result in results:
            verdict, correction = self._apply_one(result)
            verdicts.append(verdict)
            if correction is not None:
                corrections.append(correction)
        if corrections:
            self._store.write_corrections(corrections)
        with self._current.changed:
            sweep = self._counted_for = self._applied_sweep()
            more = sweep.tally_of(verdicts) if sweep is not None else NOTHING
        if sweep is not None and more.asked:
            self._store.count_reconciliation(sweep.number, more)
        self._verdicts, self._corrected = verdicts, len(corrections)
        return [str(one.verdict) for one in verdicts]

    def committed(self) -> None:
        """The results of the last `apply` have committed."""
        self.corrections += self._corrected
        with self._current.changed:
            if self._counted_for is not None:  # which may have ended by now, or may not be the running one any more
                self._counted_for.record(self._verdicts)
            self._counted_for = None
        self._verdicts, self._corrected = [], 0
        self._current.notify()

    def has_uncommitted(self, sweep: Sweep) -> bool:
        """Have results been counted for a sweep in a transaction that has not committed yet?"""
        return self._counted_for is sweep

    def _applied_sweep(self) -> Sweep | None:
        """The running sweep, unless it is a dry run."""
        sweep = self._current.sweep
        return None if sweep is None or sweep.is_dry_run else sweep

    def _apply_one(self, result: QueryResult) -> tuple[ClientVerdict, NewCorrection | None]:
        fleet, answer = self._fleet, result.answer
        before = fleet.state_of(answer.client)
        verdict = fleet.answer(answer, max(answer.answered_at_ms, fleet.clock_ms))
        found = ClientVerdict(answer.client, verdict, result.problem)
        if verdict != CORRECTED or answer.connections is None:
            return found, None
        sweep = self._applied_sweep()
        return found, NewCorrection(
            reconciliation=sweep.number if sweep is not None and answer.client in sweep.remaining else None,
            client=answer.client,
            at_ms=answer.answered_at_ms,
            believed=STATUS_NAMES[_corrected_status(before, answer.connections)],
            connections=answer.connections,
            said=newest_connections(before),
        )


def _corrected_status(before: ClientState, connections: int) -> int:
    """The status that a correction replaces: a count is believed at once and confirmed now, a zero when it comes again."""
    if connections == 0:
        return before.observed
    return OFFLINE if before.observed == ONLINE else before.observed


def newest_connections(state: ClientState) -> list[dict[str, Any]]:
    """What the events said about a client's newest connections: when each connected, closed, and announced its disconnect."""
    newest = sorted(state.channels, key=lambda channel: max(channel.connect_ms, channel.close_ms))
    return [
        {
            "channel": channel.id,
            "connect": _instant(channel.connect_ms),
            "tcpclean": _instant(channel.close_ms),
            "disconnect": _instant(channel.goodbye_ms),
        }
        for channel in newest[-MAX_CHANNELS_RECORDED:]
    ]


def _instant(at_ms: int) -> str | None:
    return None if at_ms == NEVER else rfc3339(at_ms)
