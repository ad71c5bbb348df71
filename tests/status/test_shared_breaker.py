"""The breaker that the threads of one process share."""

from __future__ import annotations

from engine.status.shared_breaker import LIMITS, SharedBreaker


def test_it_opens_for_longer_each_time_and_lets_one_caller_try() -> None:
    now = [0.0]
    breaker = SharedBreaker(lambda: now[0])
    for _ in range(LIMITS.failures):
        assert breaker.may_call()
        breaker.failed("down")
    waits = []
    for _ in range(6):
        waits.append(breaker.wait_s())
        assert not breaker.may_call()
        now[0] += breaker.wait_s()
        assert [breaker.may_call(), breaker.may_call()] == [True, False]
        breaker.failed("down")
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    now[0] += 60.0
    assert breaker.may_call()
    breaker.not_tried()
    assert breaker.may_call()
    breaker.succeeded()
    assert breaker.may_call() and breaker.may_call() and breaker.wait_s() == 0.0


def test_failures_that_are_not_in_a_row_do_not_open_it() -> None:
    breaker = SharedBreaker(lambda: 0.0)
    for _ in range(5):
        breaker.failed("down")
        breaker.failed("down")
        breaker.succeeded()
    assert breaker.may_call()


def test_a_call_that_started_before_it_opened_and_fails_afterwards_changes_nothing() -> None:
    breaker = SharedBreaker(lambda: 0.0)
    for _ in range(LIMITS.failures + 3):
        breaker.failed("down")
    assert breaker.wait_s() == 5.0
