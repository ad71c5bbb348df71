"""Elements of a drawing as text that a page may hold: every attribute and every child is escaped unless it is `Markup`. Pure.

Drawings are as wide as their page: places along the time axis are percentages, heights are pixels. So a text keeps its size and a mark
its shape on a phone and on paper. Lines and areas lie in a `plot`, which is stretched. Colours are classes, see `assets/drawings.css`.
Read `element`, then `figure`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from engine.core.foreign_text import visible_text

MAX_NAME = 40
"""Characters of a foreign name that a drawing shows; a table beside it has more."""

MAX_CELL = 200
"""Characters of one cell of a table."""

MAX_ROWS = 200
"""Rows of the table beside a drawing."""

NOTHING = Markup("")

UNITS = 1_000.0
"""How wide and how high a plot is in its own units."""


def element(name: str, *children: str, **attributes: object) -> Markup:
    """One element. `class_` is `class`, other underscores are hyphens; an attribute that is None is left out."""
    given = "".join(
        [
            f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
            for key, value in attributes.items()
            if value is not None
        ]
    )
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """Elements and texts one after another."""
    return Markup("".join([part if isinstance(part, Markup) else escape(part) for part in parts]))


def short(text: object, limit: int = MAX_NAME) -> str:
    """What others wrote, on one line, with nothing in it that cannot be seen, and cut when it is long."""
    shown = visible_text(str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def percent(part: float) -> str:
    """A part of the width."""
    return f"{100 * part:.2f}%"


def linked(target: str | None, mark: Markup, label: str) -> Markup:
    """A mark with its words, which lead somewhere when there is a target. Keyboards reach the same link in the table."""
    titled = element("title", label)
    if target is None:
        return element("g", titled, mark)
    return element("a", titled, mark, href=target, tabindex="-1", aria_label=label)


def text(x: float, y: float, words: str, kind: str, anchor: str = "start", **more: object) -> Markup:
    """Words at a part of the width; `kind`: classes."""
    return element("text", words, x=percent(x), y=f"{y:g}", class_=kind, text_anchor=anchor, **more)


def rect(x: float, y: float, width: float, height: float, kind: str, **more: object) -> Markup:
    """A bar; `x` and `width` are parts of the width."""
    return element(
        "rect", x=percent(x), y=f"{y:g}", width=percent(max(0.0, width)), height=f"{height:g}", class_=kind, **more
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return element("line", x1=percent(x1), y1=f"{y1:g}", x2=percent(x2), y2=f"{y2:g}", class_=kind)


def mark(x: float, y: float, kind: str, shape: str) -> Markup:
    """A sign of constant size at a part of the width: `dot`, `ring`, `cross`, `tick` or `bar`."""
    inside = {
        "dot": element("circle", r="4"),
        "ring": element("circle", r="3.5"),
        "cross": element("path", d="M-4-4L4 4M4-4L-4 4"),
        "tick": element("path", d="M0-6V6"),
        "bar": element("rect", x="-3.5", y="-3.5", width="7", height="7"),
    }[shape]
    target = element("circle", r="9", class_="d-target")
    return element(
        "svg",
        element("g", target, inside, class_=f"d-mark d-{shape} {kind}"),
        x=percent(x),
        y=f"{y:g}",
        overflow="visible",
    )


def plot(y: float, height: float, *children: Markup) -> Markup:
    """A part of a drawing that is stretched to its width: `UNITS` wide and high inside."""
    return element(
        "svg",
        *children,
        x="0",
        y=f"{y:g}",
        width="100%",
        height=f"{height:g}",
        viewBox=f"0 0 {UNITS:g} {UNITS:g}",
        preserveAspectRatio="none",
        overflow="visible",
    )


def path(points: Sequence[tuple[float, float]], kind: str, *, floor: float | None = None) -> Markup:
    """A line through points of a plot, each from 0 to 1 across and up; with `floor` the area between it and that height."""
    if not points:
        return Markup("")
    places = [f"{UNITS * x:.1f} {UNITS * (1 - y):.1f}" for x, y in points]
    drawn = "M" + "L".join(places)
    if floor is not None:
        down = f"{UNITS * (1 - floor):.1f}"
        drawn += f"L{UNITS * points[-1][0]:.1f} {down}L{UNITS * points[0][0]:.1f} {down}Z"
    return element("path", d=drawn, class_=kind, vector_effect="non-scaling-stroke")


class Table(NamedTuple):
    """What a drawing says, as text: a caption, the names of its columns, its rows, and how many rows there are in all."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int


def table(found: Table) -> Markup:
    """The table of a drawing, closed until somebody opens it. At most `MAX_ROWS` rows are shown."""
    shown = found.rows[:MAX_ROWS]
    head = element("tr", *(element("th", name, scope="col") for name in found.columns))
    body = joined(
        element("tr", *(element("td", cell if isinstance(cell, Markup) else short(cell, MAX_CELL)) for cell in row))
        for row in shown
    )
    left = found.total - len(shown)
    more = element("p", f"{left:,} more are not listed here.", class_="d-note") if left > 0 else Markup("")
    return element(
        "details",
        element("summary", "As a table"),
        element(
            "div",
            element("table", element("caption", found.caption), element("thead", head), element("tbody", body)),
            class_="d-box",
            tabindex="0",
            role="region",
            aria_label=found.caption,
        ),
        more,
        class_="d-table",
    )


def figure(
    name: str,
    kind: str,
    height: float,
    title: str,
    about: str,
    content: Iterable[str],
    *after: Markup,
    key: Markup = NOTHING,
) -> Markup:
    """A whole drawing: its picture with a title and a description for those who cannot see it, then what belongs to it.

    `name`: unique on the page; letters, digits and hyphens.
    """
    picture = element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", about, id=f"{name}-about"),
        *content,
        role="group",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-about",
        width="100%",
        height=f"{height:g}",
        class_="d-picture",
    )
    return element("figure", key, picture, *after, class_=f"drawing {kind}", id=name)
