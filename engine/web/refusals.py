"""What was refused to anybody who can reach the HTTP interface: counted by reason, and said once in a while.

Whoever has no token must not be able to fill the log, so no refusal is written by itself. Read `Refusals`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from engine.core.foreign_text import foreign_text
from engine.telemetry import Event, logger

log = logger(__name__)

SAY_EVERY_S: Final = 60.0
"""Seconds between two lines of the log about refusals, however many there are."""

MAX_EXAMPLE_CHARS: Final = 200
"""Characters of the newest refusal that a line shows."""

# The reasons, which are also the labels of the metric: a fixed set, so that nobody can invent series.

INVALID: Final = "invalid_http"
SLOW_HEAD: Final = "slow_head"
SLOW_BODY: Final = "slow_body"
UNREAD: Final = "unread_answer"
NO_ROOM: Final = "too_many_connections"
UNAUTHORIZED: Final = "unauthorized"
FOREIGN_HOST: Final = "foreign_host"
FOREIGN_PAGE: Final = "foreign_page"
CROSS_SITE: Final = "cross_site"
MEDIA_TYPE: Final = "media_type"
BAD_BODY: Final = "bad_body"
HUNG_UP: Final = "hung_up"


class Refusals:
    """Counts refusals. `count` is cheap; call `say` every second or so."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.totals: Counter[str] = Counter()  # since the start
        self._now_s = now_s
        self._fresh: Counter[str] = Counter()  # since the last line
        self._example = ""
        self._next_s = 0.0

    def count(self, reason: str, example: str) -> None:
        """Count one. `example`: who it was and what was wrong, for the line."""
        self.totals[reason] += 1
        self._fresh[reason] += 1
        self._example = example

    def say(self) -> None:
        """Write a line when something was refused and the last line is long enough ago."""
        now_s = self._now_s()
        if not self._fresh or now_s < self._next_s:
            return
        log.warning(
            Event.HTTP_REFUSED,
            count=self._fresh.total(),
            refused=dict(sorted(self._fresh.items())),
            newest=foreign_text(self._example, MAX_EXAMPLE_CHARS),
        )
        self._fresh.clear()
        self._next_s = now_s + SAY_EVERY_S
