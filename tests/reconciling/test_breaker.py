"""The breaker of the status query: what opens it, what a probe says, and how the pauses grow."""

from __future__ import annotations

from engine.queries.breaker import FAILURES, FIRST_PAUSE_MS, HOPELESS_PROBES, LASTING, LONGEST_PAUSE_MS, Breaker


def opened(breaker: Breaker, now_ms: int = 0) -> None:
    """Open it by failures in a row."""
    assert [breaker.failed("down", False, now_ms, probe=False) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [
        True
    ]


def test_failures_in_a_row_open_it_and_fewer_do_not() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed("down", False, 0, probe=False)
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed("down", False, 0, probe=False)
    assert not breaker.is_open and breaker.room(7) == 7
    breaker.failed("down", False, 0, probe=False)
    assert breaker.is_open and breaker.problem == "down"


def test_failures_that_last_open_it_sooner_and_one_alone_does_not() -> None:
    breaker = Breaker()
    assert not breaker.failed("no permission", True, 0, probe=False)
    breaker.succeeded()
    opened = [breaker.failed("wrong key", True, 0, probe=False) for _ in range(LASTING)]
    assert opened == [False] * (LASTING - 1) + [True]
    assert (breaker.problem, breaker.lasting) == ("wrong key", True)


def test_it_is_hopeless_when_probes_fail_alike_and_not_before() -> None:
    breaker = Breaker()
    for _ in range(LASTING):
        breaker.failed("wrong key", True, 0, probe=False)
    for _ in range(HOPELESS_PROBES):
        assert not breaker.is_hopeless
        breaker.left()
        breaker.failed("wrong key", True, 0, probe=True)
    assert breaker.is_hopeless
    breaker.left()
    breaker.failed("down", False, 0, probe=True)
    assert not breaker.is_hopeless
    breaker.left()
    breaker.succeeded()
    assert not breaker.is_hopeless


def test_one_probe_leaves_when_the_pause_is_over() -> None:
    breaker = Breaker()
    opened(breaker)
    assert breaker.room(0) == FIRST_PAUSE_MS
    assert breaker.room(FIRST_PAUSE_MS + 5) == FIRST_PAUSE_MS + 5
    breaker.left()
    assert breaker.room(FIRST_PAUSE_MS + 5) is None


def test_a_probe_that_fails_makes_the_pause_longer_and_one_that_succeeds_closes_it() -> None:
    breaker, now_ms, pauses = Breaker(), 0, []
    opened(breaker)
    for _ in range(10):
        pauses.append(breaker.retry_at_ms - now_ms)
        now_ms = breaker.retry_at_ms
        breaker.left()
        assert not breaker.failed("still down", False, now_ms, probe=True)
    assert pauses[:3] == [FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS, 4 * FIRST_PAUSE_MS]
    assert pauses[-1] == LONGEST_PAUSE_MS
    breaker.left()
    assert breaker.succeeded()
    assert (breaker.room(now_ms), breaker.problem, breaker.succeeded()) == (now_ms, None, False)
    opened(breaker, now_ms)
    assert breaker.retry_at_ms - now_ms == FIRST_PAUSE_MS


def test_calls_that_left_before_it_opened_do_not_lengthen_the_pause() -> None:
    breaker = Breaker()
    opened(breaker)
    before = breaker.retry_at_ms
    assert not breaker.failed("down", False, 1_000, probe=False)
    assert breaker.retry_at_ms == before


def test_a_throttled_probe_lets_the_next_one_leave() -> None:
    breaker = Breaker()
    opened(breaker)
    breaker.left()
    breaker.came_back()
    assert breaker.room(FIRST_PAUSE_MS) == FIRST_PAUSE_MS
