"""The books of one sweep: what each verdict means, and that every client is counted once, whatever is answered in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.presence.client_state import OFFLINE, ONLINE
from engine.core.presence.client_state import UNKNOWN as NOT_KNOWN
from engine.core.presence.query import AGREED, CORRECTED, IGNORED, STALE, UNCONFIRMED, UNKNOWN
from engine.queries.sweep import Said, Sweep, agrees
from engine.stores.base import Tally

FINAL = {AGREED: "agreed", CORRECTED: "corrected", IGNORED: "agreed"}


def sweep(*clients: str, done: Tally = Tally()) -> Sweep:  # noqa: B008
    return Sweep(1, "operator", 0, clients, done)


def take(books: Sweep, *said: Said) -> Tally:
    """Count answers, then take them, as the writer does."""
    more = books.count(said)
    books.take(said)
    return more


@pytest.mark.parametrize(("verdict", "counter"), FINAL.items())
def test_a_final_verdict_counts_once(verdict: str, counter: str) -> None:
    books = sweep("a", "b")
    assert take(books, Said("a", verdict))._asdict() == Tally(asked=1)._asdict() | {counter: 1}
    assert take(books, Said("a", verdict)) == Tally()
    assert (books.upcoming(), books.tally.asked, books.total) == (["b"], 1, 2)


@pytest.mark.parametrize("verdict", [UNKNOWN, STALE, None])
def test_what_says_nothing_is_asked_again(verdict: str | None) -> None:
    books = sweep("a")
    assert take(books, Said("a", verdict)) == Tally()
    assert books.upcoming() == ["a"]


def test_a_contradiction_is_final_when_it_was_confirmed() -> None:
    books = sweep("a")
    assert take(books, Said("a", UNCONFIRMED)) == Tally()
    assert (books.upcoming(), books.confirming) == ([], {"a"})
    assert take(books, Said("a", CORRECTED)) == Tally(asked=1, corrected=1)
    assert not books.confirming


def test_a_contradiction_that_is_not_confirmed_has_agreed() -> None:
    books = sweep("a")
    take(books, Said("a", UNCONFIRMED))
    assert take(books, Said("a", AGREED)) == Tally(asked=1, agreed=1)


def test_a_confirmation_that_says_nothing_begins_anew() -> None:
    books = sweep("a")
    take(books, Said("a", UNCONFIRMED), Said("a", UNKNOWN, "timed out"))
    assert (books.upcoming(), books.confirming) == (["a"], set())


def test_the_rest_is_unknown_or_failed_by_what_was_said_last() -> None:
    books = sweep("a", "b", "c")
    take(books, Said("a", UNKNOWN), Said("b", UNKNOWN, "timed out"))
    assert books.rest() == Tally(asked=3, unknown=2, failed=1)
    assert books.rest("wrong key") == Tally(asked=3, failed=3)
    books.end(books.rest())
    assert (books.tally.asked, books.upcoming()) == (3, [])


def test_what_was_counted_before_a_restart_stays_counted() -> None:
    books = sweep("a", done=Tally(asked=10, agreed=9, corrected=1))
    assert books.total == 11
    take(books, Said("a", AGREED))
    assert books.tally == Tally(asked=11, agreed=10, corrected=1)


VERDICTS = st.sampled_from([AGREED, CORRECTED, IGNORED, UNCONFIRMED, UNKNOWN, STALE, None])
ANSWERS = st.lists(
    st.builds(Said, st.sampled_from("abcdx"), VERDICTS, st.sampled_from([None, "timed out"])), max_size=30
)


@given(st.lists(ANSWERS, max_size=6))
def test_counters_add_up_whatever_is_answered(batches: list[list[Said]]) -> None:
    books, written = sweep(*"abcd"), Tally()
    for batch in batches:
        written = Tally(*map(sum, zip(written, take(books, *batch), strict=True)))
    rest = books.rest()
    books.end(rest)
    assert books.tally == Tally(*map(sum, zip(written, rest, strict=True)))
    assert books.tally.asked == 4 == sum(books.tally[1:])


@pytest.mark.parametrize(
    ("observed", "connections", "same"),
    [(ONLINE, 1, True), (ONLINE, 2, True), (ONLINE, 0, False), (OFFLINE, 0, True), (OFFLINE, 1, False),
     (NOT_KNOWN, 0, False), (NOT_KNOWN, 1, False)],
)  # fmt: skip
def test_a_count_agrees_with_what_is_observed(observed: int, connections: int, same: bool) -> None:
    assert agrees(observed, connections) is same
