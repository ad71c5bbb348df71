"""What lies too close together to be told apart becomes one mark or one bar that says how many it stands for. Pure.

So the size of a drawing depends on its width and not on how many entries a device made. Read `merged_marks` and `packed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

MARKS: Final = 120
"""Marks of one kind that lie beside each other at most: on a wide page they just touch."""

BARS: Final = 300
"""Bars of one row at most."""


class Cluster(NamedTuple, Generic[T]):
    """Things of one kind at about the same place: where the first and the last lie (parts of the width), and all of them."""

    start: float
    end: float
    members: list[T]

    @property
    def middle(self) -> float:
        """Where the mark goes."""
        return (self.start + self.end) / 2


def merged_marks(things: Iterable[T], place: Callable[[T], float]) -> list[Cluster[T]]:
    """Things in their order along the width, those that share one of `MARKS` places together."""
    found: dict[int, list[tuple[float, T]]] = {}
    for thing in things:
        x = place(thing)
        found.setdefault(min(MARKS - 1, int(x * MARKS)), []).append((x, thing))
    clusters = []
    for _, members in sorted(found.items(), key=lambda item: item[0]):
        places = [x for x, _ in members]
        clusters.append(Cluster(min(places), max(places), [thing for _, thing in members]))
    return clusters


def merged_bars(bars: Iterable[tuple[float, float, T]]) -> list[Cluster[T]]:
    """Bars (from, to, thing) of one row; neighbours that are both shorter than a place become one."""
    found: list[Cluster[T]] = []
    for start, end, thing in sorted(bars, key=lambda bar: bar[0]):
        last = found[-1] if found else None
        is_short = end - start < 1 / BARS
        if last is not None and is_short and end - last.start < 1 / BARS:
            found[-1] = Cluster(last.start, max(last.end, end), [*last.members, thing])
        else:
            found.append(Cluster(start, end, [thing]))
    return found


def packed(bars: Sequence[tuple[float, float, T]], rows: int, gap: float) -> list[list[tuple[float, float, T]]]:
    """Bars in as few rows as keep them apart, at most `rows`: what has no room lies in the last one."""
    found: list[list[tuple[float, float, T]]] = []
    ends: list[float] = []
    for bar in sorted(bars, key=lambda bar: (bar[0], bar[1])):
        free = next((row for row, end in enumerate(ends) if end + gap <= bar[0]), None)
        if free is None and len(found) < rows:
            free = len(found)
            found.append([])
            ends.append(0.0)
        row = rows - 1 if free is None else free
        found[row].append(bar)
        ends[row] = max(ends[row], bar[1])
    return found
