"""How an outage went: how many clients had joined it, and how many of them were back. Read `outage_recovery`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from engine.web.drawings.fleet_curve import number
from engine.web.drawings.svg import Table, element, figure, path, plot, short, table, text
from engine.web.drawings.time_axis import AXIS_HEIGHT, MINUTE, TimeAxis, instant_ms, moment, rounded, time_element

Object = Mapping[str, Any]

HEIGHT: Final = 120
HEAD: Final = 20

PLACES: Final = 400
"""Points of the curve that are drawn: of more, every so many."""


def outage_recovery(found: Object, *, name: str = "recovery") -> Markup:
    """The drawing of `found`, the JSON object of `/v1/alerts/{id}/progress`. `name`: unique on the page."""
    items = _thinned(found["items"], PLACES)
    start_ms = min(instant_ms(items[0]["at"]), instant_ms(found["alert"]["started_at"]))
    end_ms = max(instant_ms(found["to"]), instant_ms(items[-1]["at"]), start_ms + MINUTE)
    axis = TimeAxis(start_ms, end_ms)
    most = max(1, *(item["total"] for item in items))
    last = items[-1]
    total = _steps(items, axis, lambda item: item["total"] / most)
    back = _steps(items, axis, lambda item: item["back"] / most)
    said = f"{number(last['back'])} of {number(last['total'])} back"
    is_over = found["alert"]["resolved_at"] is not None
    how = f"over after {rounded(end_ms - start_ms)}" if is_over else f"goes on for {rounded(end_ms - start_ms)}"
    content = [
        axis.drawn(HEAD + HEIGHT),
        plot(
            HEAD,
            HEIGHT,
            path(total, "d-area d-is-offline", floor=0.0),
            path(back, "d-area d-page", floor=0.0),
            path(back, "d-area d-is-online", floor=0.0),
            path(total, "d-curve d-is-offline"),
            path(back, "d-curve d-is-online"),
        ),
        element("text", element("tspan", said, class_="d-strong"), f", {how}", x="0", y="12", class_="d-heading"),
        text(1, HEAD - 6, f"{number(most)} joined", "d-label d-wide", "end"),
    ]
    return figure(
        name,
        "d-recovery",
        HEAD + HEIGHT + AXIS_HEIGHT,
        f"Recovery of the outage: {said}",
        f"The outage of rule {short(found['alert']['rule'])} began at {moment(start_ms)} and {how}. Of {number(last['total'])} clients"
        f" that joined it, {number(last['back'])} are back. Half were back {_half(items, start_ms)}.",
        content,
        element("figcaption", axis.caption()),
        table(_table(items)),
    )


def _thinned(items: Sequence[Object], most: int) -> list[Object]:
    """Every so many of them, the last one always."""
    size = -(-len(items) // most) or 1
    kept = list(items[::size])
    return kept if kept and kept[-1] is items[-1] else [*kept, items[-1]]


def _steps(items: Sequence[Object], axis: TimeAxis, height: Any) -> list[tuple[float, float]]:
    """A line that stays level between two points and goes on to the end."""
    places = [(axis.x(instant_ms(items[0]["at"])), height(items[0]))]
    for before, item in pairwise(items):
        x = axis.x(instant_ms(item["at"]))
        places += [(x, height(before)), (x, height(item))]
    return [*places, (1.0, height(items[-1]))]


def _half(items: Sequence[Object], start_ms: int) -> str:
    reached = next((item for item in items if item["total"] and 2 * item["back"] >= item["total"]), None)
    return "not yet" if reached is None else f"after {rounded(max(0, instant_ms(reached['at']) - start_ms))}"


def _table(items: Sequence[Object]) -> Table:
    rows = [(time_element(instant_ms(item["at"])), number(item["back"]), number(item["total"])) for item in items]
    return Table("Clients that were back", ("time", "back", "joined so far"), rows[::-1], len(rows))
