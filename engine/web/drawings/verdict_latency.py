"""How long verdicts took: half of them, and 99 %, for offline and online. Holds are part of it. Read `verdict_latency`.

The scale is logarithmic, because a hold of half a minute and a connect that counts at once stand beside each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log10
from typing import Any, Final

from markupsafe import Markup

from engine.web.drawings.svg import Table, element, figure, line, path, plot, table, text
from engine.web.drawings.time_axis import AXIS_HEIGHT, MINUTE, Link, TimeAxis, instant_ms, rounded, time_element

Object = Mapping[str, Any]

HEIGHT: Final = 130
HEAD: Final = 32
LEAST_S: Final = 0.01
"""Shorter durations lie on the floor of the drawing."""

SCALE_S: Final = (LEAST_S, 0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 31_536_000.0)
"""Durations that the scale names."""

STATUSES: Final = ("offline", "online")


def verdict_latency(found: Object, *, name: str = "verdicts", zoom: Link | None = None) -> Markup:
    """The drawing of `found`, the JSON object of `/v1/fleet/verdicts`. `name`: unique on the page."""
    axis = TimeAxis(instant_ms(found["from"]), instant_ms(found["to"]))
    items = found["items"]
    durations = [one[part] for item in items for one in (item["offline"], item["online"]) for part in ("p50", "p99")]
    known = [max(LEAST_S, value) for value in durations if value is not None] or [LEAST_S, 1.0]
    scale = [value for value in SCALE_S if value <= min(known)][-1:] or [SCALE_S[0]]
    scale += [value for value in SCALE_S if min(known) < value < max(known)]
    scale += [value for value in SCALE_S if value >= max(known) and value > scale[0]][:1]
    low, high = log10(scale[0]), log10(max(scale[-1], scale[0] * 10))

    def height(duration_s: float) -> float:
        return min(1.0, (log10(max(scale[0], duration_s)) - low) / (high - low))

    grid = []
    for value in scale:
        y = HEAD + HEIGHT * (1 - height(value))
        grid += [line(0, y, 1, y, "d-tick"), text(1, y - 3, seconds(value), "d-label", "end")]
    drawn = [
        path(places, kind)
        for status in STATUSES
        for part, kind in (("p50", f"d-curve d-is-{status}"), ("p99", f"d-curve d-is-{status} d-is-p99"))
        for places in _runs(items, status, part, axis, found["step"] * 1000, height)
    ]
    said = "; ".join(f"{status} {_said(found[status])}" for status in STATUSES)
    return figure(
        name,
        "d-verdicts",
        HEAD + HEIGHT + AXIS_HEIGHT,
        "How long verdicts took",
        f"From the broker's time of an event until its change had settled. {said}.",
        [*grid, axis.drawn(HEAD + HEIGHT, zoom), plot(HEAD, HEIGHT, *drawn), _head(found)],
        element(
            "figcaption",
            "Solid: half of the verdicts were not slower; dashed: 99 %. Holds are part of it. ",
            axis.caption(),
        ),
        table(_table(items)),
    )


def _head(found: Object) -> Markup:
    parts = []
    for status in STATUSES:
        parts += [element("tspan", status, class_=f"d-strong d-of-{status}"), f" {_said(found[status])}   "]
    return element("text", *parts, x="0", y="12", class_="d-heading")


def _said(durations: Object) -> str:
    if durations["p50"] is None:
        return "none in this time"
    return f"{seconds(durations['p50'])}, 99 % {seconds(durations['p99'])}"


def seconds(value: float | None) -> str:
    """A duration in seconds for a reader."""
    return "–" if value is None else rounded(round(value * 1000))


def _runs(
    items: Sequence[Object], status: str, part: str, axis: TimeAxis, step_ms: int, height: Any
) -> list[list[tuple[float, float]]]:
    """Lines through the steps that have verdicts; a step without any is a gap."""
    known = [(instant_ms(item["at"]), item[status][part]) for item in items if item[status][part] is not None]
    runs: list[list[tuple[int, float]]] = [[known[0]]] if known else []
    for before, one in pairwise(known):
        if one[0] - before[0] > 2 * step_ms + MINUTE:
            runs.append([])
        runs[-1].append(one)
    found = []
    for run in runs:
        places = [(axis.x(at_ms), height(value)) for at_ms, value in run]
        found.append(places if len(places) > 1 else [places[0], (min(1.0, places[0][0] + 0.006), places[0][1])])
    return found


def _table(items: Sequence[Object]) -> Table:
    rows = [
        (
            time_element(instant_ms(item["at"])),
            *(
                words
                for status in STATUSES
                for words in (
                    f"{item[status]['verdicts']:,}",
                    seconds(item[status]["p50"]),
                    seconds(item[status]["p99"]),
                )
            ),
        )
        for item in items
    ]
    columns = ("time", "offline", "half", "99 %", "online", "half", "99 %")
    return Table("Verdicts and how long they took", columns, rows[::-1], len(rows))
