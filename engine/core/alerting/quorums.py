"""Quorums: so many of a key's clients are settled offline, whenever they went.

| a client of the key                  | what comes of it                                                           |
|--------------------------------------|----------------------------------------------------------------------------|
| settles offline                      | enough are down: the quorum is reached, unless an alert of the key is open |
| settles online, is forgotten, or moves to another key | fewer are down: the quorum is over                        |
| becomes known, online                | the same part of more clients is more of them: with `percent` it may be over |

The clients of a key are those whose status is known, and those that the inventory lists by their whole ids, be they known or not.
With `percent` and an inventory of whole ids alone they are those that it lists: it says how many there should be.

`QuorumWatch` is one rule's half: it counts. Each change costs the same, however many clients there are. What its alerts do is in
`quorum_alerts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.core.keys import PREFIX, key_text, values_of
from engine.core.matching import Attributes, Listing
from engine.core.presence.client_state import OFFLINE, UNKNOWN, ClientState
from engine.core.rules import QuorumTerms, Rule

MAX_CACHED_TEXTS: Final = 20_000
"""Texts of keys that are remembered; a full memory is emptied."""

NOBODY: Sequence[str] = ()


class _Key:
    """The clients of one key: who is down, and how many there are."""

    __slots__ = ("down", "total")

    def __init__(self) -> None:
        self.down: dict[str, None] = {}
        self.total = 0


class QuorumWatch:
    """The counts of one rule, by key."""

    def __init__(self, rule: Rule, attributes: Attributes, listing: Listing) -> None:
        self.rule = rule
        self.terms = rule.quorum or QuorumTerms()
        self.reads_ip = bool(rule.match.ip) or any(name.startswith(PREFIX) for name in self.terms.by)
        self._only_listed = self.terms.percent > 0 and not listing.has_patterns
        self._attributes = attributes
        self._listing = listing
        self._texts: dict[tuple[str, ...], str] = {}  # values -> the key's text
        self._keys: dict[str, _Key] = {}
        self._key_of_down: dict[str, str] = {}

    def clear(self) -> None:
        """Forget the counts: they are to be taken anew."""
        self._keys.clear()
        self._key_of_down.clear()

    def key_of(self, client: str, ip: str) -> str | None:
        """The key that a client belongs to; None for one that lacks a value."""
        values = values_of(self.terms.by, client, ip, self._attributes(client))
        parts = tuple(values.values())
        text = self._texts.get(parts)
        if text is None:
            if not all(parts):
                return None
            if len(self._texts) >= MAX_CACHED_TEXTS:
                self._texts.clear()
            text = self._texts[parts] = key_text(values)
        return text

    def key_if_counted(self, client: str, state: ClientState) -> str | None:
        """The key that the client counts in; None when it counts in none."""
        if not self._listing.lists(client) and (self._only_listed or state.settled == UNKNOWN):
            return None
        return self.key_of(client, state.ip)

    def change(self, client: str, ip: str, before: int, after: int) -> str | None:
        """A settled status became another; returns the client's key, None for one that does not count."""
        if before == UNKNOWN or after == UNKNOWN:
            self.take(client, ip, before)
            return self.put(client, ip, after)
        if self._only_listed and not self._listing.lists(client):
            return None
        key = self.key_of(client, ip)
        counts = self._keys.get(key) if key is not None else None
        if key is None or counts is None:
            return None
        if after == OFFLINE:
            counts.down[client] = None
            self._key_of_down[client] = key
        else:
            counts.down.pop(client, None)
            self._key_of_down.pop(client, None)
        return key

    def put(self, client: str, ip: str, settled: int) -> str | None:
        """Count the client as one of this settled status; returns its key, None for one that does not count."""
        is_listed = self._listing.lists(client)
        if not is_listed and (self._only_listed or settled == UNKNOWN):
            return None
        key = self.key_of(client, ip)
        if key is None:
            return None
        counts = self._keys.get(key)
        if counts is None:
            counts = self._keys[key] = _Key()
        counts.total += 1
        if settled == OFFLINE:
            counts.down[client] = None
            self._key_of_down[client] = key
        return key

    def take(self, client: str, ip: str, settled: int) -> str | None:
        """Count it no longer as it was counted by the same arguments; returns the key that it was counted in."""
        is_listed = self._listing.lists(client)
        if not is_listed and (self._only_listed or settled == UNKNOWN):
            return None
        key = self.key_of(client, ip)
        counts = self._keys.get(key) if key is not None else None
        if key is None or counts is None:
            return None
        counts.total -= 1
        if settled == OFFLINE:
            counts.down.pop(client, None)
            self._key_of_down.pop(client, None)
        if not counts.total:  # addresses change: keys do not pile up
            del self._keys[key]
        return key

    def is_reached(self, key: str) -> bool:
        """Are enough of the key's clients down?"""
        counts = self._keys.get(key)
        return counts is not None and len(counts.down) >= self.needed(counts.total)

    def needed(self, total: int) -> int:
        """How many down are enough among so many."""
        if self.terms.down:
            return self.terms.down
        least = int(self.terms.percent * total / 100)
        while least * 100 < self.terms.percent * total:
            least += 1
        return max(1, least)

    def down(self, key: str) -> Sequence[str]:
        """The key's clients that are down."""
        counts = self._keys.get(key)
        return list(counts.down) if counts is not None else NOBODY

    def size(self, key: str) -> tuple[int, int]:
        """How many of the key's clients are down, and how many there are."""
        counts = self._keys.get(key)
        return (len(counts.down), counts.total) if counts is not None else (0, 0)

    def key_where_down(self, client: str) -> str | None:
        """The key in which the client counts as down; None when it does not."""
        return self._key_of_down.get(client)

    def reached(self) -> list[str]:
        """Every key of which enough clients are down."""
        return [key for key in self._keys if self.is_reached(key)]


class Quorums:
    """The watches of all quorum rules: who a quorum is about, for whoever asks."""

    def __init__(self) -> None:
        self.watches: dict[str, QuorumWatch] = {}  # by rule
        self.reads_ip = False  # does a change of address alone matter to any of them?

    def down(self, rule: str, key: str) -> Sequence[str]:
        """The clients of a rule's key that are down."""
        watch = self.watches.get(rule)
        return watch.down(key) if watch is not None else NOBODY

    def size(self, rule: str, key: str) -> tuple[int, int]:
        """How many of a rule's key are down, and how many there are."""
        watch = self.watches.get(rule)
        return watch.size(key) if watch is not None else (0, 0)

    def key_where_down(self, rule: str, client: str) -> str | None:
        """The key of a rule in which the client counts as down; None when it does not."""
        watch = self.watches.get(rule)
        return watch.key_where_down(client) if watch is not None else None
