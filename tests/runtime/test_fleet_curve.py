"""The writer counts the fleet once a minute, and follows its outages, whatever else happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.core.rules import OutageTerms
from engine.errors import StoreError
from engine.runtime import fleet_curve
from engine.stores.base import CurvePoint
from engine.testing import START_MS, WriterBench, event, rule

MINUTE_MS = 60_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WriterBench]:
    found = WriterBench(tmp_path, rule("site", "outage", recovery=True, outage=OutageTerms(at_least=3)))
    yield found
    found.close()


def curve(bench: WriterBench, group: str = "") -> list[CurvePoint]:
    with bench.store.reading() as reader:
        return reader.fleet_curve(group, 0, START_MS + 1_000 * MINUTE_MS, MINUTE_MS, limit=1_000)


def tell(bench: WriterBench, kind: str, channel: str, *numbers: int) -> None:
    bench.offer(*(event(f"G@@@p{number}", kind, channel, bench.clock.now_ms()) for number in numbers))
    bench.turn()


def pass_minutes(bench: WriterBench, minutes: int = 1) -> None:
    for _ in range(minutes * 12):
        bench.clock.advance(MINUTE_MS // 12)
        bench.turn(2)


def test_each_minute_is_a_point_with_what_happened_since_the_one_before(bench: WriterBench) -> None:
    tell(bench, "connect", "A", 0, 1, 2, 3)
    pass_minutes(bench)
    tell(bench, "tcpclean", "A", 0)  # and back within its hold
    bench.clock.advance(5_000)
    tell(bench, "connect", "B", 0)
    tell(bench, "tcpclean", "A", 1)
    pass_minutes(bench)
    found = curve(bench)
    assert [(point.at_ms - START_MS) // MINUTE_MS for point in found] == [0, 1, 2]
    assert [(point.online, point.offline, point.flaps, point.transitions) for point in found[1:]] == [
        (4, 0, 0, 4),
        (3, 1, 1, 1),
    ]
    assert [point.online for point in curve(bench, "G")] == [4, 3], "the fleet was empty at first, and had no group"
    with bench.store.reading() as reader:
        counted = reader.verdict_latency(0, START_MS + 1_000 * MINUTE_MS, 10 * MINUTE_MS, limit=10)
    assert sum(one.verdicts for one in counted) == 5


def test_those_on_hold_are_counted_while_their_hold_lasts(bench: WriterBench) -> None:
    tell(bench, "connect", "A", 0, 1)
    bench.clock.advance(50_000)
    tell(bench, "tcpclean", "A", 1)
    bench.clock.advance(10_000)
    bench.turn(2)
    assert [(point.online, point.on_hold) for point in curve(bench)][-1] == (2, 1)


def test_a_large_fleet_is_counted_in_slices_and_as_of_one_instant(
    bench: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_curve, "COUNTED_AT_ONCE", 2)
    tell(bench, "connect", "A", *range(7))
    bench.turn(9)
    bench.clock.advance(MINUTE_MS)
    bench.turn()
    tell(bench, "connect", "A", 7, 8, 9)  # while the count is under way
    bench.turn(9)
    assert [point.online for point in curve(bench)][-1] == 7
    bench.clock.advance(MINUTE_MS)
    bench.turn(9)
    assert [point.online for point in curve(bench)][-1] == 10


def test_a_count_whose_transaction_failed_is_written_with_the_next(
    bench: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(bench, "connect", "A", 0)
    bench.turn(2)

    def full_disk(sample: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store.measures, "add", full_disk)
        patch.setattr("engine.runtime.writer.RETRY_AFTER_S", 0.0)
        bench.clock.advance(MINUTE_MS)
        bench.turn(3)
        assert bench.writer.failure is not None
    bench.turn(2)
    assert bench.writer.failure is None
    assert [(point.at_ms - START_MS) // MINUTE_MS for point in curve(bench)] == [0, 1]


def test_an_outage_is_followed_until_all_are_back(bench: WriterBench) -> None:
    tell(bench, "connect", "A", *range(6))
    tell(bench, "tcpclean", "A", *range(5))
    pass_minutes(bench)
    tell(bench, "connect", "B", 0)
    pass_minutes(bench)
    tell(bench, "connect", "B", 1)
    pass_minutes(bench)
    tell(bench, "connect", "B", 2, 3, 4)  # which ends it
    pass_minutes(bench)
    with bench.store.reading() as reader:
        (outage,) = reader.outages(0, START_MS + 100 * MINUTE_MS)
        points = reader.outage_progress(outage.id, limit=100)
    assert [(point.joined, point.back) for point in points] == [(5, 0), (5, 1), (5, 2), (5, 5)]
    assert outage.state == "resolved" and points == sorted(points)


def test_an_outage_that_changes_all_the_time_is_told_once_a_minute_in_the_end(
    bench: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_curve, "EAGER_POINTS", 3)
    tell(bench, "connect", "A", *range(40))
    tell(bench, "tcpclean", "A", *range(39))
    pass_minutes(bench)
    for number in range(36):
        tell(bench, "connect", "B", number)
        bench.clock.advance(5_000)
        bench.turn(2)
    with bench.store.reading() as reader:
        (outage,) = reader.outages(0, START_MS + 100 * MINUTE_MS)
        points = reader.outage_progress(outage.id, limit=100)
    assert 4 <= len(points) <= 7, points
