"""Client rows are a cache of the journal, written in slices along with other transactions.

A checkpoint vouches for a journal row: every state as of that row is in the client rows, so a start applies only the rows
after it. States in the rows may be newer; recovery skips what a state contains already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.stores.base import Store

CHECKPOINT_SLICE = 1_000
"""Client rows written along with one transaction: about 5 ms."""

CHECKPOINT_EVENTS = 500_000
"""Journalled events after which client rows are written, so that a restart has at most about so many to apply again."""

CHECKPOINT_AFTER_MS = 60_000
"""Time after which client rows are written, when there were fewer events."""

CHECKPOINT = "checkpoint"
"""Remembered value: the journal row that the client rows vouch for. Also the place at which tests may end the process."""


class Checkpoint:
    """Which clients have changed since their rows were written, and the checkpoint under way."""

    def __init__(
        self,
        store: Store,
        now_ms: int,
        *,
        events: int = CHECKPOINT_EVENTS,
        rows: int = CHECKPOINT_SLICE,
        reached: Callable[[str], None] = lambda place: None,
    ) -> None:
        """`events`: journalled events until the next one; `rows`: of one slice; `reached`: called for each slice."""
        self.row = int(store.meta(CHECKPOINT) or 0)  # the journal row that is vouched for
        self.finished = 0  # checkpoints since the start
        self._store = store
        self._max_events, self._max_rows, self._reached = events, rows, reached
        self._changed: set[str] = set()
        self._events = 0  # journalled since the last one began
        self._begun_at_ms = now_ms
        self._left: list[str] = []  # clients that the one under way has still to write
        self._target = self.row  # journal row that the one under way will vouch for

    def take_over(self) -> None:
        """Another replica has written client rows: go on from what it has vouched for."""
        self.row = self._target = int(self._store.meta(CHECKPOINT) or 0)

    @property
    def is_under_way(self) -> bool:
        """Are client rows left to write?"""
        return bool(self._left)

    def is_due(self, now_ms: int) -> bool:
        """Is it time to begin one?"""
        return bool(self._changed) and (
            self._events >= self._max_events or now_ms - self._begun_at_ms >= CHECKPOINT_AFTER_MS
        )

    def note(self, clients: Iterable[str], events: int) -> None:
        """States of these clients have changed, by so many journalled events."""
        self._changed.update(clients)
        self._events += events

    def write_slice(self, states: Mapping[str, ClientState], now_ms: int, committed_row: int) -> int:
        """Inside a transaction: write some rows of the one under way, or begin one; returns how many.

        `committed_row` is the newest journal row before this transaction.
        """
        if not self._left:
            if not self.is_due(now_ms):
                return 0
            # Neighbours in the table are written together. States of this very transaction may be among them: they
            # are newer than the target, which is allowed. But not all of them are, so its own rows are not vouched for.
            self._left = sorted(self._changed, reverse=True)
            self._changed = set()
            self._target = committed_row
            self._events, self._begun_at_ms = 0, now_ms
        slice_ = self._left[-self._max_rows :]
        found = ((client, states.get(client, NEW_CLIENT)) for client in slice_)
        self._store.clients.write((client, None if state is NEW_CLIENT else state) for client, state in found)
        if len(slice_) == len(self._left):
            self._store.write_meta(CHECKPOINT, str(self._target))
        self._reached(CHECKPOINT)
        return len(slice_)

    def slice_committed(self, written: int) -> None:
        """The last slice, of so many rows, is durable."""
        if written:
            del self._left[-written:]
            if not self._left:
                self.row = self._target
                self.finished += 1
