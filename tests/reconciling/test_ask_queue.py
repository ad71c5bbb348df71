"""Who waits to be asked: the most urgent first, one entry a client, nobody before its time, nobody lost."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.core.presence.query import CONFIRM, DOUBT, HELD, VERIFY
from engine.queries.queue import DRY_RUN, EXACT, OPERATOR, SWEEP, AskQueue, Entry

REASONS = [OPERATOR, VERIFY, DOUBT, CONFIRM, HELD, SWEEP, DRY_RUN]


def taken(queue: AskQueue, now_ms: int = 0) -> list[tuple[str, str]]:
    """Everybody who may be asked now, in order."""
    found = []
    while entries := queue.take(now_ms):
        found += [(entry.client, entry.why) for entry in entries]
    return found


def test_operators_and_rules_go_first_then_doubts_then_the_sweep() -> None:
    queue = AskQueue()
    for client, why in zip("abcdefg", REASONS[::-1], strict=True):
        queue.add(client, why, 0)
    assert [why for _, why in taken(queue)] == [OPERATOR, VERIFY, HELD, CONFIRM, DOUBT, DRY_RUN, SWEEP]


def test_of_equals_who_came_first_goes_first() -> None:
    queue = AskQueue()
    for client in "cab":
        queue.add(client, SWEEP, 0)
    assert [client for client, _ in taken(queue)] == ["c", "a", "b"]


def test_a_more_urgent_wish_lifts_the_entry_and_all_who_wait_are_told_once() -> None:
    queue, first, second = AskQueue(), Future[Any](), Future[Any]()
    queue.add("other", SWEEP, 0)
    queue.add("a", SWEEP, 0, first)
    queue.add("a", OPERATOR, 0, second)
    (entry,) = queue.take(0)
    assert (entry.client, entry.why, entry.told) == ("a", OPERATOR, [first, second])
    assert taken(queue) == [("other", SWEEP)]


def test_a_less_urgent_wish_does_not_lower_it() -> None:
    queue = AskQueue()
    queue.add("a", VERIFY, 0)
    queue.add("a", SWEEP, 0)
    assert taken(queue) == [("a", VERIFY)]


def test_nobody_is_asked_before_its_time() -> None:
    queue = AskQueue()
    queue.add("a", DOUBT, 100)
    queue.add("b", SWEEP, 50)
    assert (queue.next_ms(0), taken(queue, 49)) == (50, [])
    assert (queue.next_ms(50), taken(queue, 50)) == (50, [("b", SWEEP)])
    assert (queue.next_ms(60), taken(queue, 99)) == (100, [])
    assert taken(queue, 100) == [("a", DOUBT)]
    assert queue.next_ms(100) is None


def test_a_confirmation_keeps_its_own_time_whoever_else_asks() -> None:
    queue = AskQueue()
    queue.add("a", CONFIRM, 5_000)
    queue.add("a", OPERATOR, 0)
    assert taken(queue, 0) == [("a", OPERATOR)]
    assert taken(queue, 5_000) == [("a", CONFIRM)]


def test_who_is_put_back_joins_whoever_asked_meanwhile() -> None:
    queue, told = AskQueue(), Future[Any]()
    queue.add("a", SWEEP, 0, told)
    (entry,) = queue.take(0)
    queue.add("a", OPERATOR, 0)
    queue.put_back(entry, 1_000)
    (again,) = queue.take(0)
    assert (again.why, again.told, len(queue)) == (OPERATOR, [told], 0)


def test_a_batch_holds_clients_of_sweeps_and_nobody_who_needs_an_exact_answer() -> None:
    queue = AskQueue()
    for number in range(5):
        queue.add(f"s{number}", SWEEP, 0)
    queue.add("v", VERIFY, 0)
    assert [entry.client for entry in queue.take(0, 10)] == ["v"]
    assert [entry.client for entry in queue.take(0, 3)] == ["s0", "s1", "s2"]
    (odd,) = queue.take(0)
    odd.alone, odd.urgency = True, EXACT
    queue.put_back(odd, 0)
    assert [entry.client for entry in queue.take(0, 10)] == ["s3"]
    assert [entry.client for entry in queue.take(0, 10)] == ["s4"]


def test_dropping_a_reason_leaves_the_others() -> None:
    queue = AskQueue()
    queue.add("a", SWEEP, 0)
    queue.add("b", SWEEP, 0)
    queue.add("b", VERIFY, 0)
    assert [entry.client for entry in queue.drop(SWEEP)] == ["a"]
    assert taken(queue) == [("b", VERIFY)]


WISHES = st.tuples(st.sampled_from("abcd"), st.sampled_from(REASONS), st.integers(0, 20))


@given(st.lists(WISHES, max_size=40), st.integers(1, 4))
def test_everybody_who_is_wished_for_is_asked_in_time_and_all_who_wait_are_told(
    wishes: list[tuple[str, str, int]], most: int
) -> None:
    queue = AskQueue()
    waiting: dict[Future[Any], tuple[str, int]] = {}
    for client, why, at_ms in wishes:
        told = Future[Any]()
        waiting[told] = (client, at_ms)
        queue.add(client, why, at_ms, told)
    for now_ms in range(21):
        while entries := queue.take(now_ms, most):
            assert len(entries) == 1 or not any(entry.alone for entry in entries)
            for entry in entries:
                assert all(waiting.pop(told)[0] == entry.client for told in entry.told)
        assert all(at_ms > now_ms for _, at_ms in waiting.values())
    assert len(queue) == 0 and not waiting


def test_an_entry_says_what_there_is_one_of() -> None:
    assert (
        Entry("a", SWEEP, 0).key
        == Entry("a", VERIFY, 5).key
        != Entry("a", CONFIRM, 0).key
        != Entry("a", DRY_RUN, 0).key
    )
