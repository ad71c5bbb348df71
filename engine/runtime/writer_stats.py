"""What the writer has done since the start, for the metrics page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.core.alerting.alert import Output
from engine.sources.base import Batch


@dataclass(slots=True)
class WriterStats:
    """Counters; the names of the attributes are those of the metrics."""

    alerts: int = 0
    batches: int = 0
    checkpoints: int = 0
    clients_refused: int = 0
    commit_failures: int = 0
    commits: int = 0
    deliveries: int = 0
    events: int = 0
    purged: int = 0
    rejected: int = 0
    transitions: int = 0

    def count(self, batches: Sequence[Batch], out: Output) -> None:
        """A transaction with these batches and this outcome has committed."""
        self.commits += 1
        self.batches += len(batches)
        self.events += sum(len(batch.events) for batch in batches)
        self.rejected += sum(len(batch.rejected) + batch.rejected_more for batch in batches)
        self.deliveries += len(out.deliveries)
        self.alerts += len(out.alerts)
