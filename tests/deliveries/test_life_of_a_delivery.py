"""A delivery's life, as tables and as a machine that Hypothesis drives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.core import delivery
from engine.core.delivery import (
    DEAD,
    DELIVERED,
    DISCARDED,
    DUE,
    HELD,
    SHADOW,
    STATES,
    Delivered,
    DeliveryPolicy,
    IllegalTransition,
    Rejected,
    RetryLater,
    Standing,
)

ACTS = (delivery.RELEASE, delivery.DISCARD, delivery.RETRY)
DAY_MS = 24 * 3_600_000


def standing(state: str = DUE, attempts: int = 0, arrived: bool = False) -> Standing:
    return Standing(state=state, attempts=attempts, due_at_ms=0, decided_at_ms=0, may_have_arrived=arrived)


def test_what_the_target_took_is_delivered() -> None:
    after = delivery.next_state(standing(), Delivered(), 7, 0.5)
    assert (after.state, after.attempts, after.last_error) == (DELIVERED, 1, None)


def test_what_the_target_refused_is_dead_with_its_reason() -> None:
    after = delivery.next_state(standing(), Rejected(reason="HTTP 404"), 7, 0.5)
    assert (after.state, after.attempts, after.last_error) == (DEAD, 1, "HTTP 404")


def test_the_first_retry_comes_after_about_a_second_and_later_ones_double() -> None:
    assert [delivery.backoff_ms(n, 1.0) for n in (1, 2, 3, 4)] == [1_000, 2_000, 4_000, 8_000]
    assert delivery.backoff_ms(1, 0.0) == 500


def test_no_wait_is_longer_than_a_quarter_of_an_hour() -> None:
    assert delivery.backoff_ms(1_000_000, 1.0) == 15 * 60_000


@pytest.mark.parametrize("jitter", [-0.01, 1.01])
def test_a_jitter_outside_zero_to_one_is_a_mistake(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        delivery.backoff_ms(1, jitter)


def test_a_target_that_asks_for_a_longer_wait_gets_it_up_to_an_hour() -> None:
    minute = delivery.next_state(standing(), RetryLater(reason="busy", retry_after_ms=60_000), 0, 1.0)
    forever = delivery.next_state(standing(), RetryLater(reason="busy", retry_after_ms=10**9), 0, 1.0)
    assert (minute.due_at_ms, forever.due_at_ms) == (60_000, 3_600_000)


def test_a_retry_at_the_deadline_is_made_and_one_past_it_is_not() -> None:
    last = delivery.next_state(standing(), RetryLater(reason="down"), DAY_MS - 1_000, 1.0)
    late = delivery.next_state(standing(), RetryLater(reason="down"), DAY_MS - 999, 1.0)
    assert (last.state, last.due_at_ms) == (DUE, DAY_MS)
    assert (late.state, late.last_error) == (DEAD, "given up after 1 attempts: down")


def test_what_was_never_tried_before_its_deadline_is_dead_then_and_not_before() -> None:
    assert delivery.expired(standing(), DAY_MS - 1) is None
    dead = delivery.expired(standing(), DAY_MS)
    assert dead is not None and (dead.state, dead.attempts) == (DEAD, 0)


def test_a_dead_firing_takes_its_recovery_along_unless_it_may_have_arrived() -> None:
    refused = delivery.next_state(standing(), Rejected(reason="no"), 0, 0.5)
    timed_out = delivery.next_state(standing(), RetryLater(reason="slow", may_have_arrived=True), 0, 0.5)
    then_refused = delivery.next_state(timed_out, Rejected(reason="no"), 0, 0.5)
    assert delivery.takes_recovery_along(refused)
    assert not delivery.takes_recovery_along(then_refused)
    assert not delivery.takes_recovery_along(standing(DELIVERED))


@pytest.mark.parametrize("state", sorted(set(STATES) - {DUE}))
def test_an_answer_for_what_is_not_due_raises(state: str) -> None:
    with pytest.raises(IllegalTransition, match=state):
        delivery.next_state(standing(state), Delivered(), 0, 0.5)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("what", ACTS)
def test_an_act_that_the_table_does_not_name_raises_and_others_end_where_it_says(state: str, what: str) -> None:
    wanted = delivery.TABLE.get((state, what))
    if wanted is None:
        with pytest.raises(IllegalTransition):
            delivery.act(standing(state), what, 5)
    else:
        assert delivery.act(standing(state), what, 5).state == wanted


def test_after_a_retry_by_an_operator_age_and_pauses_begin_anew_and_the_attempts_stay_counted() -> None:
    after = delivery.act(standing(DEAD, attempts=9, arrived=True), delivery.RETRY, DAY_MS * 3)
    assert (after.attempts, after.decided_at_ms, after.may_have_arrived) == (9, DAY_MS * 3, True)
    again = delivery.next_state(after, RetryLater(reason="down"), DAY_MS * 3, 1.0)
    assert (again.state, again.attempts, again.due_at_ms - DAY_MS * 3) == (DUE, 10, delivery.FIRST_RETRY_MS)
    assert delivery.expired(after, DAY_MS * 3) is None


@given(st.integers(0, 80), st.floats(0, 1))
def test_waits_lie_between_half_and_all_of_their_step(attempts: int, jitter: float) -> None:
    least, most = delivery.backoff_ms(attempts, 0.0), delivery.backoff_ms(attempts, 1.0)
    assert least <= delivery.backoff_ms(attempts, jitter) <= most <= 2 * least <= 2 * delivery.LONGEST_RETRY_MS


ANSWERS = st.one_of(
    st.just(Delivered()),
    st.builds(Rejected, reason=st.text(max_size=900)),
    st.builds(
        RetryLater,
        reason=st.text(max_size=900),
        retry_after_ms=st.none() | st.integers(0, 10**8),
        may_have_arrived=st.booleans(),
    ),
)


class Life(RuleBasedStateMachine):
    """Any answers, acts and passing of time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.row = standing(HELD)
        self.now_ms = 0
        self.arrived = False
        self.policy = DeliveryPolicy(max_age_ms=3_600_000)

    @rule(by_ms=st.integers(0, 4_000_000))
    def time_passes(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.row = delivery.expired(self.row, self.now_ms, self.policy) or self.row

    @rule(answer=ANSWERS, jitter=st.floats(0, 1))
    def an_attempt_ends(self, answer: Delivered | Rejected | RetryLater, jitter: float) -> None:
        before = self.row
        if before.state != DUE:
            with pytest.raises(IllegalTransition):
                delivery.next_state(before, answer, self.now_ms, jitter, self.policy)
            return
        self.row = delivery.next_state(before, answer, self.now_ms, jitter, self.policy)
        self.arrived = self.arrived or (isinstance(answer, RetryLater) and answer.may_have_arrived)
        assert self.row.attempts == before.attempts + 1
        assert self.row.due_at_ms >= self.now_ms

    @rule(what=st.sampled_from(ACTS))
    def an_operator_acts(self, what: str) -> None:
        before = self.row
        if (before.state, what) in delivery.TABLE:
            self.row = delivery.act(before, what, self.now_ms)
            return
        with pytest.raises(IllegalTransition):
            delivery.act(before, what, self.now_ms)
        assert self.row == before

    @invariant()
    def a_due_one_lies_before_its_deadline(self) -> None:
        if self.row.state == DUE:
            assert self.row.due_at_ms <= self.row.decided_at_ms + self.policy.max_age_ms

    @invariant()
    def that_it_may_have_arrived_is_never_forgotten(self) -> None:
        assert self.row.may_have_arrived == self.arrived

    @invariant()
    def its_error_stays_short_and_its_state_known(self) -> None:
        assert len(self.row.last_error or "") <= delivery.MAX_ERROR_CHARS
        assert self.row.state in {HELD, DUE, DELIVERED, DEAD, DISCARDED} and self.row.state != SHADOW


TestLife = Life.TestCase


def test_a_request_with_a_life_of_its_own_is_dead_when_that_is_over() -> None:
    command = Standing(state=DUE, attempts=0, due_at_ms=0, decided_at_ms=0, life_ms=30_000)
    assert delivery.expired(command, 29_999) is None
    dead = delivery.expired(command, 30_000)
    assert dead is not None and (dead.state, dead.last_error) == (DEAD, "too old to be sent")
    last = delivery.next_state(command, RetryLater(reason="down"), 29_000, 1.0)
    late = delivery.next_state(command, RetryLater(reason="down"), 29_001, 1.0)
    assert (last.state, last.due_at_ms) == (DUE, 30_000)
    assert (late.state, late.last_error) == (DEAD, "given up after 1 attempts: down")


def test_a_short_life_is_used_for_trying_and_never_lengthens_the_policys() -> None:
    command = Standing(state=DUE, attempts=9, due_at_ms=0, decided_at_ms=0, life_ms=8_000)
    assert delivery.next_state(command, RetryLater(reason="down"), 0, 1.0).due_at_ms == 1_000
    assert delivery.deadline_ms(5, DeliveryPolicy(max_age_ms=10), 100) == 15
    assert delivery.deadline_ms(5, DeliveryPolicy(max_age_ms=100), 10) == 15


def test_an_operators_retry_gives_a_dead_command_a_new_life() -> None:
    dead = Standing(state=DEAD, attempts=3, due_at_ms=0, decided_at_ms=0, life_ms=30_000)
    again = delivery.act(dead, delivery.RETRY, 100_000)
    assert (again.state, again.decided_at_ms, again.life_ms) == (DUE, 100_000, 30_000)
