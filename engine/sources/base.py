"""The seam that every source of lifecycle events plugs into.

Two kinds of source share it. One that can be read again (a file, a RocketMQ queue by pull) hands over a `position`, which is
committed in the transaction that holds its events' effect: reading is exactly once into the state. One that cannot (HTTP,
AMQP) hands over no position and is told by `acknowledge` after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.core.events import LifecycleEvent, Rejection

MAX_BATCH_EVENTS = 1000
"""Events in one batch: what one transaction holds at most (design decision 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Messages that were never read and are gone. Bounds are epoch milliseconds, None where not known."""

    source: str
    noted_at_ms: int
    from_ms: int | None
    to_ms: int | None
    reason: str


@dataclass(slots=True, kw_only=True)
class Batch:
    """What a source hands over at once, decoded and checked, in the order in which it was read.

    `raw` holds one JSON text a line for exactly the accepted `events`, in the same order: it becomes the history.
    `caught_up_to_ms`: everything the source held at that instant has been read once this batch is applied (None: not yet).
    """

    source: str
    received_at_ms: int
    events: Sequence[LifecycleEvent] = ()
    raw: Sequence[bytes] = ()
    rejected: Sequence[Rejection] = ()
    position: str | None = None  # the source's own text, stored as it is
    caught_up_to_ms: int | None = None
    gaps: Sequence[Gap] = ()
    acknowledge: Callable[[Exception | None], None] | None = field(default=None)  # called once, after COMMIT or failure


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHealth:
    """How one part of a source is doing that is read by itself, such as a queue."""

    name: str
    connected: bool
    detail: str  # why it is not connected, empty when it is
    caught_up_to_ms: int | None
    lag: int | None = None  # messages not yet read, where known


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHealth:
    """How a source is doing, as `rollcall sources`, `/readyz` and the `feed` trigger see it."""

    name: str
    type: str
    connected: bool
    detail: str  # a sentence: what it is doing or why it is not
    caught_up_to_ms: int | None
    last_event_at_ms: int | None  # when the newest batch was received
    lag: int | None = None  # messages or bytes not yet read, where known
    parts: Sequence[PartHealth] = ()  # where they are read one beside the other


class Offer(Protocol):
    """Where a source puts its batches."""

    async def __call__(self, batch: Batch) -> None:
        """Hand over one batch; waits while the engine is busy (back-pressure)."""
        ...


class Source(Protocol):
    """A stream of lifecycle events. Constructed by `app`, run as one asyncio task."""

    name: str
    type: str

    async def run(self, offer: Offer, position: str | None) -> None:
        """Read from `position` (None: never read before) and offer batches until cancelled or finished.

        Errors of the outside world are retried inside, with backoff, and shown in `health`.
        """
        ...

    def caught_up_to(self, now_ms: int) -> int | None:
        """The latest instant of which everything the source held is applied, None: not yet. Cheap; called by any thread."""
        ...

    def health(self, now_ms: int) -> SourceHealth:
        """How it is doing at `now_ms`; cheap, never blocks."""
        ...
