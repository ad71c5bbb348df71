"""What changes of the pages that are open, sent as it changes. Read `Live`.

A page's changing part is computed for all that look at it: at most once in `EVERY_S`, and one after the other, so that many open pages
cost no more than one processor's share. Who reads slowly misses what came between, and gets the newest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from engine.errors import Overloaded, RollcallError
from engine.telemetry import Event, logger

log = logger(__name__)

K = TypeVar("K", bound=Hashable)

EVERY_S: Final = 1.0
"""Seconds between two computations of one page."""

SHARE: Final = 0.25
"""The part of the time that the computation of one page may take: a slow one is computed less often."""

IDLE_S: Final = 15.0
"""Seconds after which a comment is sent when nothing has changed, so that proxies and browsers see that the connection lives."""

MAX_FOLLOWERS: Final = 400
"""Open pages that are followed at one time."""

MAX_PAGES: Final = 100
"""Different pages among them."""

IDLE: Final = b": nothing has changed\n\n"


def message(event: str, text: str) -> bytes:
    """One server-sent event."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {event}\n{lines}\n".encode()


@dataclass(slots=True, eq=False)
class _Page(Generic[K]):
    """One page that somebody looks at."""

    key: K
    followers: int = 0
    text: str | None = None  # the newest; None: not computed yet
    number: int = 0  # of the newest text
    next_s: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Live(Generic[K]):
    """The open pages, by what they show. For one event loop."""

    def __init__(
        self,
        compute: Callable[[K], Awaitable[str]],
        every_s: float = EVERY_S,
        idle_s: float = IDLE_S,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_over`: does the service stop? Then all streams end, so that it need not wait for them."""
        self._compute, self._every_s, self._idle_s, self._is_over = compute, every_s, idle_s, is_over
        self._pages: dict[K, _Page[K]] = {}
        self._working: asyncio.Task[None] | None = None
        self.computed = 0  # since the start

    @property
    def followers(self) -> int:
        """How many pages are open."""
        return sum(page.followers for page in self._pages.values())

    def check_room(self, key: K) -> None:
        """Overloaded when no more pages can be followed."""
        if self.followers >= MAX_FOLLOWERS or (key not in self._pages and len(self._pages) >= MAX_PAGES):
            raise Overloaded("too many pages are open: this one does not update by itself", 30)

    async def follow(self, key: K) -> AsyncIterator[bytes]:
        """The changing part of a page as server-sent events, from now on, until the reader leaves."""
        page = self._pages.setdefault(key, _Page(key))
        page.followers += 1
        seen = -1
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            while not self._is_over():
                if page.text is not None and page.number != seen:
                    seen = page.number
                    yield message("page", page.text)
                    continue
                changed = page.changed
                try:
                    await asyncio.wait_for(changed.wait(), self._idle_s)
                except TimeoutError:
                    yield IDLE
        finally:
            page.followers -= 1
            if not page.followers:
                self._pages.pop(key, None)

    async def _work(self) -> None:
        """Compute what is due, one page after the other, as long as anybody looks."""
        while self._pages:
            if self._is_over():
                for page in self._pages.values():
                    page.changed.set()
                return
            page = min(self._pages.values(), key=lambda one: one.next_s)
            now_s = time.monotonic()
            if page.next_s > now_s:
                await asyncio.sleep(min(page.next_s - now_s, self._every_s))
                continue
            try:
                text: str | None = await self._compute(page.key)
            except RollcallError:  # the store is busy, or the client was forgotten: the page stays as it is
                text = page.text
            except Exception as error:
                log.error(Event.REQUEST_FAILED, path="/events", exc_info=error)
                text = page.text
            if text is not None and text != page.text:
                page.text, page.number = text, page.number + 1
                changed, page.changed = page.changed, asyncio.Event()
                changed.set()
            self.computed += 1
            took_s = time.monotonic() - now_s
            page.next_s = now_s + max(self._every_s, took_s / SHARE)
