"""One page of the clients that somebody looks for among a million, in the order of their names. Read `ClientSearch.page`.

Events come in meanwhile, and this runs in the same interpreter. So what costs time for each client is done for thousands of them in one
step where that is possible, and a page ends when its time is up: it is shorter then, and its cursor goes on from there.

* A text is looked for in all names of a bucket at once.
* Clients with a rare status, or with one of `FLAGS`, are found in one pass over all states, which holds for a moment.
* Everything else is asked of one client after the other.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from operator import attrgetter, itemgetter
from typing import Final

from engine.core.fleet import Fleet
from engine.core.presence.client_state import FLAPPING, ClientState, split_id
from engine.core.presence.evidence import is_doubtful
from engine.web.client_names import BUCKET, ClientNames
from engine.web.fleet_counts import CountedNowAndThen

BUDGET_S: Final = 0.1
"""Time after which a page ends, however few clients it has."""

LOOKED_AT_ONCE: Final = 64
"""Clients that are looked at one by one between two looks at the clock."""

MAX_TEXTS: Final = 4_000
"""Texts of buckets that are kept: those of some millions of clients, each as large as the names."""

RARE: Final = 20
"""A status is rare when at most one client in so many has it. Pages of any other status fill soon."""

FEW: Final = 1_000
"""So few clients are rare in any fleet."""

SHARE: Final = 0.03
"""Of one processor, the most that finding the rare ones again may take."""

DOUBTFUL, ON_HOLD, IS_FLAPPING = "doubtful", "on hold", "flapping"
FLAGS: Final = (DOUBTFUL, ON_HOLD, IS_FLAPPING)

_settled = attrgetter("settled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsWanted:
    """Which clients: those of which all of it is true. None and empty: any."""

    status: int | None = None
    group: str | None = None
    device: str | None = None
    text: str = ""  # in lower case: words that the id contains in this order, in any case
    flag: str | None = None  # one of `FLAGS`
    matches: Callable[[str, str], bool] | None = None  # (client id, `ip:port`)


Page = tuple[list[tuple[str, ClientState]], str | None]
"""Clients with their states, and the cursor of the next page; None: this is the last one."""


class ClientSearch:
    """Finds clients of one fleet; safe to use from any thread."""

    def __init__(self, fleet: Fleet, skew_ms: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self.states = fleet.states
        self.names = ClientNames(fleet.states)
        self._fleet, self._skew_ms, self._now_s = fleet, skew_ms, now_s
        self._texts: dict[tuple[str, str, int], str] = {}  # of whole buckets: all names in lower case, a line each
        self._texts_of = -1  # which sorting of the names they are of
        self._rare: dict[int | str, CountedNowAndThen[list[str] | None]] = {}

    def page(self, wanted: ClientsWanted, limit: int, cursor: str, budget_s: float = BUDGET_S) -> Page:
        """The first `limit` clients after `cursor` that are wanted; fewer when it takes longer than `budget_s`."""
        found: list[tuple[str, ClientState]] = []
        last, until_s = cursor, 0.0
        for part in self._parts(wanted, cursor):
            until_s = until_s or self._now_s() + budget_s  # names may have had to be put in order before the first part
            for turn, name in enumerate(self._with_text(part, wanted.text)):
                if len(found) == limit or (turn % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 and self._now_s() >= until_s):
                    return found, last
                last = name
                state = self._fleet.published(name)
                if state is not None and self._is(wanted, name, state):
                    found.append((name, state))
            last = part[-1]
            if self._now_s() >= until_s:
                return found, last
        return found, None

    def _is(self, wanted: ClientsWanted, name: str, state: ClientState) -> bool:
        if wanted.status is not None and state.settled != wanted.status:
            return False
        if wanted.group is not None or wanted.device is not None:
            group, device = split_id(name)
            if wanted.group not in (None, group) or wanted.device not in (None, device):
                return False
        if wanted.flag is not None and not self._has(wanted.flag, state):
            return False
        return wanted.matches is None or wanted.matches(name, state.ip)

    def _has(self, flag: str, state: ClientState) -> bool:
        if flag == DOUBTFUL:
            return is_doubtful(state, self._skew_ms)
        return state.on_hold if flag == ON_HOLD else bool(state.flags & FLAPPING)

    def _parts(self, wanted: ClientsWanted, cursor: str) -> Iterator[list[str]]:
        """Names after the cursor in order, among them all that can be wanted; no part is empty."""
        rare = self._rare_ones(wanted)
        if rare is None:
            return self.names.parts(cursor, f"{wanted.group}@@@" if wanted.group else "")
        return (rare[start : start + BUCKET] for start in range(bisect_right(rare, cursor), len(rare), BUCKET))

    def _with_text(self, part: list[str], text: str) -> Iterator[str]:
        """The names of a part that contain the words of a text, in its order: `pump 12` finds `pump-00012`."""
        words = text.split()
        if not words:
            yield from part
            return
        # No name has a line break in it, so nothing is found across two names.
        every = self._text_of(part)
        if all(word in every for word in words):
            yield from (name for name in part if _holds(name.lower(), words))

    def _text_of(self, part: list[str]) -> str:
        """All names of a part in lower case. It is kept: to make it takes ten times as long as to search it."""
        if self._texts_of != self.names.sortings:
            self._texts, self._texts_of = {}, self.names.sortings
        key = part[0], part[-1], len(part)
        found = self._texts.get(key)
        if found is None:
            found = "\n".join(part).lower()
            if len(self._texts) >= MAX_TEXTS:
                self._texts = {}
            if len(part) > BUCKET // 2:
                self._texts[key] = found
        return found

    def _rare_ones(self, wanted: ClientsWanted) -> list[str] | None:
        """The names of all clients with the wanted flag or status, None when these are not rare or nobody asks for them."""
        key: int | str | None = wanted.flag if wanted.flag is not None else wanted.status
        if key is None:
            return None
        find = self._rare.setdefault(key, CountedNowAndThen(self._now_s, SHARE))
        if isinstance(key, str):
            return find.value(partial(_with_flag, self.states, partial(self._has, key)))
        return find.value(partial(_with_status, self.states, key))


def merged(pages: Sequence[Page], limit: int) -> Page:
    """One page out of those of several fleets. What lies after the end of the shortest one comes with the next page."""
    ends = [following for _, following in pages if following is not None]
    end = min(ends) if ends else None
    every = (one for clients, _ in pages for one in clients if end is None or one[0] <= end)
    found = sorted(every, key=itemgetter(0))
    if len(found) > limit:
        return found[:limit], found[limit - 1][0]
    return found, end


def _holds(name: str, words: Sequence[str]) -> bool:
    """Are the words in a name, one after the other?"""
    at = 0
    for word in words:
        at = name.find(word, at)
        if at < 0:
            return False
        at += len(word)
    return True


def _chunks(states: Mapping[str, ClientState]) -> Iterator[tuple[list[str], list[ClientState]]]:
    """All names with their states, some thousand at once. Clients that are forgotten meanwhile may be missing, or with another's state."""
    names, values = list(states), list(states.values())  # each of them is one step of the interpreter
    for start in range(0, min(len(names), len(values)), BUCKET):
        yield names[start : start + BUCKET], values[start : start + BUCKET]


def _with_status(states: Mapping[str, ClientState], status: int) -> list[str] | None:
    """The names of all clients with a status, in order; None when it is not rare."""
    found: list[str] = []
    most = max(FEW, len(states) // RARE)
    for names, values in _chunks(states):
        settled = list(map(_settled, values))
        if status in settled:
            found += compress(names, map(status.__eq__, settled))
            if len(found) > most:
                return None
    return sorted(found)


def _with_flag(states: Mapping[str, ClientState], has: Callable[[ClientState], bool]) -> list[str] | None:
    """The names of all clients with a flag, in order."""
    return sorted(name for names, values in _chunks(states) for name in compress(names, map(has, values)))
