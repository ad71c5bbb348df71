"""The quality of a feed is what its newest events say: how late they came, and how many came twice."""

from __future__ import annotations

from engine.core.events import CONNECT, LifecycleEvent
from engine.insights.quality import EMPTY, NOTHING, quality, sample
from engine.stores.base import JournalRow

AT_MS = 1_000_000_000_000


def row(number: int, source: str, *times: int) -> JournalRow:
    """Events of these instants (ms before `AT_MS`), received at `AT_MS`."""
    return JournalRow(number, AT_MS, source, [str(time).encode() for time in times], [], [])


def decode(raw: list[bytes], received_ms: int) -> list[LifecycleEvent]:
    return [LifecycleEvent("G@@@d", CONNECT, received_ms - int(text), "c", "") for text in raw]


def test_each_source_is_judged_by_its_own_events() -> None:
    found = sample([row(2, "slow", 61_000, 60_000, 2_000, 1_000), row(1, "twice", 0, 0, 0, 5)], decode)
    slow, twice = quality(found["slow"]), quality(found["twice"])
    assert (slow.sampled, slow.redelivered, slow.late) == (4, 0, 0.25)
    assert (slow.delay_p50_ms, slow.delay_p99_ms) == (2_000, 60_000)
    assert (twice.redelivered, twice.late, twice.delay_p50_ms) == (0.5, 0, 0)


def test_a_sample_is_bounded_and_holds_the_newest() -> None:
    found = sample([row(3, "a", 3, 2, 1), row(2, "b", 9), row(1, "a", 7)], decode, most=3)
    assert [event.occurred_at_ms - AT_MS for event in found["a"].events] == [-3, -2, -1]
    assert set(found) == {"a"}


def test_an_event_dated_ahead_has_no_negative_delay_and_no_sample_says_nothing() -> None:
    assert quality(sample([row(1, "a", -500)], decode)["a"]).delay_p99_ms == 0
    assert quality(EMPTY) == NOTHING
