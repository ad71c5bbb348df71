"""What every store has to do with what is counted once a minute: keep it, make it coarser, drop it."""

from __future__ import annotations

from engine.core.fleet_count import bucket_of
from engine.core.presence.client_state import OFFLINE
from engine.stores.base import CurvePoint, FleetSample, LatencyCount, ProgressPoint, StatusCounts, Store
from engine.stores.measure_spans import DAY_MS, HOUR_MS, MINUTE_MS, TEN_MINUTES_MS
from tests.stores.backends import Backend
from tests.stores.test_every_store import alert

NOON_MS = 20_000 * DAY_MS
HOSTILE = "'; DROP TABLE fleet_curve; -- <b>"


def sample(at_ms: int, online: int = 10, offline: int = 0, *, flaps: int = 1, group: str = HOSTILE) -> FleetSample:
    counts = StatusCounts(online=online, offline=offline, unknown=2, on_hold=1)
    return FleetSample(at_ms, {"": counts, group: counts}, flaps, 3, [(OFFLINE, bucket_of(30_000), 2)])


def write(store: Store, *samples: FleetSample) -> None:
    with store.transaction():
        for one in samples:
            store.measures.add(one)


def curve(backend: Backend, step_ms: int, group: str = "", to_ms: int = NOON_MS + 30 * DAY_MS) -> list[CurvePoint]:
    with backend.reader() as reader:
        return reader.fleet_curve(group, NOON_MS, to_ms, step_ms, limit=10_000)


def test_the_curve_is_read_back_in_steps_of_the_fleet_and_of_a_group(backend: Backend, store: Store) -> None:
    write(store, sample(NOON_MS, 10, 0), sample(NOON_MS + MINUTE_MS, 4, 6), sample(NOON_MS + HOUR_MS, 10, 0))
    minutes = curve(backend, MINUTE_MS)
    assert [(point.at_ms - NOON_MS, point.online, point.offline) for point in minutes] == [
        (0, 10, 0),
        (MINUTE_MS, 4, 6),
        (HOUR_MS, 10, 0),
    ]
    assert curve(backend, HOUR_MS) == [
        CurvePoint(NOON_MS, 7, 3, 2, 1, peak=6, flaps=2, transitions=6),
        CurvePoint(NOON_MS + HOUR_MS, 10, 0, 2, 1, peak=0, flaps=1, transitions=3),
    ]
    assert [(point.online, point.flaps) for point in curve(backend, HOUR_MS, HOSTILE)] == [(7, 0), (10, 0)]
    assert curve(backend, HOUR_MS, "none") == [] == curve(backend, HOUR_MS, to_ms=NOON_MS)
    with backend.reader() as reader:
        assert reader.curve_groups() == [HOSTILE]
        assert reader.verdict_latency(NOON_MS, NOON_MS + DAY_MS, HOUR_MS, limit=1) == [
            LatencyCount(NOON_MS, OFFLINE, bucket_of(30_000), 4)
        ]


def test_a_minute_that_is_counted_again_replaces_numbers_and_adds_what_happened(backend: Backend, store: Store) -> None:
    write(store, sample(NOON_MS, 10, 5), sample(NOON_MS, 14, 1))
    assert curve(backend, MINUTE_MS) == [CurvePoint(NOON_MS, 14, 1, 2, 1, peak=5, flaps=2, transitions=6)]


def test_what_is_old_becomes_coarser_and_nothing_that_happened_is_lost(backend: Backend, store: Store) -> None:
    write(store, *(sample(NOON_MS + minute * MINUTE_MS, 10, minute % 10) for minute in range(60)))
    write(store, sample(NOON_MS + 3 * DAY_MS))
    with store.transaction():
        store.purge(0, checkpoint=0)
    tens = curve(backend, MINUTE_MS)
    assert [point.at_ms - NOON_MS for point in tens[:-1]] == [TEN_MINUTES_MS * part for part in range(6)]
    assert {(point.online, point.offline, point.peak, point.flaps) for point in tens[:-1]} <= {
        (10, 4, 9, 10),
        (10, 5, 9, 10),
    }
    write(store, sample(NOON_MS + 20 * DAY_MS))
    for _ in range(3):
        with store.transaction():
            store.purge(0, checkpoint=0)
    hour = curve(backend, MINUTE_MS, to_ms=NOON_MS + DAY_MS)
    assert [(point.at_ms, point.peak, point.flaps, point.transitions) for point in hour] == [(NOON_MS, 9, 60, 180)]
    assert sum(point.flaps for point in curve(backend, DAY_MS)) == 62
    with backend.reader() as reader:
        counted = reader.verdict_latency(NOON_MS, NOON_MS + 30 * DAY_MS, DAY_MS, limit=100)
    assert sum(one.verdicts for one in counted) == 2 * 62


def test_what_is_older_than_the_history_is_dropped(backend: Backend, store: Store) -> None:
    write(store, sample(NOON_MS), sample(NOON_MS + HOUR_MS))
    with store.transaction():
        store.measures.add_progress(NOON_MS, [("a", 9, 0)])
        store.measures.add_progress(NOON_MS + HOUR_MS, [("a", 9, 9)])
    with store.transaction():
        # Two rows of the curve, one of the durations, one of the outage.
        assert store.purge(NOON_MS + HOUR_MS, checkpoint=0) == 4
    assert [point.at_ms for point in curve(backend, MINUTE_MS)] == [NOON_MS + HOUR_MS]
    with backend.reader() as reader:
        assert reader.outage_progress("a", limit=9) == [ProgressPoint(NOON_MS + HOUR_MS, 9, 9)]


def test_a_clock_that_is_put_back_by_hours_leaves_nothing_in_the_future(backend: Backend, store: Store) -> None:
    write(store, sample(NOON_MS), sample(NOON_MS + 3 * HOUR_MS))
    with store.transaction():
        store.step_clock(-2 * HOUR_MS, NOON_MS + HOUR_MS)
    assert [point.at_ms for point in curve(backend, MINUTE_MS)] == [NOON_MS]


def test_outages_of_a_time_are_found_with_how_they_went(backend: Backend, store: Store) -> None:
    with store.transaction():
        over = {"trigger": "outage", "client": None, "state": "resolved"}
        store.alerts.write([alert("before", **over, started_at_ms=NOON_MS - 9, resolved_at_ms=NOON_MS)])
        store.alerts.write([alert("across", **over, started_at_ms=NOON_MS - 9, resolved_at_ms=NOON_MS + 1)])
        store.alerts.write([alert("open", trigger="outage", client=None, started_at_ms=NOON_MS + 5)])
        store.alerts.write([alert("another", started_at_ms=NOON_MS + 5)])
        store.measures.add_progress(NOON_MS, [(HOSTILE, 5, 0), ("open", 3, 0)])
        store.measures.add_progress(NOON_MS + 7, [(HOSTILE, 5, 4)])
    with backend.reader() as reader:
        assert [row.id for row in reader.outages(NOON_MS, NOON_MS + HOUR_MS)] == ["open", "across"]
        assert reader.outages(NOON_MS, NOON_MS + HOUR_MS, limit=1)[0].id == "open"
        assert [tuple(point) for point in reader.outage_progress(HOSTILE, limit=9)] == [
            (NOON_MS, 5, 0),
            (NOON_MS + 7, 5, 4),
        ]
