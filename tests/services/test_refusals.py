"""When a source most of whose events are refused is degraded, when it is blind, and when it is well again."""

from __future__ import annotations

import pytest

from engine.core.events import Rejection
from engine.runtime.refusals import AT_LEAST, CLEAN, COUNTED_MS, NEWEST, RefusedShares
from engine.sources.acceptance import ahead_of_time

AHEAD = Rejection(1, str(ahead_of_time(300_000)), b"{}")
BROKEN = Rejection(1, "not JSON: oh", b"oh")


def after(*batches: tuple[int, list[Rejection]], every_ms: int = 1_000) -> tuple[RefusedShares, int]:
    refusals, at_ms = RefusedShares(), 0
    for accepted, rejected in batches:
        at_ms += every_ms
        refusals.note("push", accepted, rejected, at_ms)
    return refusals, at_ms


@pytest.mark.parametrize(("one", "why"), [(AHEAD, "clock: "), (BROKEN, "form: ")])
def test_single_events_that_are_all_refused_make_a_source_blind_from_the_first_on(one: Rejection, why: str) -> None:
    refusals, _ = after(*[(0, [one])] * AT_LEAST)
    assert str(refusals.trouble("push")).startswith(why)
    assert refusals.blind == {"push": 1_000}


def test_fewer_say_nothing() -> None:
    refusals, _ = after(*[(0, [AHEAD])] * (AT_LEAST - 1))
    assert (refusals.trouble("push"), refusals.blind) == (None, {})


def test_one_batch_tells_as_much_as_many() -> None:
    assert after((0, [BROKEN] * 50))[0].blind == {"push": 1_000}


def test_a_few_bad_events_among_many_good_ones_are_no_trouble() -> None:
    refusals, _ = after((40, [BROKEN] * 40), (50, []))
    assert refusals.trouble("push") is None


def test_garbage_beside_good_events_degrades_and_does_not_blind() -> None:
    refusals, _ = after(*[(1, [BROKEN, BROKEN])] * 10)
    assert str(refusals.trouble("push")).startswith("form: 20 of the last 30 events")
    assert refusals.blind == {}


def test_a_clock_that_is_right_again_is_believed_after_a_few_events() -> None:
    refusals, at_ms = after(*[(0, [AHEAD])] * 80)
    refusals.note("push", CLEAN, [], at_ms + 1)
    assert refusals.blind == {}
    refusals.note("push", 3 * NEWEST, [], at_ms + 2)
    refusals.note("push", NEWEST, [], at_ms + 3)
    assert refusals.trouble("push") is None


def test_what_is_long_ago_counts_no_more() -> None:
    refusals, at_ms = after(*[(0, [AHEAD])] * 5)
    refusals.look(at_ms + COUNTED_MS)
    assert (refusals.trouble("push"), refusals.blind) == (None, {})


def test_a_flood_takes_no_more_memory_than_its_newest_events() -> None:
    refusals, _ = after(*[(0, [BROKEN])] * 5_000, every_ms=1)
    assert len(refusals._intakes["push"].recent) <= NEWEST + 1
