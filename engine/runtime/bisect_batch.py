"""An event that raises when it is applied: which one of a batch it is, and the batch without it.

Nothing of it is lost: it goes to the quarantine with the error's name, and can be retried once the error is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.core.events import Rejection
from engine.sources.base import Batch

MAX_REASON_CHARS = 500
"""Of the error that is kept with a quarantined event."""


class Tried(Exception):
    """Raised to undo a transaction that was only a trial."""


def find(batch: Batch, is_well: Callable[[Batch], bool]) -> int | None:
    """The index of the first event that the batch cannot be applied with.

    None when the batch is well, or is not even without events: then no single event is the cause.
    """
    if not batch.events or is_well(batch) or not is_well(_beginning(batch, 0)):
        return None
    good, bad = 0, len(batch.events)  # so many events can be applied, so many cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_well(_beginning(batch, middle)):
            good = middle
        else:
            bad = middle
    return bad - 1


def without(batch: Batch, index: int, error: Exception) -> Batch:
    """The batch with one event moved to its rejected ones; its `acknowledge` is the same."""
    rejection = Rejection(index + 1, f"internal error: {error!r}"[:MAX_REASON_CHARS], batch.raw[index])
    return replace(
        batch,
        events=[*batch.events[:index], *batch.events[index + 1 :]],
        raw=[*batch.raw[:index], *batch.raw[index + 1 :]],
        rejected=[*batch.rejected, rejection],
    )


def _beginning(batch: Batch, count: int) -> Batch:
    return replace(batch, events=batch.events[:count], raw=batch.raw[:count])
