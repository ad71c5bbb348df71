"""Counts over all clients, which are made now and then: a million clients take a tenth of a second, and events wait meanwhile.

Nothing is counted for each event. Instead a count is kept for as long as it costs little: read `CountedNowAndThen`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Generic, TypeVar

from engine.core.presence.client_state import STATUS_NAMES, ClientState
from engine.core.presence.evidence import is_doubtful

T = TypeVar("T")

PART = 5_000
"""Clients counted in one step of the interpreter, well under a millisecond: between two steps, other threads get their turn."""

LEAST_S = 1.0
"""Seconds for which a count holds at least."""

SHARE = 0.01
"""Of one processor, the most that counting may take however often somebody asks."""

_settled = attrgetter("settled")


class CountedNowAndThen(Generic[T]):
    """One count, made again when it is old; safe to use from any thread.

    A count that takes a millisecond is a second old at most, one that takes 100 ms ten seconds. While one thread counts, the others
    get the previous count.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic, share: float = SHARE) -> None:
        """`share`: of one processor, the most that counting may take."""
        self._now_s, self._share = now_s, share
        self._lock = threading.Lock()
        self._found: tuple[T, float] | None = None  # the count, and until when it holds

    def value(self, count: Callable[[], T]) -> T:
        """The count; `count` makes it."""
        found = self._found
        if found is not None and (self._now_s() < found[1] or self._lock.locked()):
            return found[0]
        with self._lock:
            began_s = self._now_s()
            if self._found is not None and self._found is not found:
                return self._found[0]  # another thread has just counted
            counted = count()
            ended_s = self._now_s()
            self._found = counted, ended_s + max(LEAST_S, (ended_s - began_s) / self._share)
            return counted


def count_by_status(fleets: Sequence[Mapping[str, ClientState]]) -> dict[str, int]:
    """How many clients have each status; `fleets`: their states."""
    found: Counter[int] = Counter()
    for part in _parts(fleets):
        found.update(map(_settled, part))
    return {name: found[status] for status, name in enumerate(STATUS_NAMES)}


def count_doubtful(fleets: Sequence[Mapping[str, ClientState]], skew_ms: int) -> int:
    """How many clients are doubtful."""
    return sum(is_doubtful(state, skew_ms) for part in _parts(fleets) for state in part)


def _parts(fleets: Sequence[Mapping[str, ClientState]]) -> Iterator[list[ClientState]]:
    for states in fleets:
        everything = list(states.values())  # one step of the interpreter, so the writer cannot change it meanwhile
        for start in range(0, len(everything), PART):
            yield everything[start : start + PART]
