"""Outages: when many clients of one key go offline together, they are one incident.

| what happens                                                                | what comes of it                       |
|-----------------------------------------------------------------------------|----------------------------------------|
| a client settles offline and no outage has room for it                      | the offline clients of its key are counted |
| the count reaches `at_least`, and `percent` of those online plus the counted| an outage opens with all that were counted |
| a client settles offline within `within` of the latest to join              | it joins                               |
| a member is back                                                            | it is counted back                     |
| all are back                                                                | the outage is over                     |
| fewer than half of the peak down, no member joined or back for `within`     | the outage is over                     |

"Down" is observed offline, settled or on hold, until it is online again and settled; "within" compares when changes
occurred, so backlog and live news are counted alike. A client that goes offline too late to join and is enough with others opens
a second outage of the same key beside the first: a new failure is never swallowed by an old one.

`OutageWatch` is one rule's half: counts and members. What its alerts do is in `outage_alerts`. Read `OutageWatch.settled_offline` first.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.core.alerting.offline_index import OfflineIndex
from engine.core.keys import key_text, values_of
from engine.core.matching import Attributes
from engine.core.presence.client_state import NEVER, OFFLINE, ONLINE, UNKNOWN, ClientState
from engine.core.rules import OutageTerms, Rule


class Outage:
    """One incident and its members. A store keeps the arguments of `__init__` and, a row each, the members (`Output.members`)."""

    __slots__ = (
        "calm_at_ms",
        "down",
        "earliest_ms",
        "is_over",
        "key",
        "latest_ms",
        "members",
        "name",
        "peak",
        "quiet_since_ms",
        "rule",
    )

    def __init__(
        self, name: str, rule: str, key: str, earliest_ms: int, latest_ms: int, quiet_since_ms: int, peak: int
    ) -> None:
        self.name = name  # that of its alert
        self.rule = rule
        self.key = key  # JSON of {by: value}
        self.earliest_ms = earliest_ms  # when its members' changes occurred, the first and the latest of them
        self.latest_ms = latest_ms
        self.quiet_since_ms = quiet_since_ms  # when a member joined or came back last, the engine's clock
        self.peak = peak  # the most that were down at once
        self.members: dict[str, bool] = {}  # everybody who ever joined -> is it down?
        self.down = 0
        self.calm_at_ms: int | None = None  # when it is looked at for calm
        self.is_over = False

    @property
    def total(self) -> int:
        """How many ever joined."""
        return len(self.members)

    @property
    def back(self) -> int:
        """How many of them are back."""
        return len(self.members) - self.down

    def is_down(self, client: str) -> bool:
        """Is the client a member that is down?"""
        return self.members.get(client, False)

    def offline_members(self) -> Iterator[str]:
        """The members that are down, in the order in which they joined."""
        for client, is_down in self.members.items():
            if is_down:
                yield client


class _Key:
    """The clients of one key: how many are online, and who is down."""

    __slots__ = ("offline", "online")

    def __init__(self) -> None:
        self.online = 0
        self.offline = OfflineIndex()


def offline_since(state: ClientState) -> int:
    """When the change occurred that took a client offline (epoch ms), for one that is observed offline."""
    return state.hold_occurred_at_ms if state.hold_since_ms != NEVER else state.occurred_at_ms


def is_down(state: ClientState) -> bool:
    """Is the client observed offline? One that no event ever named is not: it never was anywhere else."""
    return state.observed == OFFLINE and state.heard_ms != NEVER


def differ(before: ClientState, after: ClientState) -> bool:
    """Do two states of a client count differently, or elsewhere?"""
    if before.observed != after.observed or before.ip != after.ip:
        return True
    if after.observed != OFFLINE:
        return False
    return is_down(before) != is_down(after) or offline_since(before) != offline_since(after)


class OutageWatch:
    """One outage rule: every key's counts, and the outages going on."""

    def __init__(self, rule: Rule, attributes: Attributes) -> None:
        self.rule = rule
        self.terms = rule.outage or OutageTerms()
        self.outages: dict[str, list[Outage]] = {}  # by key, none empty
        self.member_of: dict[str, Outage] = {}
        self._attributes = attributes
        self._keys: dict[str, _Key] = {}
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

    # Counts

    def clear(self) -> None:
        """Forget the counts: they are to be taken anew."""
        self._keys.clear()

    def put(self, client: str, state: ClientState) -> None:
        """Count the client as its state is."""
        key = self.key_of(client, state.ip)
        if key is None or state.observed == UNKNOWN:
            return
        counts = self._keys.get(key)
        if counts is None:
            counts = self._keys[key] = _Key()
        if state.observed == ONLINE:
            counts.online += 1
        elif is_down(state):
            counts.offline.add(offline_since(state), client)

    def take(self, client: str, state: ClientState) -> None:
        """Count the client no longer as its state was."""
        key = self.key_of(client, state.ip)
        counts = self._keys.get(key) if key is not None else None
        if counts is None:
            return
        if state.observed == ONLINE:
            counts.online -= 1
        elif is_down(state):
            counts.offline.remove(offline_since(state), client)
        if key is not None and not counts.online and counts.offline.is_empty:  # addresses change: keys do not pile up
            del self._keys[key]
            self._refused.pop(key, None)

    # Outages

    def settled_offline(self, client: str, state: ClientState, at_ms: int) -> tuple[Outage | None, list[str]]:
        """A client has settled offline: the outage it joins, or who makes up a new one with it; (None, []) for neither."""
        known = self.member_of.get(client)
        if known is not None and known.is_down(client):
            return None, []  # it was counted while it was on hold
        key = self.key_of(client, state.ip)
        if key is None:
            return None, []
        terms, occurred_ms = self.terms, state.occurred_at_ms
        from_ms = occurred_ms - terms.within_ms
        others = 0  # those down since then who have an outage of their own
        for outage in self.outages.get(key, ()):
            if from_ms <= outage.latest_ms and occurred_ms + terms.within_ms >= outage.earliest_ms:
                return outage, []
            if outage.earliest_ms > occurred_ms:
                others += outage.down
        counts = self._keys.get(key)
        enough = self._enough(counts.online) if counts is not None else None
        if counts is None or enough is None:
            return None, []
        refused = self._refused.get(key)
        if (
            refused is not None
        ):  # asked again when it has grown, by so much that asking does not cost more than counting
            enough = max(enough, refused + 1 + refused // 64)
        found = counts.offline.count(from_ms, enough + others) - others
        if found < enough:
            if refused is not None and found < refused:
                del self._refused[key]
            return None, []
        return None, [name for _, name in counts.offline.since(from_ms) if not self._is_down(name)]

    def _is_down(self, client: str) -> bool:
        outage = self.member_of.get(client)
        return outage is not None and outage.is_down(client)

    def _enough(self, online: int) -> int | None:
        """How many down make an outage beside so many online; None: no number does."""
        percent = self.terms.percent
        if percent >= 100:
            return None if online else max(1, self.terms.at_least)
        least = int(percent * online / (100 - percent))
        while least * (100 - percent) < percent * online:
            least += 1
        return max(1, self.terms.at_least, least)

    def open(self, outage: Outage) -> None:
        """An outage begins; its members are to join."""
        self.outages.setdefault(outage.key, []).append(outage)

    def refuse(self, outage: Outage) -> None:
        """It is none: the rule's condition says so."""
        self.close(outage)
        self._refused[outage.key] = outage.down

    def join(self, outage: Outage, client: str, occurred_ms: int, at_ms: int) -> None:
        """The client is down and one of the outage's members now."""
        outage.members[client] = True
        outage.down += 1
        outage.peak = max(outage.peak, outage.down)
        outage.earliest_ms = min(outage.earliest_ms, occurred_ms)
        outage.latest_ms = max(outage.latest_ms, occurred_ms)
        outage.quiet_since_ms = at_ms
        self.member_of[client] = outage

    def back(self, client: str, at_ms: int) -> Outage | None:
        """The client is online: the outage it was down in, None when it was in none."""
        outage = self.member_of.get(client)
        if outage is None or not outage.is_down(client):
            return None
        outage.members[client] = False
        outage.down -= 1
        outage.quiet_since_ms = at_ms
        return outage

    def looks_calm(self, outage: Outage) -> bool:
        """Are fewer than half of its peak down? It is over when no member joins or comes back for `within` then."""
        return 2 * outage.down < outage.peak

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
                for other in beside:  # an earlier one that is not over yet
                    if client in other.members:
                        self.member_of[client] = other

    def restore(self, outage: Outage) -> None:
        """An outage that a store kept, with its members; the earlier ones first."""
        self.open(outage)
        for client, is_down in outage.members.items():
            outage.down += is_down
            known = self.member_of.get(client)
            if is_down or known is None or not known.is_down(client):
                self.member_of[client] = outage
