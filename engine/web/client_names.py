"""The names of all clients in order, so that a page of a million is found without sorting a million.

The fleet's dictionary belongs to the writer's thread and grows while it is read here. Names are only ever added at its end, so
what is new since the last look is found from there backwards. A client that was forgotten since then stays in the list, which
does no harm, because it has no state any more. Names lie in buckets of a few thousand, so that neither the first sort nor an
insertion holds the interpreter for more than a few milliseconds: events are taken meanwhile.
"""

from __future__ import annotations

import difflib
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Any

BUCKET = 2_000
"""Names in a bucket after the first sorting; one that has grown to four times that is cut."""

COMPARED = 2_000
"""Names that a mistyped one is compared with: a tenth of a second."""

PREFIXES = 20
"""Prefixes of a mistyped name that are looked up in a large fleet."""

SIMILAR = 0.75
"""How like a name must be to be suggested, from 0 to 1 (`difflib`)."""


class ClientNames:
    """Names of `states` in order; every method may be called from any thread."""

    def __init__(self, states: dict[str, Any]) -> None:
        self._states = states
        self._lock = threading.Lock()
        self._buckets: list[list[str]] = []  # none is empty
        self._firsts: list[str] = []  # the first name of each bucket
        self._count = 0
        self.sortings = 0  # how often the buckets were made anew; otherwise names are only added to them
        self._newest: str | None = None  # the name at the dictionary's end when we last looked

    def after(self, cursor: str, prefix: str = "") -> Iterator[str]:
        """Names greater than `cursor` that begin with `prefix`, ascending. May name clients forgotten meanwhile."""
        for part in self.parts(cursor, prefix):
            yield from part

    def parts(self, cursor: str, prefix: str = "") -> Iterator[list[str]]:
        """The same, some thousand names at once; no part is empty."""
        with self._lock:
            self._refresh()
        inclusive = prefix > cursor
        part = self._part(prefix if inclusive else cursor, inclusive=inclusive)
        while part:
            if not part[-1].startswith(prefix):
                if some := [name for name in part if name.startswith(prefix)]:
                    yield some
                return
            yield part
            part = self._part(part[-1], inclusive=False)

    def nearest(self, mistyped: str) -> str | None:
        """The name that is most like a mistyped one; None when none is. It looks at `COMPARED` names at most.

        In a large fleet they begin like the mistyped one, so a slip in the last `PREFIXES` characters is found; in a small one, any slip.
        """
        wanted = mistyped[:256]
        with self._lock:
            self._refresh()
            candidates = [name for bucket in self._buckets for name in bucket] if self._count <= COMPARED else []
        if not candidates:
            # Every shorter prefix is a wider look; the longest comes first, and each may use a part of the room.
            for length in range(len(wanted), max(0, len(wanted) - PREFIXES), -1):
                candidates += islice(self.after("", wanted[:length]), COMPARED // PREFIXES)
        folded = {name.lower(): name for name in candidates if name in self._states}
        close = difflib.get_close_matches(wanted.lower(), folded, n=1, cutoff=SIMILAR)
        return folded[close[0]] if close else None

    def _part(self, start: str, *, inclusive: bool) -> list[str]:
        """What follows `start` up to the end of its bucket, or the next bucket; empty at the very end."""
        with self._lock:
            at = max(0, bisect_right(self._firsts, start) - 1)
            for bucket in self._buckets[at : at + 2]:
                part = bucket[(bisect_left if inclusive else bisect_right)(bucket, start) :]
                if part:
                    return part
        return []

    def _refresh(self) -> None:
        new = self._new_names()
        if new is None or len(new) > self._count // 4 or self._count > 2 * len(self._states) + BUCKET:
            self._sort(list(self._states))  # copying a dictionary's keys is one step of the interpreter
            return
        for name in new:
            self._insert(name)
        if new:
            self._newest = new[0]

    def _new_names(self) -> list[str] | None:
        """Names added since the last look, newest first; None when that cannot be said."""
        wanted = 16
        while self._newest is not None:
            try:
                tail = list(islice(reversed(self._states), wanted))
            except RuntimeError:  # it changed between two steps of ours
                continue
            if self._newest in tail:
                return tail[: tail.index(self._newest)]
            if len(tail) < wanted or wanted > self._count:
                return None  # the newest we knew is gone
            wanted *= 16
        return None

    def _sort(self, names: list[str]) -> None:
        self.sortings += 1
        self._newest = names[-1] if names else None
        self._count = len(names)
        pivots = sorted(names[BUCKET // 2 :: BUCKET])
        buckets: list[list[str]] = [[] for _ in range(len(pivots) + 1)]
        for name in names:
            buckets[bisect_right(pivots, name)].append(name)
        for bucket in buckets:
            bucket.sort()
        self._buckets = [bucket for bucket in buckets if bucket]
        self._firsts = [bucket[0] for bucket in self._buckets]

    def _insert(self, name: str) -> None:
        at = max(0, bisect_right(self._firsts, name) - 1)
        bucket = self._buckets[at]
        place = bisect_left(bucket, name)
        if place < len(bucket) and bucket[place] == name:
            return  # forgotten and come back
        bucket.insert(place, name)
        self._count += 1
        self._firsts[at] = bucket[0]
        if len(bucket) > 4 * BUCKET:
            half = len(bucket) // 2
            self._buckets[at : at + 1] = [bucket[:half], bucket[half:]]
            self._firsts[at : at + 1] = [bucket[0], bucket[half]]
