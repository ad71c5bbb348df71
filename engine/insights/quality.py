"""The quality of each feed, from a sample of the newest history: how late its events come, and how many come twice. Pure.

A source may promise nothing about order or redelivery, and the engine decides the same whatever they are. But a feed that brings every
event twice, or some of them minutes late, costs capacity and delays alerts; this says so in numbers. Read `qualities`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from engine.core.events import LifecycleEvent
from engine.stores.base import JournalRow

SAMPLED_EVENTS: Final = 10_000
"""Events of a sample at most: some tens of milliseconds of work."""

LATE_MS: Final = 60_000
"""An event is late when it is received more than this after it occurred."""

Decode = Callable[[list[bytes], int], Sequence[LifecycleEvent]]
"""Stored texts and the instant at which they were received -> events."""


class Sample(NamedTuple):
    """Events of one source and when each was received, oldest first. Instants are epoch milliseconds."""

    events: list[LifecycleEvent]
    received_ms: list[int]


class FeedQuality(NamedTuple):
    """What a sample says of one source. Shares are between 0 and 1."""

    sampled: int
    redelivered: float | None  # None: nothing was sampled, here and below
    late: float | None
    delay_p50_ms: int | None  # from an event until it was received
    delay_p99_ms: int | None


EMPTY: Final = Sample([], [])
NOTHING: Final = FeedQuality(0, None, None, None, None)


def sample(rows: Iterable[JournalRow], decode: Decode, most: int = SAMPLED_EVENTS) -> dict[str, Sample]:
    """The newest events of every source, `most` in all; `rows` come newest first."""
    found: dict[str, Sample] = {}
    left = most
    for row in rows:
        if left <= 0:
            break
        events = decode(list(row.events[-left:]), row.at_ms) if row.events else ()
        if not events:
            continue
        left -= len(events)
        of_source = found.setdefault(row.source, Sample([], []))
        of_source.events.extend(reversed(events))
        of_source.received_ms.extend([row.at_ms] * len(events))
    return {source: Sample(one.events[::-1], one.received_ms[::-1]) for source, one in found.items()}


def quality(sampled: Sample, late_ms: int = LATE_MS) -> FeedQuality:
    """What a sample says. An event counts as redelivered when the sample has it already, so a longer one finds more."""
    count = len(sampled.events)
    if not count:
        return NOTHING
    distinct = {(event.client, event.type, event.occurred_at_ms, event.channel) for event in sampled.events}
    # An event may be dated a little ahead of this machine's clock.
    delays = sorted(
        max(0, received_ms - event.occurred_at_ms)
        for event, received_ms in zip(sampled.events, sampled.received_ms, strict=True)
    )
    return FeedQuality(
        sampled=count,
        redelivered=(count - len(distinct)) / count,
        late=sum(delay > late_ms for delay in delays) / count,
        delay_p50_ms=delays[(count - 1) // 2],
        delay_p99_ms=delays[(count - 1) * 99 // 100],
    )
