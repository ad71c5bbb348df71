"""The queue of clients to be queried: most urgent first, one entry a client, none before its time, none lost."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.core.presence.query import CONFIRM, DOUBT, HELD, VERIFY
from engine.queries.queue import DRY_RUN, EXACT_URGENCY, OPERATOR, SWEEP, QueryQueue, QueueEntry

REASONS = [OPERATOR, VERIFY, DOUBT, CONFIRM, HELD, SWEEP, DRY_RUN]


def taken(queue: QueryQueue, now_ms: int = 0) -> list[tuple[str, str]]:
    """All entries that may be queried now, in order."""
    found = []
    while entries := queue.take(now_ms):
        found += [(entry.client, entry.why) for entry in entries]
    return found


def test_operators_and_rules_go_first_then_doubts_then_the_sweep() -> None:
    queue = QueryQueue()
    for client, why in zip("abcdefg", REASONS[::-1], strict=True):
        queue.add(client, why, 0)
    assert [why for _, why in taken(queue)] == [OPERATOR, VERIFY, HELD, CONFIRM, DOUBT, DRY_RUN, SWEEP]


def test_of_equally_urgent_entries_the_first_goes_first() -> None:
    queue = QueryQueue()
    for client in "cab":
        queue.add(client, SWEEP, 0)
    assert [client for client, _ in taken(queue)] == ["c", "a", "b"]


def test_a_more_urgent_request_raises_the_entry_and_every_waiter_gets_one_result() -> None:
    queue, first, second = QueryQueue(), Future[Any](), Future[Any]()
    queue.add("other", SWEEP, 0)
    queue.add("a", SWEEP, 0, first)
    queue.add("a", OPERATOR, 0, second)
    (entry,) = queue.take(0)
    assert (entry.client, entry.why, entry.waiters) == ("a", OPERATOR, [first, second])
    assert taken(queue) == [("other", SWEEP)]


def test_a_less_urgent_request_does_not_lower_it() -> None:
    queue = QueryQueue()
    queue.add("a", VERIFY, 0)
    queue.add("a", SWEEP, 0)
    assert taken(queue) == [("a", VERIFY)]


def test_no_entry_is_taken_before_its_time() -> None:
    queue = QueryQueue()
    queue.add("a", DOUBT, 100)
    queue.add("b", SWEEP, 50)
    assert (queue.next_ms(0), taken(queue, 49)) == (50, [])
    assert (queue.next_ms(50), taken(queue, 50)) == (50, [("b", SWEEP)])
    assert (queue.next_ms(60), taken(queue, 99)) == (100, [])
    assert taken(queue, 100) == [("a", DOUBT)]
    assert queue.next_ms(100) is None


def test_a_confirmation_keeps_its_own_time_whatever_else_is_requested() -> None:
    queue = QueryQueue()
    queue.add("a", CONFIRM, 5_000)
    queue.add("a", OPERATOR, 0)
    assert taken(queue, 0) == [("a", OPERATOR)]
    assert taken(queue, 5_000) == [("a", CONFIRM)]


def test_an_entry_that_is_put_back_joins_one_that_was_added_meanwhile() -> None:
    queue, waiter = QueryQueue(), Future[Any]()
    queue.add("a", SWEEP, 0, waiter)
    (entry,) = queue.take(0)
    queue.add("a", OPERATOR, 0)
    queue.put_back(entry, 1_000)
    (again,) = queue.take(0)
    assert (again.why, again.waiters, len(queue)) == (OPERATOR, [waiter], 0)


def test_a_batch_holds_clients_of_sweeps_and_none_that_needs_an_exact_answer() -> None:
    queue = QueryQueue()
    for number in range(5):
        queue.add(f"s{number}", SWEEP, 0)
    queue.add("v", VERIFY, 0)
    assert [entry.client for entry in queue.take(0, 10)] == ["v"]
    assert [entry.client for entry in queue.take(0, 3)] == ["s0", "s1", "s2"]
    (odd,) = queue.take(0)
    odd.needs_exact, odd.urgency = True, EXACT_URGENCY
    queue.put_back(odd, 0)
    assert [entry.client for entry in queue.take(0, 10)] == ["s3"]
    assert [entry.client for entry in queue.take(0, 10)] == ["s4"]


def test_dropping_a_reason_leaves_the_others() -> None:
    queue = QueryQueue()
    queue.add("a", SWEEP, 0)
    queue.add("b", SWEEP, 0)
    queue.add("b", VERIFY, 0)
    assert [entry.client for entry in queue.drop(SWEEP)] == ["a"]
    assert taken(queue) == [("b", VERIFY)]


REQUESTS = st.tuples(st.sampled_from("abcd"), st.sampled_from(REASONS), st.integers(0, 20))


@given(st.lists(REQUESTS, max_size=40), st.integers(1, 4))
def test_every_requested_client_is_taken_in_time_with_all_its_waiters(
    requests: list[tuple[str, str, int]], limit: int
) -> None:
    queue = QueryQueue()
    waiting: dict[Future[Any], tuple[str, int]] = {}
    for client, why, at_ms in requests:
        waiter = Future[Any]()
        waiting[waiter] = (client, at_ms)
        queue.add(client, why, at_ms, waiter)
    for now_ms in range(21):
        while entries := queue.take(now_ms, limit):
            assert len(entries) == 1 or not any(entry.needs_exact for entry in entries)
            for entry in entries:
                assert all(waiting.pop(waiter)[0] == entry.client for waiter in entry.waiters)
        assert all(at_ms > now_ms for _, at_ms in waiting.values())
    assert len(queue) == 0 and not waiting


def test_confirmations_and_dry_runs_have_entries_of_their_own() -> None:
    assert (
        QueueEntry("a", SWEEP, 0).key
        == QueueEntry("a", VERIFY, 5).key
        != QueueEntry("a", CONFIRM, 0).key
        != QueueEntry("a", DRY_RUN, 0).key
    )
