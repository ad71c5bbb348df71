"""The time axis of every drawing: where an instant lies, ticks at round times, and links that zoom and move. Pure.

Times are UTC. The words of ticks carry the instant in `data-time`, so that a script may show local time. Read `TimeAxis`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from engine.core.times import EPOCH, duration_text, rfc3339
from engine.web.drawings.svg import element, joined, line, rect, text

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

STEPS: Final = (
    SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
    HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 84 * DAY, 364 * DAY,
)  # fmt: skip
"""Distances between ticks."""

MAX_TICKS: Final = 12
"""Ticks of an axis at most; on a narrow page every second one has words."""

RANGES: Final = (("1 h", HOUR), ("6 h", 6 * HOUR), ("24 h", DAY), ("7 d", 7 * DAY))
"""Times that a click shows."""

SHORTEST: Final = 10 * SECOND
LONGEST: Final = 3_650 * DAY

AXIS_HEIGHT: Final = 22

Link = Callable[[int, int], str]
"""The address of the same page for another time, both ends in epoch milliseconds."""


@lru_cache(maxsize=32_768)
def instant_ms(value: str) -> int:
    """RFC 3339 as our objects have it -> epoch milliseconds. One drawing asks for the same instants again and again."""
    return (datetime.fromisoformat(value) - EPOCH) // timedelta(milliseconds=1)


def moment(at_ms: int) -> str:
    """An instant for a reader: to the second, in UTC."""
    return rfc3339(at_ms)[:19].replace("T", " ") + " UTC"


def time_element(at_ms: int) -> Markup:
    """An instant in a table."""
    return element("time", moment(at_ms), datetime=rfc3339(at_ms))


def rounded(duration_ms: int) -> str:
    """A duration for a reader: two units at most."""
    for unit_ms, fine_ms in ((DAY, HOUR), (HOUR, MINUTE), (MINUTE, SECOND)):
        if duration_ms >= unit_ms:
            return duration_text(duration_ms // fine_ms * fine_ms)
    return duration_text(duration_ms if duration_ms < SECOND else duration_ms // SECOND * SECOND)


class Tick(NamedTuple):
    """One tick: where it is, what it says, and whether a narrow page leaves its words out."""

    at_ms: int
    words: str
    is_wide: bool


class TimeAxis:
    """From an instant to a later one, over the whole width of a drawing."""

    def __init__(self, from_ms: int, to_ms: int) -> None:
        """Epoch milliseconds; an axis is at least a millisecond long."""
        self.from_ms, self.to_ms = from_ms, max(to_ms, from_ms + 1)

    @classmethod
    def of(cls, found: dict[str, Any]) -> TimeAxis:
        """The axis of an object with `from` and `to`."""
        return cls(instant_ms(found["from"]), instant_ms(found["to"]))

    @property
    def length_ms(self) -> int:
        """How long it is."""
        return self.to_ms - self.from_ms

    def x(self, at_ms: int) -> float:
        """Where an instant lies: 0 at the beginning, 1 at the end; what is outside lies at the nearer end."""
        return min(1.0, max(0.0, (at_ms - self.from_ms) / self.length_ms))

    def holds(self, at_ms: int) -> bool:
        """Does an instant lie on it?"""
        return self.from_ms <= at_ms <= self.to_ms

    def ticks(self) -> list[Tick]:
        """Ticks at round times."""
        longest = STEPS[-1] * max(1, -(-self.length_ms // (STEPS[-1] * MAX_TICKS)))
        step = next((one for one in STEPS if self.length_ms / one <= MAX_TICKS), longest)
        first = -(-self.from_ms // step) * step
        return [
            Tick(at_ms, self._words(at_ms, step), (at_ms // step) % 2 == 1)
            for at_ms in range(first, self.to_ms + 1, step)
        ]

    @staticmethod
    def _words(at_ms: int, step: int) -> str:
        written = rfc3339(at_ms)
        if at_ms % DAY == 0 or step >= DAY:
            return f"{int(written[8:10])} {MONTHS[int(written[5:7]) - 1]}"
        return written[11:19] if step < MINUTE else written[11:16]

    def drawn(self, y: float, link: Link | None = None) -> Markup:
        """The axis below a drawing that is `y` high, with the ticks through all of it. With `link` a part between ticks zooms to it."""
        ticks = self.ticks()
        parts = [line(0, y + 0.5, 1, y + 0.5, "d-axis")]
        for tick in ticks:
            x = self.x(tick.at_ms)
            parts.append(line(x, 0, x, y + 4, "d-tick"))
            kind = "d-time d-wide" if tick.is_wide else "d-time"
            if 0.03 <= x <= 0.97:
                parts.append(text(x, y + 17, tick.words, kind, "middle", data_time=rfc3339(tick.at_ms)))
        if link is not None:
            edges = [self.from_ms, *(tick.at_ms for tick in ticks), self.to_ms]
            parts += [self._zoom(start, end, y, link) for start, end in pairwise(edges) if end - start >= SHORTEST]
        return joined(parts)

    def _zoom(self, start_ms: int, end_ms: int, y: float, link: Link) -> Markup:
        words = f"zoom in: {moment(start_ms)} to {moment(end_ms)}"
        area = rect(self.x(start_ms), y, self.x(end_ms) - self.x(start_ms), AXIS_HEIGHT, "d-zoom")
        return element("a", element("title", words), area, href=link(start_ms, end_ms), tabindex="-1", aria_label=words)

    def controls(self, link: Link | None, now_ms: int, what: str) -> Markup:
        """Links that show `what` at another time: earlier and later, closer and wider, and the newest hours and days."""
        if link is None:
            return Markup("")
        half, length = self.length_ms // 2, self.length_ms
        middle = self.from_ms + half
        found = [_control(link, self.from_ms - half, self.to_ms - half, "← earlier")]
        if self.to_ms < now_ms:
            found.append(_control(link, self.from_ms + half, self.to_ms + half, "later →"))
        if length // 2 >= SHORTEST:
            found.append(_control(link, middle - length // 4, middle + length // 4, "zoom in"))
        if length * 2 <= LONGEST:
            found.append(_control(link, middle - length, middle + length, "zoom out"))
        found += [_control(link, now_ms - range_ms, now_ms, f"last {words}") for words, range_ms in RANGES]
        return element("nav", *found, class_="d-controls", aria_label=f"Time shown of {what}")

    def caption(self) -> Markup:
        """Which time is shown, as words."""
        return joined(
            [
                time_element(self.from_ms),
                Markup(" to "),
                time_element(self.to_ms),
                Markup(" ({})").format(rounded(self.length_ms)),
            ]
        )


def _control(link: Link, from_ms: int, to_ms: int, words: str) -> Markup:
    return element("a", words, href=link(max(0, from_ms), max(1, to_ms)))


MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
