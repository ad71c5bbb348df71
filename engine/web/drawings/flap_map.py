"""A week of flaps, hour by hour: a row a day, a column an hour of UTC, darker for more. Read `flap_map`."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from engine.core.times import rfc3339
from engine.web.drawings.fleet_curve import number
from engine.web.drawings.svg import Table, element, figure, linked, rect, table, text
from engine.web.drawings.time_axis import DAY, HOUR, MONTHS, Link, TimeAxis, instant_ms, time_element

Object = Mapping[str, Any]

MAX_DAYS: Final = 14
ROW: Final = 22
TOP: Final = 16
LABELS: Final = 0.13
"""Part of the width that the names of days take."""

LEVELS: Final = 5
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def flap_map(found: Object, *, name: str = "flaps", zoom: Link | None = None) -> Markup:
    """The drawing of `found`, the JSON object of `/v1/fleet/curve` of a week or so. `zoom`: the address of an hour's page."""
    axis = TimeAxis(instant_ms(found["from"]), instant_ms(found["to"]))
    last = (axis.to_ms - 1) // DAY
    days = range(max(axis.from_ms // DAY, last - MAX_DAYS + 1), last + 1)
    flaps, counted = Counter[int](), set[int]()
    for item in found["items"]:
        hour = instant_ms(item["at"]) // HOUR
        flaps[hour] += item["flaps"]
        counted.add(hour)
    most = max(flaps.values(), default=0)
    bounds = level_bounds(most)
    width = (1 - LABELS) / 24
    cells = [
        text(LABELS + width * (hour + 0.5), 11, f"{hour}", "d-time" if hour % 6 == 0 else "d-time d-wide", "middle")
        for hour in range(24)
    ]
    for row, day in enumerate(days):
        y = TOP + ROW * row
        weekday, date = day_name(day).split(" ", 1)
        cells.append(
            element(
                "text", element("tspan", f"{weekday} ", class_="d-wide"), date, x="0", y=f"{y + 14}", class_="d-label"
            )
        )
        cells += [
            _cell(day * 24 + hour, LABELS + width * hour, y, width, flaps, counted, bounds, zoom) for hour in range(24)
        ]
    total = sum(flaps.values())
    worst = max(flaps, key=lambda hour: flaps[hour], default=None)
    said = f"{number(total)} flap{'' if total == 1 else 's'}" + (
        f", most in the hour of {hour_name(worst)}: {number(most)}" if worst is not None and most else ""
    )
    return figure(
        name,
        "d-flaps",
        TOP + ROW * len(days) + 2,
        "Flaps by hour",
        f"{said}. Each row is a day, each column an hour of UTC.",
        cells,
        element("figcaption", f"{said}. Hours of UTC; a dashed hour was not counted.", _scale(bounds)),
        table(
            Table(
                "Flaps by hour, the hours with most first",
                ("hour", "flaps"),
                [(time_element(hour * HOUR), number(count)) for hour, count in flaps.most_common() if count],
                sum(count > 0 for count in flaps.values()),
            )
        ),
    )


def level_bounds(most: int) -> list[int]:
    """From how many flaps on an hour has the next level: as far apart in ratio, because flaps come in bursts."""
    if most <= 0:
        return []
    return sorted({max(1, round(most ** ((level + 1) / LEVELS))) for level in range(LEVELS - 1)} | {1})


def _cell(
    hour: int,
    x: float,
    y: float,
    width: float,
    flaps: Mapping[int, int],
    counted: set[int],
    bounds: list[int],
    zoom: Link | None,
) -> Markup:
    count = flaps.get(hour, 0)
    level = min(LEVELS, bisect_right(bounds, count))
    kind = f"d-cell d-heat-{level}" if hour in counted else "d-cell d-empty"
    words = f"{hour_name(hour)}: {number(count)} flaps" if hour in counted else f"{hour_name(hour)}: not counted"
    target = zoom(hour * HOUR, (hour + 1) * HOUR) if zoom is not None and hour in counted else None
    return linked(target, rect(x + 0.001, y, width - 0.002, ROW - 2, kind), words)


def day_name(day: int) -> str:
    """A day since the epoch, such as `Thu 1 Jan`."""
    written = rfc3339(day * DAY)
    return f"{WEEKDAYS[(day + 3) % 7]} {int(written[8:10])} {MONTHS[int(written[5:7]) - 1]}"


def hour_name(hour: int) -> str:
    """An hour since the epoch."""
    return f"{day_name(hour // 24)} {hour % 24:02d}:00 UTC"


def _scale(bounds: list[int]) -> Markup:
    """Which shade stands for how many."""
    items = [
        element(
            "li",
            element(
                "svg",
                element("rect", width="16", height="10", class_=f"d-heat-{level}"),
                width="16",
                height="10",
                aria_hidden="true",
            ),
            f" {words}",
        )
        for level, words in enumerate(["none", *(f"{bound:,} or more" for bound in bounds)])
    ]
    return element("ul", *items, class_="d-key")
