"""Drawings as pages show them: for the time that is asked for, with links that lead to pages. Read `PageDrawings`.

A page that somebody looks at is computed again each second, and what changes of it is sent. So a drawing ends with the next full minute,
and is remembered for a moment.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final
from urllib.parse import quote, urlencode

from markupsafe import Markup

from engine.errors import BadQuestion, NotThere
from engine.stores.base import Reader
from engine.web import fleet_pictures
from engine.web.drawings.client_timeline import Links, client_timeline
from engine.web.drawings.flap_map import flap_map
from engine.web.drawings.fleet_curve import fleet_curve
from engine.web.drawings.outage_recovery import outage_recovery
from engine.web.drawings.time_axis import DAY, MINUTE, SECOND, Link
from engine.web.drawings.verdict_latency import verdict_latency
from engine.web.fleet_pictures import MAX_LATENCY_POINTS, Range, range_of

MOMENT_MS: Final = 10 * SECOND
"""How long a drawing is remembered."""

REMEMBERED: Final = 24
"""Drawings that are."""

MAX_DIGITS: Final = 15


class PageDrawings:
    """The drawings of one service; safe to use from any thread."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, Markup] = OrderedDict()

    def _remembered(self, key: Hashable, draw: Callable[[], Markup]) -> Markup:
        key = (key, self._now_ms() // MOMENT_MS)
        with self._lock:
            found = self._found.get(key)
        if found is None:
            found = draw()
            with self._lock:
                self._found[key] = found
                while len(self._found) > REMEMBERED:
                    self._found.popitem(last=False)
        return found

    def end_ms(self) -> int:
        """Where the present ends: the next full minute."""
        return (self._now_ms() // MINUTE + 1) * MINUTE

    def curve(self, reader: Reader, root: str, from_: str = "", to: str = "", group: str = "") -> Markup:
        """The fleet's curve. BadQuestion for a time that is none."""
        end_ms = self.end_ms()
        wanted = range_of(instant(from_, "from"), instant(to, "to"), end_ms)

        def draw() -> Markup:
            found = fleet_pictures.fleet_curve(reader, wanted, group or None)
            return fleet_curve(found, zoom=_zoom(root, "fleet", group=group), alert=_alert(root), now_ms=end_ms)

        return self._remembered(("curve", root, wanted, group), draw)

    def flaps(self, reader: Reader, root: str) -> Markup:
        """The flaps of the last seven days."""
        end_ms = (self._now_ms() // DAY + 1) * DAY

        def draw() -> Markup:
            week = Range(end_ms - 7 * DAY, end_ms, fleet_pictures.HOUR_MS)
            return flap_map(fleet_pictures.fleet_curve(reader, week), zoom=_zoom(root, "fleet"))

        return self._remembered(("flaps", root, end_ms), draw)

    def verdicts(self, reader: Reader, root: str, from_: str = "", to: str = "") -> Markup:
        """How long verdicts took. BadQuestion for a time that is none."""
        wanted = range_of(instant(from_, "from"), instant(to, "to"), self.end_ms(), MAX_LATENCY_POINTS)

        def draw() -> Markup:
            return verdict_latency(fleet_pictures.verdict_latency(reader, wanted), zoom=_zoom(root, "fleet"))

        return self._remembered(("verdicts", root, wanted), draw)

    def recovery(self, reader: Reader, alert: str) -> Markup | None:
        """How the outage of an alert went; None when the alert is about none."""
        try:
            found = fleet_pictures.outage_progress(reader, alert, self.end_ms())
        except NotThere:
            return None
        return outage_recovery(found)

    def timeline(
        self, picture: Callable[[str, int, int], dict[str, Any]], client: str, root: str, from_: str = "", to: str = ""
    ) -> Markup:
        """A client's timeline; `picture` gives what happened to it between two instants. BadQuestion for a time that is none."""
        end_ms = self.end_ms()
        wanted = range_of(instant(from_, "from"), instant(to, "to"), end_ms)

        def draw() -> Markup:
            found = picture(client, wanted.from_ms, wanted.to_ms)
            links = Links(_alert(root), lambda id_: f"{root}delivery/{id_}", _zoom(root, "client", id=client))
            return client_timeline(found, links=links, now_ms=end_ms)

        return self._remembered(("timeline", root, client, wanted), draw)


def instant(text: str, name: str) -> int | None:
    """An instant in epoch milliseconds as an address has it; None for an empty text. BadQuestion."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadQuestion(f"`{name}` must be an instant in epoch milliseconds, not {text[:60]!r}")
    return int(text)


def _zoom(root: str, page: str, **more: str) -> Link:
    """The address of a page for another time."""
    given = {name: value for name, value in more.items() if value}

    def address(from_ms: int, to_ms: int) -> str:
        return f"{root}{page}?{urlencode({**given, 'from': from_ms, 'to': to_ms}, quote_via=quote)}"

    return address


def _alert(root: str) -> Callable[[Any], str]:
    return lambda id_: f"{root}alert/{quote(str(id_), safe='')}"
