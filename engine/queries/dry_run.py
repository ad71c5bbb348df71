"""A dry run: results are compared with the believed status, and not applied. Read `DryRun.take`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

from engine.core.presence.client_state import STATUS_NAMES, ClientState
from engine.core.presence.query import AGREED, CORRECTED, UNKNOWN
from engine.queries.current_sweep import CurrentSweep
from engine.queries.result_applier import newest_connections
from engine.queries.results import QueryResult
from engine.queries.sweep import ClientVerdict, Sweep, agrees
from engine.queries.sweep_records import SweepRecords
from engine.stores.base import NewCorrection


class DryRun:
    """Finds what a sweep would correct. `take` may be called from any thread, `count` from the reconciler's."""

    def __init__(
        self, current: CurrentSweep, records: SweepRecords, published: Callable[[str], ClientState | None]
    ) -> None:
        """`published`: a client's state as readers see it."""
        self._current, self._records, self._published = current, records, published
        self._lock = threading.Lock()
        self._uncounted: list[tuple[ClientVerdict, NewCorrection | None]] = []

    def take(self, sweep: Sweep, result: QueryResult) -> bool:
        """What a result would mean. False: it contradicts the belief, and the client is to be queried once more first."""
        answer = result.answer
        client = answer.client
        state = self._published(client) or ClientState()
        correction = None
        if answer.connections is None:
            verdict = ClientVerdict(client, UNKNOWN, result.problem)
        elif agrees(state.observed, answer.connections):
            verdict = ClientVerdict(client, AGREED)
        elif client not in sweep.confirming:
            with self._current.changed:
                sweep.confirming.add(client)
            return False
        else:
            verdict = ClientVerdict(client, CORRECTED)
            correction = NewCorrection(
                reconciliation=sweep.number,
                client=client,
                at_ms=answer.answered_at_ms,
                believed=STATUS_NAMES[state.observed],
                connections=answer.connections,
                said=newest_connections(state),
            )
        with self._lock:
            self._uncounted.append((verdict, correction))
        return True

    def count(self, sweep: Sweep) -> None:
        """Count and store what was found since the last call. Raises StoreError when that cannot be stored."""
        with self._lock:
            found, self._uncounted = self._uncounted, []
        if not found:
            return
        verdicts = [verdict for verdict, _ in found]
        corrections = [correction for _, correction in found if correction is not None]
        with self._current.changed:
            more = sweep.tally_of(verdicts)
        with contextlib.suppress(CancelledError):
            self._records.add(sweep.number, more, corrections)
        with self._current.changed:
            sweep.record(verdicts)
