"""The running sweep, shared by the threads that apply results, send queries and report progress. Read `CurrentSweep`."""

from __future__ import annotations

import threading
from typing import NamedTuple

from engine.queries.sweep import Sweep
from engine.stores.base import Tally


class Progress(NamedTuple):
    """How far a sweep is, for the metrics."""

    number: int
    total: int
    tally: Tally


class CurrentSweep:
    """Holds the running sweep, if any. Threads hold `changed` while they read or change it or its counters.

    `changed` is also how a thread waits for progress: whoever changes something notifies it.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.sweep: Sweep | None = None

    def set(self, sweep: Sweep | None) -> None:
        """From now on results count for this sweep; None: for none."""
        with self.changed:
            self.sweep = sweep

    def notify(self) -> None:
        """Something changed that a thread may wait for."""
        with self.changed:
            self.changed.notify_all()

    def progress(self) -> Progress | None:
        """How far the running sweep is; None: there is none."""
        with self.changed:
            return None if self.sweep is None else Progress(self.sweep.number, self.sweep.total, self.sweep.tally)
