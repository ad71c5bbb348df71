"""The circuit breaker: what opens it, what a probe says, and how the pauses grow."""

from __future__ import annotations

from engine.core.breaker import Breaker, BreakerLimits

LIMITS = BreakerLimits(failures=5, lasting_failures=3, first_pause_ms=2_000, longest_pause_ms=120_000)


def opened(now_ms: int = 0) -> Breaker:
    """A breaker that failures in a row have opened."""
    breaker = Breaker(LIMITS)
    fail_until_open(breaker, now_ms)
    return breaker


def fail_until_open(breaker: Breaker, now_ms: int) -> None:
    results = [breaker.failed("down", now_ms, probe=False) for _ in range(LIMITS.failures)]
    assert results == [False] * (LIMITS.failures - 1) + [True]


def test_failures_in_a_row_open_it_and_fewer_do_not() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(LIMITS.failures - 1):
        breaker.failed("down", 0, probe=False)
    breaker.succeeded()
    for _ in range(LIMITS.failures - 1):
        breaker.failed("down", 0, probe=False)
    assert not breaker.is_open and breaker.next_call_ms(7) == 7
    breaker.failed("down", 0, probe=False)
    assert breaker.is_open and breaker.problem == "down"


def test_lasting_failures_open_it_sooner_and_one_alone_does_not() -> None:
    breaker = Breaker(LIMITS)
    assert not breaker.failed("no permission", 0, lasting=True, probe=False)
    breaker.succeeded()
    results = [breaker.failed("wrong key", 0, lasting=True, probe=False) for _ in range(LIMITS.lasting_failures)]
    assert results == [False] * (LIMITS.lasting_failures - 1) + [True]
    assert (breaker.problem, breaker.is_lasting) == ("wrong key", True)


def test_it_is_hopeless_when_probes_fail_for_a_lasting_reason_and_not_before() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(LIMITS.lasting_failures):
        breaker.failed("wrong key", 0, lasting=True, probe=False)
    for _ in range(LIMITS.hopeless_probes):
        assert not breaker.is_hopeless
        assert breaker.call_started()
        breaker.failed("wrong key", 0, lasting=True, probe=True)
    assert breaker.is_hopeless
    breaker.call_started()
    breaker.failed("down", 0, probe=True)
    assert not breaker.is_hopeless
    breaker.call_started()
    breaker.succeeded()
    assert not breaker.is_hopeless


def test_one_probe_starts_when_the_pause_is_over() -> None:
    breaker = opened()
    assert breaker.next_call_ms(0) == LIMITS.first_pause_ms
    assert breaker.next_call_ms(LIMITS.first_pause_ms + 5) == LIMITS.first_pause_ms + 5
    assert breaker.call_started()
    assert breaker.next_call_ms(LIMITS.first_pause_ms + 5) is None


def test_a_probe_that_fails_makes_the_pause_longer_and_one_that_succeeds_closes_it() -> None:
    breaker, now_ms, pauses = opened(), 0, []
    for _ in range(10):
        pauses.append(breaker.retry_at_ms - now_ms)
        now_ms = breaker.retry_at_ms
        breaker.call_started()
        assert not breaker.failed("still down", now_ms, probe=True)
    first_ms = LIMITS.first_pause_ms
    assert pauses[:3] == [first_ms, 2 * first_ms, 4 * first_ms]
    assert pauses[-1] == LIMITS.longest_pause_ms
    breaker.call_started()
    assert breaker.succeeded()
    assert (breaker.next_call_ms(now_ms), breaker.problem, breaker.succeeded()) == (now_ms, None, False)
    fail_until_open(breaker, now_ms)
    assert breaker.retry_at_ms - now_ms == first_ms


def test_calls_that_started_before_it_opened_do_not_lengthen_the_pause() -> None:
    breaker = opened()
    before = breaker.retry_at_ms
    assert not breaker.failed("down", 1_000, probe=False)
    assert breaker.retry_at_ms == before


def test_a_probe_that_says_nothing_lets_the_next_one_start() -> None:
    breaker = opened()
    breaker.call_started()
    breaker.not_tried()
    assert breaker.next_call_ms(LIMITS.first_pause_ms) == LIMITS.first_pause_ms
