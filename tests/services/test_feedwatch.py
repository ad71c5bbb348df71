"""When a feed is in trouble, when it is well again, and what a restart does not prove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.config.loader import load_config
from engine.runtime.feed_watch import GAP_SHOWN_MS, FeedWatch
from engine.runtime.source_runner import SourceRunner
from engine.sources.base import Gap, SourceHealth
from engine.testing import FakeClock
from tests.core.worlds import World

START = 1_767_225_600_000
MAX_LAG, MAX_SILENCE = 60_000, 600_000


def health(**more: Any) -> SourceHealth:
    told: dict[str, Any] = {"connected": True, "detail": "reading", "caught_up_to_ms": None, "last_event_at_ms": None}
    return SourceHealth(**({"name": "s", "type": "file"} | told | more))


def watching(**more: Any) -> FeedWatch:
    return FeedWatch(**({"max_lag_ms": MAX_LAG, "max_silence_ms": None, "started_at_ms": START} | more))


def gap(noted_at_ms: int, reason: str = "truncated") -> Gap:
    return Gap(source="s", noted_at_ms=noted_at_ms, from_ms=None, to_ms=noted_at_ms, reason=reason)


def seen(watch: FeedWatch, found: SourceHealth, passed_ms: int) -> list[str | None]:
    """What is told of the source at an instant, and noted."""
    changes = watch.changes([found], START + passed_ms)
    watch.note(changes)
    return [trouble for _, trouble in changes]


def test_a_source_that_keeps_up_says_nothing() -> None:
    watch = watching()
    assert seen(watch, health(caught_up_to_ms=START + 1_000), 1_000 + MAX_LAG) == []


def test_a_disconnected_source_is_told_once_with_its_reason_and_once_when_it_is_back() -> None:
    watch = watching()
    down = health(connected=False, detail="broker:5672 refuses the login")
    assert seen(watch, down, 0) == ["disconnected: broker:5672 refuses the login"]
    assert seen(watch, down, 1_000) == []
    assert watch.trouble == {"s": "disconnected: broker:5672 refuses the login"}
    assert seen(watch, health(caught_up_to_ms=START), 2_000) == [None]
    assert watch.trouble == {}


def test_a_start_that_takes_its_time_to_connect_is_no_alert_until_it_fails_or_lasts_too_long() -> None:
    connecting = health(connected=False, detail="connecting", is_connecting=True)
    watch = watching()
    assert seen(watch, connecting, 500) == []
    assert seen(watch, health(connected=False, detail="broker:5672 refuses the login"), 1_000) == [
        "disconnected: broker:5672 refuses the login"
    ]
    assert seen(watch, connecting, 1_500) == [], "a source that begins anew is not well yet"
    lasting = watching()
    assert seen(lasting, connecting, MAX_LAG) == []
    assert seen(lasting, connecting, MAX_LAG + 1) == ["disconnected: connecting"]


def test_a_source_that_is_not_caught_up_for_longer_than_it_may_lag_is_degraded() -> None:
    watch = watching()
    assert seen(watch, health(caught_up_to_ms=START + 5_000), 5_000 + MAX_LAG) == []
    (trouble,) = seen(watch, health(caught_up_to_ms=START + 5_000), 5_001 + MAX_LAG)
    assert trouble == "degraded: not caught up for 1m; reading"


def test_a_source_that_never_caught_up_has_as_long_from_the_start() -> None:
    watch = watching()
    assert seen(watch, health(), MAX_LAG) == []
    assert seen(watch, health(), MAX_LAG + 1) == ["degraded: not caught up for 1m; reading"]


def test_a_replica_that_stood_by_for_long_has_read_no_source_for_less_long(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("version: 1\nrules: []\n")
    (tmp_path / "config.yaml").write_text(
        "version: 1\nfeed: {max_silence: 10m}\nsources: [{name: s, type: http}]\nrules: [rules.yaml]\n"
    )
    config, clock = load_config(tmp_path / "config.yaml"), FakeClock()
    runner = SourceRunner(config, clock, World().fleet)
    clock.advance(7_200_000)
    runner.recall([])  # the cell is taken
    assert runner.watch.changes([health()], clock.now_ms()) == []
    clock.advance(config.feed.max_lag_ms + 1)
    ((_, trouble),) = runner.watch.changes([health()], clock.now_ms())
    assert trouble == "degraded: not caught up for 1m; reading"


def test_no_event_for_too_long_is_silence_and_one_event_ends_it() -> None:
    watch = watching(max_silence_ms=MAX_SILENCE)
    at = START + MAX_SILENCE
    assert seen(watch, health(caught_up_to_ms=at), MAX_SILENCE) == []
    assert seen(watch, health(caught_up_to_ms=at + 1), MAX_SILENCE + 1) == ["silent: no event for 10m"]
    assert seen(watch, health(caught_up_to_ms=at + 2, last_event_at_ms=at + 2), MAX_SILENCE + 2) == [None]


def test_without_a_limit_silence_is_no_trouble() -> None:
    assert seen(watching(), health(caught_up_to_ms=START + 10**9), 10**9) == []


def test_a_gap_is_trouble_for_a_while_and_counted_once_however_often_it_is_offered() -> None:
    watch = watching()
    watch.note_gap(gap(START))
    watch.note_gap(gap(START))
    assert watch.gaps_found == {"s": 1}
    well = health(caught_up_to_ms=START + GAP_SHOWN_MS)
    assert seen(watch, well, GAP_SHOWN_MS - 1) == ["gap: truncated"]
    assert seen(watch, well, GAP_SHOWN_MS) == [None]
    watch.note_gap(gap(START + 1))
    assert watch.gaps_found == {"s": 2}


def test_a_restart_alone_does_not_make_a_source_well() -> None:
    watch = watching()
    watch.recall({"s": "disconnected: gone"})
    assert seen(watch, health(), 0) == []
    assert seen(watch, health(caught_up_to_ms=START - 1), 1_000) == []
    assert seen(watch, health(caught_up_to_ms=START), 2_000) == [None]
    assert seen(watch, health(), 3_000) == []


def test_after_a_restart_only_an_event_ends_a_silence() -> None:
    watch = watching(max_silence_ms=MAX_SILENCE)
    watch.recall({"s": "silent: no event for 1h"})
    assert seen(watch, health(caught_up_to_ms=START + 1_000), 1_000) == []
    assert seen(watch, health(caught_up_to_ms=START + 2_000, last_event_at_ms=START + 2_000), 2_000) == [None]


def test_a_silence_whose_limit_was_taken_away_ends_with_the_restart() -> None:
    watch = watching()
    watch.recall({"s": "silent: no event for 1h"})
    assert seen(watch, health(), 0) == [None]


def test_the_trouble_of_a_source_that_is_configured_no_more_ends() -> None:
    watch = watching()
    watch.recall({"old": "disconnected: gone"})
    changes = watch.changes([], START)
    assert changes == [("old", None)]


def test_a_gap_is_still_shown_after_a_restart_and_not_counted_again() -> None:
    watch = watching()
    watch.recall({"s": "gap: truncated"}, [gap(START - 1_000), gap(START - 900_000, "older")])
    well = health(caught_up_to_ms=START + GAP_SHOWN_MS)
    assert seen(watch, well, GAP_SHOWN_MS - 1_001) == []
    assert watch.gaps_found == {}
    assert seen(watch, well, GAP_SHOWN_MS - 1_000) == [None]


def test_verdicts_wait_for_a_source_that_is_away_or_behind_but_not_for_a_silent_one() -> None:
    watch = watching(max_silence_ms=1)
    assert watch.not_flowing(health(connected=False, detail="gone"), START) == "gone"
    assert watch.not_flowing(health(), START + MAX_LAG + 1) == "not caught up for 1m; reading"
    assert watch.not_flowing(health(caught_up_to_ms=START + 10**7), START + 10**7) is None
