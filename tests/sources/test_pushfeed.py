"""How far silence may be trusted of a feed that nobody can ask: each exception and both sides of its bounds."""

from __future__ import annotations

from typing import Any

from engine.core.events import LifecycleEvent
from engine.sources.push_feed import PushFeed


def made(**more: Any) -> PushFeed:
    return PushFeed(**{"max_lag_ms": 1_000, "grace_ms": 100} | more)


def event(occurred_at_ms: int) -> LifecycleEvent:
    return LifecycleEvent("G@@@d", "connect", occurred_at_ms, "c", "")


def test_a_feed_that_never_was_up_says_nothing() -> None:
    assert made().caught_up_to(5_000, None) is None
    assert not made().is_up


def test_it_is_the_present_once_the_grace_after_the_start_is_over() -> None:
    feed = made()
    feed.begin(5_000)
    assert feed.caught_up_to(5_099, None) is None
    assert feed.caught_up_to(5_100, None) == 5_100


def test_what_waits_for_its_commit_has_not_been_read() -> None:
    feed = made()
    feed.begin(5_000)
    assert feed.caught_up_to(6_000, 5_900) == 5_900
    assert feed.caught_up_to(6_000, 6_100) == 6_000


def test_a_feed_that_went_down_stays_where_it_was_until_the_grace_after_its_reconnect_is_over() -> None:
    feed = made()
    feed.begin(5_000)
    feed.end(6_000, 5_990)
    assert feed.caught_up_to(9_000, None) == 5_990
    feed.begin(9_000)
    assert feed.caught_up_to(9_099, None) == 5_990
    assert feed.caught_up_to(9_100, None) == 9_100


def test_going_down_again_inside_the_grace_proves_nothing_more() -> None:
    feed = made()
    feed.begin(5_000)
    feed.end(5_050, None)
    feed.begin(5_080)
    assert feed.caught_up_to(5_179, None) is None
    assert feed.caught_up_to(5_180, None) == 5_180


def test_old_news_stop_it_for_as_long_as_a_feed_may_lag() -> None:
    feed = made()
    feed.begin(5_000)
    feed.note([event(1_000), event(6_000)], 7_000, None)
    assert not feed.is_late(7_000)
    feed.note([event(1_000), event(5_999)], 7_000, 6_950)
    assert feed.caught_up_to(7_999, None) == 6_950
    assert feed.caught_up_to(8_000, None) == 8_000


def test_more_old_news_keep_it_where_it_was_before_the_first() -> None:
    feed = made()
    feed.begin(5_000)
    feed.note([event(0)], 7_000, None)
    feed.note([event(0)], 7_900, None)
    assert feed.caught_up_to(8_899, None) == 7_000
    assert feed.caught_up_to(8_900, None) == 8_900


def test_a_batch_without_events_is_no_news() -> None:
    feed = made()
    feed.begin(5_000)
    feed.note([], 7_000, None)
    assert feed.caught_up_to(7_000, None) == 7_000
