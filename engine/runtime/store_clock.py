"""The clock of a store that several replicas share: no wall clock of a replica decides anything.

Every answer of the database says what time it was there; between two answers the monotonic clock of this machine runs. `EngineClock` takes
this for its wall clock, so a step of the database's clock is treated as one of this machine's would be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from engine.clock import running_ms

T = TypeVar("T")

GOOD_ANSWER_MS: Final = 5
"""An answer that came within so long is exact enough, whatever the others took."""

OLD_ANSWER_MS: Final = 30_000
"""An answer is not believed for longer than this, if a slower one came since: clocks drift."""


class StoreClock:
    """A `Clock` by the database. `ask` it from time to time; `now_ms` may be called by any thread."""

    def __init__(self, running: Callable[[], int] = running_ms) -> None:
        self._running = running
        self._ahead_ms = 0  # of the database's clock before the running one
        self._took_ms = 0
        self._lock = threading.Lock()
        self._asked_at_ms: int | None = None  # by the running clock; None: never

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return self._running() + self._ahead_ms

    def ask(self, database_ms: Callable[[], int]) -> None:
        """`database_ms` asks the database for the time. What it raises is raised, and nothing is changed then."""
        self.ask_beside(database_ms, lambda found_ms: found_ms)

    def ask_beside(self, question: Callable[[], T], shown_ms: Callable[[T], int]) -> T:
        """The answer to another question, which says what time it was there: `shown_ms` finds it. As `ask` for the rest."""
        before_ms = self._running()
        answer = question()
        found_ms = shown_ms(answer)
        after_ms = self._running()
        took_ms = after_ms - before_ms
        with self._lock:  # each cell of a replica asks in a thread of its own
            is_exact = took_ms <= max(GOOD_ANSWER_MS, self._took_ms)
            if self._asked_at_ms is None or is_exact or after_ms - self._asked_at_ms >= OLD_ANSWER_MS:
                self._ahead_ms = found_ms - (before_ms + after_ms) // 2
                self._took_ms, self._asked_at_ms = took_ms, after_ms
        return answer
