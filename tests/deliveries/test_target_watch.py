"""Which targets get nothing, by the outcomes that the dispatcher records."""

from __future__ import annotations

from engine.core.delivery import Delivered, Outcome, Rejected, RetryLater
from engine.delivery.target_watch import TargetTrouble, TargetWatch


def outcome(answer: Delivered | Rejected | RetryLater, at_ms: int) -> Outcome:
    """One attempt that ended at an instant."""
    return Outcome(id=1, answer=answer, attempted_at_ms=at_ms)


def test_a_target_is_in_trouble_from_its_first_failure_until_a_delivery_succeeds() -> None:
    watch = TargetWatch()
    watch.note("a", outcome(RetryLater(reason="HTTP 503"), 10))
    watch.note("a", outcome(RetryLater(reason="HTTP 500"), 20))
    watch.note("b", outcome(Delivered(), 20))
    assert watch.troubles() == {"a": TargetTrouble(detail="deliveries fail: HTTP 500", since_ms=10)}
    watch.note("a", outcome(Delivered(), 30))
    assert watch.troubles() == {} and watch.take_ended() == {"a"} and watch.take_ended() == set()


def test_a_dead_delivery_is_remembered_whatever_fails_after_it_and_a_rejection_alone_is_none() -> None:
    watch = TargetWatch()
    watch.note("a", outcome(Rejected(reason="HTTP 400"), 10))  # the outbox says whether it is dead
    assert watch.troubles() == {}
    watch.died("a", "HTTP 400", 11)
    watch.note("a", outcome(RetryLater(reason="HTTP 503"), 12))
    assert watch.troubles() == {"a": TargetTrouble(detail="a delivery is dead: HTTP 400", since_ms=11, is_dead=True)}


def test_trouble_that_returns_before_its_end_was_noted_has_not_ended() -> None:
    watch = TargetWatch()
    watch.recall("a", TargetTrouble(detail="no", since_ms=1))
    watch.note("a", outcome(Delivered(), 10))
    watch.note("a", outcome(RetryLater(reason="HTTP 503"), 20))
    assert watch.take_ended() == set() and watch.troubles()["a"].since_ms == 20
