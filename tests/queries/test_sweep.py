"""One sweep: what each verdict means for it, and that every client is counted once, in whatever order verdicts come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.presence.client_state import OFFLINE, ONLINE
from engine.core.presence.client_state import UNKNOWN as NOT_KNOWN
from engine.core.presence.query import AGREED, CORRECTED, IGNORED, STALE, UNCONFIRMED, UNKNOWN
from engine.queries.sweep import ClientVerdict, Sweep, agrees
from engine.stores.base import Tally

FINAL = {AGREED: "agreed", CORRECTED: "corrected", IGNORED: "agreed"}


def sweep(*clients: str, counted: Tally = Tally()) -> Sweep:  # noqa: B008
    return Sweep(1, "operator", 0, clients, counted)


def take(running: Sweep, *verdicts: ClientVerdict) -> Tally:
    """Count verdicts, then record them, as the writer does."""
    more = running.tally_of(verdicts)
    running.record(verdicts)
    return more


@pytest.mark.parametrize(("verdict", "counter"), FINAL.items())
def test_a_final_verdict_counts_once(verdict: str, counter: str) -> None:
    running = sweep("a", "b")
    assert take(running, ClientVerdict("a", verdict))._asdict() == Tally(asked=1)._asdict() | {counter: 1}
    assert take(running, ClientVerdict("a", verdict)) == Tally()
    assert (running.to_query(), running.tally.asked, running.total) == (["b"], 1, 2)


@pytest.mark.parametrize("verdict", [UNKNOWN, STALE, None])
def test_an_inconclusive_verdict_is_queried_again(verdict: str | None) -> None:
    running = sweep("a")
    assert take(running, ClientVerdict("a", verdict)) == Tally()
    assert running.to_query() == ["a"]


def test_a_contradiction_is_final_when_it_was_confirmed() -> None:
    running = sweep("a")
    assert take(running, ClientVerdict("a", UNCONFIRMED)) == Tally()
    assert (running.to_query(), running.confirming) == ([], {"a"})
    assert take(running, ClientVerdict("a", CORRECTED)) == Tally(asked=1, corrected=1)
    assert not running.confirming


def test_a_contradiction_that_is_not_confirmed_has_agreed() -> None:
    running = sweep("a")
    take(running, ClientVerdict("a", UNCONFIRMED))
    assert take(running, ClientVerdict("a", AGREED)) == Tally(asked=1, agreed=1)


def test_an_inconclusive_confirmation_starts_again() -> None:
    running = sweep("a")
    take(running, ClientVerdict("a", UNCONFIRMED), ClientVerdict("a", UNKNOWN, "timed out"))
    assert (running.to_query(), running.confirming) == (["a"], set())


def test_what_remains_is_unknown_or_failed_by_its_newest_result() -> None:
    running = sweep("a", "b", "c")
    take(running, ClientVerdict("a", UNKNOWN), ClientVerdict("b", UNKNOWN, "timed out"))
    assert running.tally_of_remaining() == Tally(asked=3, unknown=2, failed=1)
    assert running.tally_of_remaining("wrong key") == Tally(asked=3, failed=3)
    running.finish(running.tally_of_remaining())
    assert (running.tally.asked, running.to_query()) == (3, [])


def test_what_was_counted_before_a_restart_stays_counted() -> None:
    running = sweep("a", counted=Tally(asked=10, agreed=9, corrected=1))
    assert running.total == 11
    take(running, ClientVerdict("a", AGREED))
    assert running.tally == Tally(asked=11, agreed=10, corrected=1)


VERDICTS = st.sampled_from([AGREED, CORRECTED, IGNORED, UNCONFIRMED, UNKNOWN, STALE, None])
ANSWERS = st.lists(
    st.builds(ClientVerdict, st.sampled_from("abcdx"), VERDICTS, st.sampled_from([None, "timed out"])), max_size=30
)


@given(st.lists(ANSWERS, max_size=6))
def test_counters_add_up_whatever_is_answered(batches: list[list[ClientVerdict]]) -> None:
    running, written = sweep(*"abcd"), Tally()
    for batch in batches:
        written = Tally(*map(sum, zip(written, take(running, *batch), strict=True)))
    rest = running.tally_of_remaining()
    running.finish(rest)
    assert running.tally == Tally(*map(sum, zip(written, rest, strict=True)))
    assert running.tally.asked == 4 == sum(running.tally[1:])


@pytest.mark.parametrize(
    ("observed", "connections", "same"),
    [(ONLINE, 1, True), (ONLINE, 2, True), (ONLINE, 0, False), (OFFLINE, 0, True), (OFFLINE, 1, False),
     (NOT_KNOWN, 0, False), (NOT_KNOWN, 1, False)],
)  # fmt: skip
def test_a_count_agrees_with_what_is_observed(observed: int, connections: int, same: bool) -> None:
    assert agrees(observed, connections) is same
