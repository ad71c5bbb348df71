"""The fleet's curve: how many clients were online, and below it, on a scale of its own, how many were offline and on hold.

Of a million clients, a hundred offline would be invisible on one scale; so each part has its own, from the least to the most for online
and from zero for offline. Outages are shaded. Where nothing was counted, the curve has a gap. Read `fleet_curve`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from engine.web.drawings.svg import Table, element, figure, linked, path, plot, rect, short, table, text
from engine.web.drawings.time_axis import AXIS_HEIGHT, MINUTE, Link, TimeAxis, instant_ms, moment, rounded, time_element

Object = Mapping[str, Any]

ONLINE_HEIGHT: Final = 84
OFFLINE_HEIGHT: Final = 96
HEAD: Final = 18
"""Pixels of the parts, and of the words above each."""

PLACES: Final = 500
"""Points of one curve that a drawing has: of those closer together the means, and of offline the most."""

TABLE_ROWS: Final = 48
"""Rows of the table: the curve in so many steps."""


class Point(NamedTuple):
    """The fleet at about one instant."""

    at_ms: int
    online: float
    offline: float
    on_hold: float
    peak: float
    unknown: float


def fleet_curve(
    found: Object,
    *,
    name: str = "fleet",
    zoom: Link | None = None,
    alert: Callable[[Any], str] | None = None,
    now_ms: int | None = None,
) -> Markup:
    """The drawing of `found`, the JSON object of `/v1/fleet/curve`. `name`: unique on the page; `zoom`, `alert`: where links lead."""
    axis = TimeAxis(instant_ms(found["from"]), instant_ms(found["to"]))
    step_ms = found["step"] * 1000
    points = reduced([_point(item) for item in found["items"]], PLACES)
    runs = unbroken(points, max(step_ms, axis.length_ms // PLACES))
    top, second = HEAD, HEAD + ONLINE_HEIGHT + HEAD
    height = second + OFFLINE_HEIGHT
    content = [
        *_outages(found["outages"], axis, height, alert),
        axis.drawn(height, zoom),
        *_online(points, runs, axis, top),
        *_offline(points, runs, axis, second),
    ]
    whose = f"of the group {short(found['group'])}" if found["group"] is not None else "of the fleet"
    return figure(
        name,
        "d-fleet",
        height + AXIS_HEIGHT,
        f"Clients {whose} over time",
        _about(points, found, axis),
        content,
        element("figcaption", axis.caption(), _left_out(found)),
        axis.controls(zoom, axis.to_ms if now_ms is None else now_ms, "the curve"),
        table(_table(points, found)),
    )


def _point(item: Object) -> Point:
    return Point(
        instant_ms(item["at"]),
        float(item["online"]),
        float(item["offline"]),
        float(item["on_hold"]),
        float(item["offline_peak"]),
        float(item["unknown"]),
    )


def reduced(points: Sequence[Point], most: int) -> list[Point]:
    """The same curve with fewer points: means of neighbours, and the greatest of their peaks."""
    size = -(-len(points) // most) or 1
    found = []
    for start in range(0, len(points), size):
        some = points[start : start + size]
        means = [sum(values) / len(some) for values in zip(*(point[1:] for point in some), strict=True)]
        found.append(Point(some[0].at_ms, means[0], means[1], means[2], max(point.peak for point in some), means[4]))
    return found


def unbroken(points: Sequence[Point], step_ms: int) -> list[list[Point]]:
    """Stretches without a gap: neighbours that lie more than two steps and a minute apart have one between them."""
    found: list[list[Point]] = [[points[0]]] if points else []
    for before, point in pairwise(points):
        if point.at_ms - before.at_ms > 2 * step_ms + MINUTE:
            found.append([])
        found[-1].append(point)
    return found


def _places(run: Sequence[Point], axis: TimeAxis, height: Callable[[Point], float]) -> list[tuple[float, float]]:
    """A run as places in a plot; a single point becomes a short line."""
    places = [(axis.x(point.at_ms), height(point)) for point in run]
    return places if len(places) > 1 else [places[0], (min(1.0, places[0][0] + 0.002), places[0][1])]


def _online(points: Sequence[Point], runs: Sequence[Sequence[Point]], axis: TimeAxis, y: float) -> list[Markup]:
    """The part above: from the least to the most that were online."""
    if not points:
        return [text(0, y - 6, "nothing was counted in this time", "d-heading")]
    least, most = min(point.online for point in points), max(point.online for point in points)
    span = max(1.0, most - least)

    def height(point: Point) -> float:
        return 0.04 + 0.9 * (point.online - least) / span if most > least else 0.5

    lines = [path(_places(run, axis, height), "d-curve d-is-online") for run in runs]
    return [
        plot(y, ONLINE_HEIGHT, *lines),
        _head(
            "online",
            y,
            points[-1].online,
            "d-of-online",
            f"from {number(least)} to {number(most)}" if most > least else "all the time",
        ),
    ]


def _offline(points: Sequence[Point], runs: Sequence[Sequence[Point]], axis: TimeAxis, y: float) -> list[Markup]:
    """The part below: from zero to the most that were offline at once."""
    if not points:
        return []
    most = max(1.0, max(max(point.peak, point.on_hold) for point in points))
    drawn = []
    for run in runs:
        drawn += [
            path(_places(run, axis, lambda point: point.peak / most), "d-area d-is-offline", floor=0.0),
            path(_places(run, axis, lambda point: point.offline / most), "d-curve d-is-offline"),
            path(_places(run, axis, lambda point: point.on_hold / most), "d-curve d-is-thin"),
        ]
    return [
        plot(y, OFFLINE_HEIGHT, *drawn),
        _head("offline", y, points[-1].offline, "d-of-offline", f"at most {number(most)}"),
        text(1, y - 5, f"dashed: on hold {number(points[-1].on_hold)}", "d-label d-wide", "end"),
    ]


def _head(words: str, y: float, last: float, kind: str, scale: str) -> Markup:
    said = element("tspan", number(last), class_=f"d-strong {kind}")
    return element(
        "text",
        f"{words} ",
        said,
        element("tspan", f"  {scale}", class_="d-scale"),
        x="0",
        y=f"{y - 5:g}",
        class_="d-heading",
    )


def number(value: float) -> str:
    """A number of clients."""
    return f"{round(value):,}"


def _outages(
    outages: Sequence[Object], axis: TimeAxis, height: float, alert: Callable[[Any], str] | None
) -> list[Markup]:
    found = []
    for outage in outages:
        start, end = _times(outage, axis)
        x, width = axis.x(start), axis.x(end) - axis.x(start)
        target = alert(outage["id"]) if alert is not None else None
        found.append(linked(target, rect(x, 0, max(width, 0.003), height, "d-outage"), outage_words(outage, axis)))
    return found


def _times(outage: Object, axis: TimeAxis) -> tuple[int, int]:
    resolved = outage["resolved_at"]
    return instant_ms(outage["started_at"]), axis.to_ms if resolved is None else instant_ms(resolved)


def outage_words(outage: Object, axis: TimeAxis) -> str:
    """One outage as a sentence."""
    start, end = _times(outage, axis)
    about = ", ".join(f"{short(key)} {short(value)}" for key, value in (outage["key"] or {}).items()) or "the fleet"
    over = "goes on" if outage["resolved_at"] is None else f"lasted {rounded(end - start)}"
    return f"outage of {about}, rule {short(outage['rule'])}: began {moment(start)}, {over}"


def _about(points: Sequence[Point], found: Object, axis: TimeAxis) -> str:
    if not points:
        return f"Nothing was counted from {moment(axis.from_ms)} to {moment(axis.to_ms)}."
    last, worst = points[-1], max(points, key=lambda point: point.peak)
    return (
        f"From {moment(axis.from_ms)} to {moment(axis.to_ms)}. At the end {number(last.online)} clients are online, {number(last.offline)}"
        f" offline and {number(last.on_hold)} on hold. Most were offline at {moment(worst.at_ms)}: {number(worst.peak)}."
        f" Outages: {len(found['outages'])}."
    )


def _left_out(found: Object) -> Markup:
    if not found["outages"]:
        return Markup("")
    return Markup("; {} outage{} shaded").format(len(found["outages"]), "" if len(found["outages"]) == 1 else "s")


def _table(points: Sequence[Point], found: Object) -> Table:
    rows = [
        (
            time_element(point.at_ms),
            number(point.online),
            number(point.offline),
            number(point.peak),
            number(point.on_hold),
            number(point.unknown),
        )
        for point in reduced(points, TABLE_ROWS)
    ]
    columns = ("time", "online", "offline", "most offline", "on hold", "unknown")
    caption = "Numbers of clients" + (f"; {len(found['outages'])} outages in this time" if found["outages"] else "")
    return Table(caption, columns, rows[::-1], len(rows))
