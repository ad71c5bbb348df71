"""The drawings about the fleet: what is where, gaps where nothing was counted, bounded size, names of others stay text."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from engine.core.times import rfc3339
from engine.testing import START_MS
from engine.web.drawings.flap_map import LEVELS, flap_map, level_bounds
from engine.web.drawings.fleet_curve import Point, fleet_curve, reduced, unbroken
from engine.web.drawings.outage_recovery import outage_recovery
from engine.web.drawings.svg import UNITS
from engine.web.drawings.verdict_latency import verdict_latency

MINUTE = 60_000
HOUR = 60 * MINUTE
HOSTILE = "</svg><script>'\"&"


def at(minutes: float) -> str:
    return rfc3339(START_MS + round(minutes * MINUTE))


def item(minutes: float, online: int = 90, offline: int = 10, **more: int) -> dict[str, Any]:
    found = {"at": at(minutes), "online": online, "offline": offline, "unknown": 0, "on_hold": 0}
    return found | {"offline_peak": offline, "flaps": 0, "transitions": 0} | more


def outage(started: float, resolved: float | None) -> dict[str, Any]:
    over = None if resolved is None else at(resolved)
    return {"id": "o1", "rule": HOSTILE, "key": {"site": HOSTILE}, "started_at": at(started), "resolved_at": over}


def curve(items: list[dict[str, Any]], minutes: float = 100, **more: Any) -> dict[str, Any]:
    found = {"from": at(0), "to": at(minutes), "step": 60, "group": None, "groups": [], "items": items, "outages": []}
    return found | more


def tree_of(drawing: Markup) -> Element:
    """The drawing as a tree; well-formed, without a script."""
    tree = ElementTree.fromstring(str(drawing))
    assert "script" not in {one.tag for one in tree.iter()}
    return tree


def of_class(tree: Element, *kinds: str) -> list[Element]:
    return [one for one in tree.iter() if set(kinds) <= set(one.get("class", "").split())]


def points_of(path: Element) -> list[tuple[float, float]]:
    """The points of a line, across and up, in parts of its plot."""
    pairs = [pair.split() for pair in str(path.get("d")).strip("MZ").split("L")]
    return [(float(x) / UNITS, 1 - float(y) / UNITS) for x, y in pairs]


def text(tree: Element) -> str:
    return " ".join(" ".join(one.itertext()) for one in tree.iter("text"))


def test_the_curve_goes_through_what_was_counted() -> None:
    tree = tree_of(fleet_curve(curve([item(0, 90, 0), item(50, 50, 40), item(99, 70, 20)], step=3_000)))
    (line,) = of_class(tree, "d-curve", "d-is-offline")
    assert points_of(line) == [pytest.approx((0, 0)), pytest.approx((0.5, 1)), pytest.approx((0.99, 0.5))]
    (online,) = of_class(tree, "d-curve", "d-is-online")
    heights = [y for _, y in points_of(online)]
    assert heights[0] > heights[2] > heights[1], "from the least to the most, not from zero"
    assert "from 50 to 90" in text(tree) and "at most 40" in text(tree)


def test_the_peak_within_a_step_is_drawn_and_not_only_the_mean() -> None:
    tree = tree_of(fleet_curve(curve([item(0), item(1, offline_peak=50), item(2)])))
    (area,) = of_class(tree, "d-area", "d-is-offline")
    assert max(y for _, y in points_of(area)) == pytest.approx(1)
    (line,) = of_class(tree, "d-curve", "d-is-offline")
    assert max(y for _, y in points_of(line)) == pytest.approx(0.2)


def test_where_nothing_was_counted_there_is_a_gap() -> None:
    items = [item(minute) for minute in range(30)] + [item(minute) for minute in range(60, 100)]
    assert len(of_class(tree_of(fleet_curve(curve(items))), "d-curve", "d-is-online")) == 2
    assert len(of_class(tree_of(fleet_curve(curve([item(m) for m in range(100)]))), "d-curve", "d-is-online")) == 1
    assert "nothing was counted" in text(tree_of(fleet_curve(curve([]))))


def test_outages_are_shaded_lead_to_their_alert_and_say_how_long_they_lasted() -> None:
    found = curve([item(0), item(99)], outages=[outage(20, 60), outage(90, None)])
    tree = tree_of(
        fleet_curve(found, alert=lambda id_: f"alert/{id_}", zoom=lambda start, end: f"?from={start}&to={end}")
    )
    bands = [(one.get("x"), one.get("width")) for one in of_class(tree, "d-outage")]
    assert bands == [("20.00%", "40.00%"), ("90.00%", "10.00%")]
    said = [one.text or "" for one in tree.iter("title")]
    assert any("lasted 40m" in words and HOSTILE in words for words in said) and any(
        "goes on" in words for words in said
    )
    targets = {one.get("href") for one in tree.iter("a")}
    assert {"alert/o1", f"?from={START_MS}&to={START_MS + 10 * MINUTE}"} <= targets


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=300), st.integers(1, 50))
def test_fewer_points_keep_the_peak_and_the_mean(values: list[tuple[int, int]], most: int) -> None:
    points = [Point(n * MINUTE, float(a), float(b), 0.0, float(max(a, b)), 0.0) for n, (a, b) in enumerate(values)]
    found = reduced(points, most)
    assert len(found) <= most
    assert max((one.peak for one in found), default=0) == max((one.peak for one in points), default=0)
    if found:
        assert found[0].at_ms == 0 and min(one.online for one in points) <= found[0].online <= 9
        assert sum(len(run) for run in unbroken(found, most * MINUTE * 300)) == len(found)


def test_an_outage_is_drawn_in_steps_with_how_many_are_back() -> None:
    items = [
        {"at": at(10), "total": 300, "back": 0},
        {"at": at(20), "total": 400, "back": 100},
        {"at": at(30), "total": 418, "back": 412},
    ]
    found = {"alert": outage(10, 50), "to": at(50), "items": items}
    tree = tree_of(outage_recovery(found))
    (back,) = of_class(tree, "d-curve", "d-is-online")
    assert points_of(back)[-1] == pytest.approx((1, 412 / 418), abs=0.001)
    assert points_of(back)[1] == pytest.approx((0.25, 0))
    assert points_of(back)[2] == pytest.approx((0.25, 100 / 418), abs=0.001)
    assert "412 of 418 back , over after 40m" in text(tree)
    assert "Half were back after 20m" in "".join(one.text or "" for one in tree.iter("desc"))


def test_a_week_is_a_row_a_day_and_a_column_an_hour() -> None:
    week = [item(60 * hour, flaps=hour if hour != 30 else 5_000) for hour in range(7 * 24) if hour != 50]
    tree = tree_of(flap_map(curve(week, minutes=7 * 24 * 60), zoom=lambda start, end: f"?from={start}&to={end}"))
    cells = of_class(tree, "d-cell")
    assert len(cells) == 7 * 24 and len(of_class(tree, "d-cell", "d-empty")) == 1
    (worst,) = of_class(tree, "d-cell", f"d-heat-{LEVELS}")
    assert (worst.get("x"), worst.get("y")) == (cells[30].get("x"), cells[30].get("y"))
    said = [one.text or "" for one in tree.iter("title")]
    assert "Fri 2 Jan 06:00 UTC: 5,000 flaps" in said
    start = START_MS + 30 * HOUR
    assert f"?from={start}&to={start + HOUR}" in {one.get("href") for one in tree.iter("a")}


@given(st.integers(0, 10**7))
def test_levels_rise_and_nothing_but_zero_is_none(most: int) -> None:
    bounds = level_bounds(most)
    assert bounds == sorted(set(bounds)) and len(bounds) <= LEVELS
    assert not bounds or (bounds[0] == 1 and bounds[-1] <= most)


def test_verdicts_are_drawn_on_a_scale_of_round_durations() -> None:
    def durations(p50: float | None, p99: float | None) -> dict[str, Any]:
        return {"verdicts": 3, "p50": p50, "p99": p99}

    none = durations(None, None)
    items = [
        {"at": at(0), "offline": durations(30, 90), "online": durations(0.1, 1)},
        {"at": at(1), "offline": none, "online": durations(0.1, 1)},
        {"at": at(50), "offline": durations(30, 600), "online": none},
    ]
    found = curve(items) | {"offline": durations(30, 600), "online": durations(0.1, 1)}
    tree = tree_of(verdict_latency(found))
    assert "offline  30s, 99 % 10m" in text(tree)
    for scale in ("100ms", "1s", "10s", "1m", "10m"):
        assert scale in [one.text for one in of_class(tree, "d-label")]
    slow = [points_of(one) for one in of_class(tree, "d-curve", "d-is-offline", "d-is-p99")]
    assert len(slow) == 2 and slow[1][0] == pytest.approx((0.5, 1))
    empty = tree_of(verdict_latency(curve([]) | {"offline": none, "online": none}))
    assert "offline  none in this time" in text(empty)


def test_drawings_of_the_most_that_is_asked_for_have_a_bounded_size() -> None:
    many = [item(minute, 1_000_000 - minute, minute, flaps=minute) for minute in range(1_500)]
    outages = [outage(minute, minute + 1) for minute in range(100)]
    assert len(fleet_curve(curve(many, minutes=1_500, outages=outages))) < 150_000
    progress = [{"at": at(minute / 10), "total": 9_999, "back": minute} for minute in range(5_000)]
    assert len(outage_recovery({"alert": outage(0, None), "to": at(501), "items": progress})) < 100_000
    assert len(flap_map(curve(many, minutes=10**6))) < 200_000
