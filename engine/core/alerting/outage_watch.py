"""One outage rule at work: the counts of every key, and which outages open, grow and end by them.

What an outage is, and when, is told in `outages`. Each change of a client costs about the square root of how many are offline with
it, never a look at all of them. Read `OutageWatch.settled_offline` first.
"""

from __future__ import annotations

from engine.core.alerting.offline_index import OfflineIndex
from engine.core.alerting.outages import (
    BACK,
    DOWN,
    GONE_AGAIN,
    Outage,
    is_down,
    offline_since,
)
from engine.core.keys import key_text, values_of
from engine.core.matching import Attributes
from engine.core.presence.client_state import ONLINE, UNKNOWN, ClientState
from engine.core.rules import OutageTerms, Rule
from engine.core.times import FOREVER


class KeyCounts:
    """The clients of one key: how many are online, and who is offline."""

    __slots__ = ("offline", "online")

    def __init__(self) -> None:
        self.online = 0
        self.offline = OfflineIndex()


class OutageWatch:
    """One outage rule: every key's counts, and the outages going on."""

    def __init__(self, rule: Rule, attributes: Attributes) -> None:
        self.rule = rule
        self.terms = rule.outage or OutageTerms()
        self.outages: dict[str, list[Outage]] = {}  # by key, the earlier ones first, none empty
        self.member_of: dict[str, Outage] = {}  # the outage that a client joined last, for those that are down or back
        self.counts: dict[str, KeyCounts] = {}  # by key
        self._attributes = attributes
        self._refused: dict[str, int] = {}  # how many were down when the rule's condition said that this is no outage

    def edited(self, rule: Rule, attributes: Attributes) -> OutageWatch:
        """The watch over the same rule as it is now: outages go on, counts are to be taken anew."""
        after = OutageWatch(rule, attributes)
        after.outages, after.member_of = self.outages, self.member_of
        return after

    def key_of(self, client: str, ip: str) -> str | None:
        """The key that a client belongs to; None for one that lacks a value."""
        values = values_of(self.terms.by, client, ip, self._attributes(client))
        return key_text(values) if all(values.values()) else None

    def outage_about(self, client: str, state: ClientState) -> Outage | None:
        """The outage going on in which a client is down, else the newest of its key; None for none."""
        if self.is_down(client):
            return self.member_of[client]
        key = self.key_of(client, state.ip)
        outages = self.outages.get(key) if key is not None else None
        return outages[-1] if outages else None

    # Counts

    def clear(self) -> None:
        """Forget the counts: they are to be taken anew."""
        self.counts.clear()
        for outages in self.outages.values():
            for outage in outages:
                outage.offline = OfflineIndex()

    def put(self, client: str, state: ClientState) -> str | None:
        """Count the client as its state is; returns its key."""
        key = self.key_of(client, state.ip)
        if key is None or state.observed == UNKNOWN:
            return key
        counts = self.counts.get(key)
        if counts is None:
            counts = self.counts[key] = KeyCounts()
        if state.observed == ONLINE:
            counts.online += 1
        elif is_down(state):
            counts.offline.add(offline_since(state), client)
        return key

    def take(self, client: str, state: ClientState) -> str | None:
        """Count the client no longer as its state was; returns its key."""
        key = self.key_of(client, state.ip)
        counts = self.counts.get(key) if key is not None else None
        if counts is None:
            return key
        if state.observed == ONLINE:
            counts.online -= 1
        elif is_down(state):
            counts.offline.remove(offline_since(state), client)
        if key is not None and not counts.online and counts.offline.is_empty:  # addresses change: keys do not pile up
            del self.counts[key]
            self._refused.pop(key, None)
        return key

    def put_member(self, client: str, state: ClientState) -> None:
        """Count the client in the outage in which it is down, if there is one."""
        outage = self.member_of.get(client)
        if outage is not None and outage.is_down(client) and is_down(state):
            outage.offline.add(offline_since(state), client)

    def take_member(self, client: str, state: ClientState) -> None:
        """Count it there no longer as its state was."""
        outage = self.member_of.get(client)
        if outage is not None and outage.is_down(client) and is_down(state):
            outage.offline.remove(offline_since(state), client)

    # Is there an outage, and how big is it?

    def settled_offline(self, client: str, state: ClientState) -> tuple[Outage | None, list[str]]:
        """A client has settled offline that is not down in an outage yet: the one it joins, or who makes up a new one with it.

        (None, []) for neither.
        """
        key = self.key_of(client, state.ip)
        counts = self.counts.get(key) if key is not None else None
        if key is None or counts is None:
            return None, []
        outage = self.joined_by(key, state.occurred_at_ms)
        return (outage, []) if outage is not None else (None, self._founders(key, counts, state.occurred_at_ms))

    def joined_by(self, key: str, occurred_ms: int) -> Outage | None:
        """The outage that a client of the key joins which went offline at that instant, the newest; None for none."""
        for outage in reversed(self.outages.get(key, ())):
            if self.is_that_big(outage, occurred_ms):
                return outage
        return None

    def is_that_big(self, outage: Outage, occurred_ms: int) -> bool:
        """Is the outage still as big as it takes for one more, offline since that instant, to join?"""
        counts, terms = self.counts.get(outage.key), self.terms
        if counts is None:
            return False
        if not terms.percent:
            return counts.offline.count(occurred_ms - terms.within_ms, terms.at_least) >= terms.at_least
        # Members whose online hold lasts are down, and among those that are online already.
        all_of_them = counts.online + len(outage.offline) + 1
        return 100 * (outage.down + 1) >= terms.percent * all_of_them

    def _founders(self, key: str, counts: KeyCounts, occurred_ms: int) -> list[str]:
        """Who makes up a new outage with a client that went offline at that instant; [] when they are too few."""
        enough = self._enough(counts.online)
        if enough is None:
            return []
        from_ms = occurred_ms - self.terms.within_ms
        refused = self._refused.get(key)
        if refused is not None:
            # Asked again when it has grown, by so much that asking does not cost more than counting.
            enough = max(enough, refused + 1 + refused // 64)
        elsewhere = 0  # those down since then who have an outage already
        for outage in self.outages.get(key, ()):
            elsewhere += outage.offline.count(from_ms, FOREVER)
        found = counts.offline.count(from_ms, enough + elsewhere) - elsewhere
        if found < enough:
            if refused is not None and found < refused:
                del self._refused[key]
            return []
        return [client for _, client in counts.offline.since(from_ms) if not self.is_down(client)]

    def _enough(self, online: int) -> int | None:
        """How many down make an outage beside so many online; None: no number does."""
        percent = self.terms.percent
        if percent >= 100:
            return None if online else max(1, self.terms.at_least)
        least = int(percent * online / (100 - percent))
        while least * (100 - percent) < percent * online:
            least += 1
        return max(1, self.terms.at_least, least)

    def is_down(self, client: str) -> bool:
        """Is the client down in an outage?"""
        outage = self.member_of.get(client)
        return outage is not None and outage.is_down(client)

    def returned_to(self, client: str) -> Outage | None:
        """The outage that the client has come back from, if it has not gone offline since; None for none."""
        outage = self.member_of.get(client)
        return outage if outage is not None and outage.has_returned(client) else None

    def would_join(self, client: str, state: ClientState) -> Outage | None:
        """The outage that a client on hold, which the rule matches, would join if it settled now; None for none."""
        key = self.key_of(client, state.ip)
        return self.joined_by(key, state.hold_occurred_at_ms) if key is not None else None

    # What becomes of an outage

    def open(self, outage: Outage) -> None:
        """An outage begins; its members are to join."""
        self.outages.setdefault(outage.key, []).append(outage)

    def refuse(self, outage: Outage) -> None:
        """It is none: the rule's condition says so."""
        self.close(outage)
        self._refused[outage.key] = outage.down

    def join(self, outage: Outage, client: str, state: ClientState, at_ms: int) -> Outage | None:
        """The client is down and one of the outage's members now. Returns another outage that it had come back from, if any."""
        before = self.member_of.get(client)
        occurred_ms = offline_since(state)
        outage.members[client] = DOWN
        outage.offline.add(occurred_ms, client)
        outage.down += 1
        outage.peak = max(outage.peak, outage.down)
        outage.earliest_ms = min(outage.earliest_ms, occurred_ms)
        outage.quiet_since_ms = at_ms
        self.member_of[client] = outage
        if before is None or before is outage or not before.has_returned(client):
            return None
        before.members[client] = GONE_AGAIN
        return before

    def gone_again(self, client: str) -> Outage | None:
        """A client has settled offline and joined no outage: the one it had come back from, None when there is none."""
        outage = self.returned_to(client)
        if outage is not None:
            outage.members[client] = GONE_AGAIN
        return outage

    def return_to(self, outage: Outage, client: str) -> None:
        """The client had come back from this outage, and the one that it joined since is none."""
        outage.members[client] = BACK
        self.member_of[client] = outage

    def back(self, client: str, at_ms: int) -> Outage | None:
        """The client is online: the outage it was down in, None when it was in none."""
        outage = self.member_of.get(client)
        if outage is None or not outage.is_down(client):
            return None
        outage.members[client] = BACK
        outage.down -= 1
        outage.quiet_since_ms = at_ms
        return outage

    def ends_at(self, outage: Outage) -> int | None:
        """When the outage is over if no member joins or comes back before; None: that alone does not end it."""
        due_ms = FOREVER
        if 2 * outage.down < outage.peak:
            due_ms = outage.quiet_since_ms + self.terms.within_ms
        if outage.back:
            due_ms = min(due_ms, outage.quiet_since_ms + self.terms.recover_within_ms)
        return due_ms if due_ms < FOREVER else None

    def close(self, outage: Outage) -> None:
        """The outage is over."""
        outage.is_over = True
        beside = self.outages.get(outage.key, [])
        if outage in beside:
            beside.remove(outage)
        if not beside:
            self.outages.pop(outage.key, None)
        for client in outage.members:
            if self.member_of.get(client) is outage:
                del self.member_of[client]

    def restore(self, outage: Outage) -> None:
        """An outage that a store kept, with its members; the earlier ones first. Counts are to be taken anew.

        A client is down in one at most, and has come back for good from one at most: the one it joined last.
        """
        self.open(outage)
        for client, standing in outage.members.items():
            outage.down += standing == DOWN
            if standing != GONE_AGAIN:
                self.member_of[client] = outage
