"""The interface of every source of lifecycle events.

There are two kinds. A source that can be read again (a file, a RocketMQ queue by pull) hands over a `position`, which is
committed in the transaction that holds its events' effect: reading is exactly once into the state. A source that cannot (HTTP,
AMQP) hands over no position; `acknowledge` is called after the commit, and only then does it confirm the events to the sender.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.core.events import LifecycleEvent, Rejection

MAX_BATCH_EVENTS = 1000
"""Events in one batch, and so in one transaction, at most (design decision 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Messages that were lost before they were read. Bounds are epoch milliseconds, None where not known."""

    source: str
    noted_at_ms: int
    from_ms: int | None
    to_ms: int | None
    reason: str


@dataclass(slots=True, kw_only=True)
class Batch:
    """Events that a source hands over together, decoded and checked, in the order in which they were read.

    `raw` holds one JSON text a line for exactly the accepted `events`, in the same order: it becomes the history.
    `caught_up_to_ms`: everything the source held at that instant has been read once this batch is applied (None: not yet).
    """

    source: str
    received_at_ms: int
    events: Sequence[LifecycleEvent] = ()
    raw: Sequence[bytes] = ()
    rejected: Sequence[Rejection] = ()
    rejected_more: int = 0  # rejected as well, and only counted: one body cannot fill the quarantine
    position: str | None = None  # the source's own text, stored as it is
    caught_up_to_ms: int | None = None
    gaps: Sequence[Gap] = ()
    along: Callable[[], None] | None = field(default=None)  # done inside the transaction that has the events' effect
    acknowledge: Callable[[Exception | None], None] | None = field(default=None)  # called once, after COMMIT or failure


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """The health of one queue, where a source reads several. Fields as in `SourceHealth`."""

    name: str
    connected: bool
    detail: str
    caught_up_to_ms: int | None
    last_event_at_ms: int | None
    lag: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHealth:
    """The health of a source, as `rollcall sources`, `/readyz` and the `feed` trigger see it."""

    name: str
    type: str
    connected: bool
    detail: str  # a sentence: what it is doing, or why it is not working
    caught_up_to_ms: int | None
    last_event_at_ms: int | None  # when the newest batch was received
    lag: int | None = None  # not yet read and committed, where known, in `lag_unit`
    lag_unit: str = "messages"  # or bytes
    queues: tuple[QueueHealth, ...] = ()
    trouble: str | None = None  # the reason of the open `feed` alert; set by the service, not by the source
    is_connecting: bool = (
        False  # not connected only because its first connection is still being made: nothing has failed
    )


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
        """The latest instant up to which everything the source held is applied; None: not yet. Cheap; called by any thread."""
        ...

    def health(self, now_ms: int) -> SourceHealth:
        """Its health at `now_ms`; cheap, never blocks."""
        ...
