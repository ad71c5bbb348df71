"""A dry run: answers are compared with what is believed, and not applied. Read `DryRun.take`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

from engine.core.presence.client_state import STATUS_NAMES, ClientState
from engine.core.presence.query import AGREED, CORRECTED, UNKNOWN
from engine.queries.result_applier import what_was_said
from engine.queries.results import Verdict
from engine.queries.sweep import Said, Sweep, agrees
from engine.stores.base import NewCorrection, Sweeps, Tally


class DryRun:
    """What a sweep would have found. `take` from any thread, `count` in the reconciler's."""

    def __init__(
        self,
        books: threading.Lock,
        store: Sweeps,
        published: Callable[[str], ClientState | None],
        do: Callable[[Callable[[], None]], None],
    ) -> None:
        """`books`: the lock of the sweeps' books; `published`: what is believed about a client; `do`: work in a transaction."""
        self._books, self._store, self._published, self._do = books, store, published, do
        self._lock = threading.Lock()
        self._found: list[tuple[Said, NewCorrection | None]] = []  # and nobody counted yet

    def take(self, sweep: Sweep, client: str, found: Verdict) -> bool:
        """What an answer would mean. False: a contradiction is to be asked once more, as a real sweep does."""
        answer = found.asked.answer
        state = self._published(client) or ClientState()
        correction = None
        if answer.connections is None:
            said = Said(client, UNKNOWN, found.asked.problem)
        elif agrees(state.observed, answer.connections):
            said = Said(client, AGREED)
        elif client not in sweep.confirming:
            with self._books:
                sweep.confirming.add(client)
            return False
        else:
            said = Said(client, CORRECTED)
            correction = NewCorrection(
                reconciliation=sweep.number,
                client=client,
                at_ms=answer.answered_at_ms,
                believed=STATUS_NAMES[state.observed],
                connections=answer.connections,
                said=what_was_said(state),
            )
        with self._lock:
            self._found.append((said, correction))
        return True

    def count(self, sweep: Sweep) -> None:
        """Count what was found since the last time, and write it down."""
        with self._lock:
            found, self._found = self._found, []
        if not found:
            return
        said = [one for one, _ in found]
        corrections = [correction for _, correction in found if correction is not None]
        with self._books:
            more = sweep.count(said)
        with contextlib.suppress(CancelledError):
            self._do(lambda: self._write(sweep.number, more, corrections))
        with self._books:
            sweep.take(said)

    def _write(self, number: int, more: Tally, corrections: Sequence[NewCorrection]) -> None:
        if corrections:
            self._store.write_corrections(corrections)
        if more.asked:
            self._store.count_reconciliation(number, more)
