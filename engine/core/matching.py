"""Which rules could concern a client: the static half of matching, cacheable per client.

Every pattern of every rule is compiled once into one pattern set a field, and each pattern knows the rules it belongs to
as a bit mask; the rules that concern a client are the AND of one mask a field. So a thousand rules cost a handful of
look-ups for a client that is new, and one dictionary look-up for one that is known. Read `Matcher.plan` first.

What decides when an alert is due (`for`, `condition`, the stages) is in `alerting.pipeline`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from engine.core.addresses import Network, address, network
from engine.core.presence.client_state import split_id
from engine.core.rules import TRIGGERS, UNDELIVERED, Match, Rule, inhibitors_of

MAX_CACHED_PLANS: Final = 200_000
"""Clients whose plan is remembered; beyond, the memory is emptied and fills again."""

MAX_CACHED_VALUES: Final = 20_000
"""Groups, addresses and attribute values whose mask is remembered."""


class PatternSet(Protocol):
    """Many patterns, matched against one text at once."""

    def matching(self, text: str) -> Sequence[int]:
        """The indices of all patterns that match the whole of `text`."""
        ...


CompilePatterns = Callable[[Sequence[str]], PatternSet]
Attributes = Callable[[str], Mapping[str, str]]


class Listing(Protocol):
    """Which clients the inventory lists by their whole ids, as opposed to patterns."""

    def lists(self, client: str) -> bool:
        """Does a row have exactly this id?"""
        ...

    def clients(self) -> Sequence[str]:
        """Every id that rows have."""
        ...

    @property
    def has_patterns(self) -> bool:
        """Is there a row with a pattern, or none at all, so that clients may exist that nobody has listed?"""
        ...


class NoListing:
    """The listing of an inventory that there is not."""

    def lists(self, client: str) -> bool:
        """See `Listing`."""
        return False

    def clients(self) -> Sequence[str]:
        """See `Listing`."""
        return ()

    @property
    def has_patterns(self) -> bool:
        """See `Listing`."""
        return True


NO_LISTING: Final = NoListing()


class Plan:
    """The rules that could concern one client, by trigger, in the order in which they were written."""

    __slots__ = (*TRIGGERS, "rules")
    rules: tuple[Rule, ...]
    offline: tuple[Rule, ...]
    online: tuple[Rule, ...]
    first_seen: tuple[Rule, ...]
    never_seen: tuple[Rule, ...]
    flapping: tuple[Rule, ...]
    stable: tuple[Rule, ...]
    duplicate: tuple[Rule, ...]
    outage: tuple[Rule, ...]
    quorum: tuple[Rule, ...]
    schedule: tuple[Rule, ...]
    unverified: tuple[Rule, ...]
    feed: tuple[Rule, ...]
    cell: tuple[Rule, ...]
    undelivered: tuple[Rule, ...]

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        for trigger in TRIGGERS:
            setattr(self, trigger, tuple(rule for rule in rules if trigger in rule.triggers))


class _Field:
    """One matched field over all matches: value -> mask of the matches that accept it."""

    __slots__ = ("_cache", "_masks", "_open", "_set", "used")

    def __init__(self, wanted: Iterable[tuple[str, ...]], compile_patterns: CompilePatterns) -> None:
        patterns: dict[str, int] = {}
        self._open = 0  # matches that do not ask for this field
        for index, accepted in enumerate(wanted):
            if not accepted:
                self._open |= 1 << index
            for pattern in accepted:
                patterns[pattern] = patterns.get(pattern, 0) | 1 << index
        self.used = bool(patterns)
        self._masks = list(patterns.values())
        self._set = compile_patterns(list(patterns)) if patterns else None
        self._cache: dict[str, int] = {}

    def mask(self, value: str) -> int:
        mask = self._open
        if self._set is not None:
            for index in self._set.matching(value):
                mask |= self._masks[index]
        return mask

    def cached_mask(self, value: str) -> int:
        mask = self._cache.get(value)
        if mask is None:
            if len(self._cache) >= MAX_CACHED_VALUES:
                self._cache.clear()
            mask = self._cache[value] = self.mask(value)
        return mask


class _Networks:
    """The `ip` field: address -> mask of the matches whose networks contain it."""

    __slots__ = ("_four", "_open", "_six", "used")

    def __init__(self, wanted: Iterable[tuple[str, ...]]) -> None:
        self._open = 0
        networks: dict[Network, int] = {}
        for index, accepted in enumerate(wanted):
            if not accepted:
                self._open |= 1 << index
            for text in accepted:
                found = network(text)
                networks[found] = networks.get(found, 0) | 1 << index
        self.used = bool(networks)
        # (netmask, network address, matches), as numbers: compared for every address that was never seen before
        entries = [(net.version, int(net.netmask), int(net.network_address), mask) for net, mask in networks.items()]
        self._four = [entry[1:] for entry in entries if entry[0] == 4]
        self._six = [entry[1:] for entry in entries if entry[0] == 6]

    def mask(self, text: str) -> int:
        mask = self._open
        networks = self._four
        try:
            if ":" in text:
                address = ipaddress.IPv6Address(text)
                mapped = address.ipv4_mapped
                networks = self._six if mapped is None else self._four
                number = int(address) if mapped is None else int(mapped)
            else:
                number = _ipv4(text)
        except ValueError:
            return mask  # a device may claim anything; what is no address is in no network
        for netmask, start, matches in networks:
            if number & netmask == start:
                mask |= matches
        return mask


def _ipv4(text: str) -> int:
    """The number of an address as four decimal bytes, by the rules of `ipaddress.IPv4Address`, which takes ten times as long.

    Raises ValueError for any other text.
    """
    parts = text.split(".")
    if len(parts) != 4 or not text.isascii():
        raise ValueError(text)
    number = 0
    for part in parts:
        if not part.isdecimal() or len(part) > 3 or (part[0] == "0" and part != "0"):
            raise ValueError(text)
        byte = int(part)
        if byte > 255:
            raise ValueError(text)
        number = number << 8 | byte
    return number


class MatchSet:
    """Many `match` mappings, asked at once which of them hold for a client."""

    def __init__(self, matches: Sequence[Match], attributes: Attributes, compile_patterns: CompilePatterns) -> None:
        self._all = (1 << len(matches)) - 1
        self._attributes = attributes
        self._group = _Field((match.group for match in matches), compile_patterns)
        self._device = _Field((match.device for match in matches), compile_patterns)
        self._client = _Field((match.client for match in matches), compile_patterns)
        self._networks = _Networks([match.ip for match in matches])
        columns = sorted({column for match in matches for column, _ in match.attributes})
        self._columns = [
            (column, _Field([dict(match.attributes).get(column, ()) for match in matches], compile_patterns))
            for column in columns
        ]
        self.reads_ip = self._networks.used
        self.reads_client = self._device.used or self._client.used or bool(columns)

    def mask(self, client: str, ip: str) -> int:
        """A bit for each match that holds; `ip` is `ip:port` as the broker wrote it."""
        mask = self.mask_of_client(client)
        return mask & self.mask_of_ip(ip) if mask else 0

    def mask_of_ip(self, ip: str) -> int:
        """A bit for each match that an address leaves open; `ip` is `ip:port` as the broker wrote it."""
        return self._networks.mask(address(ip)) if self.reads_ip else self._all

    def mask_of_client(self, client: str) -> int:
        """A bit for each match that holds for everything but the address."""
        mask = self._all
        if not mask:
            return 0
        group, device = split_id(client)
        mask &= self._group.cached_mask(group)
        if mask and self._device.used:
            mask &= self._device.mask(device)
        if mask and self._client.used:
            mask &= self._client.mask(client)
        if mask and self._columns:
            values = self._attributes(client)
            for column, field in self._columns:
                mask &= field.cached_mask(values.get(column, ""))
        return mask


@mypyc_attr(acyclic=True)
class _Known:
    """What was found for one client, and the `ip:port` it was found for."""

    __slots__ = ("ip", "plan")

    def __init__(self, ip: str, plan: Plan) -> None:
        self.ip = ip
        self.plan: Final = plan


def inhibitors_first(rules: Sequence[Rule]) -> list[Rule]:
    """The rules as they were written, but each behind all that inhibit it; names in a cycle are taken as they come."""
    if not any(inhibitors_of(rule) for rule in rules):
        return list(rules)
    named = {rule.name: rule for rule in rules}
    placed: dict[str, Rule] = {}
    begun: set[str] = set()
    for first in rules:
        waiting = [first]
        while waiting:
            rule = waiting[-1]
            before = [
                name for name in inhibitors_of(rule) if name in named and name not in begun and name not in placed
            ]
            if rule.name in begun or not before:
                placed.setdefault(rule.name, rule)
                waiting.pop()
            else:
                waiting += [named[name] for name in reversed(before)]
            begun.add(rule.name)
    return list(placed.values())


class Matcher:
    """All rules, ready to say which could concern a client."""

    def __init__(self, rules: Sequence[Rule], attributes: Attributes, compile_patterns: CompilePatterns) -> None:
        rules = inhibitors_first(rules)
        self.rules = tuple(rules)
        self.attributes = attributes
        self.compile_patterns = compile_patterns
        self._matches = MatchSet([rule.match for rule in rules], attributes, compile_patterns)
        self._plans: dict[int, Plan] = {}
        self._masks: dict[str, int] = {}  # client (or its group, when no rule reads more of it) -> mask
        self._known: dict[str, _Known] = {}  # client -> its plan where it was last seen
        self.feed = tuple(rule for rule in rules if "feed" in rule.triggers)
        self.cell = tuple(rule for rule in rules if "cell" in rule.triggers)
        self.undelivered = tuple(rule for rule in rules if UNDELIVERED in rule.triggers)
        self._duplicate = sum([1 << index for index, rule in enumerate(self.rules) if "duplicate" in rule.triggers])
        self._everyone = None if self._needs_client() else Plan(self.rules)

    def _needs_client(self) -> bool:
        return any(rule.match != Match() for rule in self.rules)

    def plan(self, client: str, ip: str) -> Plan:
        """The rules that could concern `client`; cached."""
        if self._everyone is not None:
            return self._everyone
        known = self._known.get(client)
        if known is not None:
            if known.ip == ip or not self._matches.reads_ip:
                return known.plan
            if address(known.ip) == address(ip):  # only the port is another
                known.ip = ip
                return known.plan
        plan = self._plan_of(self._mask(client) & self._matches.mask_of_ip(ip))
        if len(self._known) >= MAX_CACHED_PLANS:
            self._known.clear()
        self._known[client] = _Known(ip, plan)
        return plan

    def watches_duplicates_of(self, client: str) -> bool:
        """Could a rule of trigger `duplicate` concern `client`, wherever it connects from?"""
        return self._duplicate != 0 and self._duplicate & self._mask(client) != 0

    def _mask(self, client: str) -> int:
        key = client if self._matches.reads_client else split_id(client)[0]
        mask = self._masks.get(key)
        if mask is None:
            mask = self._matches.mask_of_client(client)
            if len(self._masks) >= MAX_CACHED_PLANS:
                self._masks.clear()
            self._masks[key] = mask
        return mask

    def _plan_of(self, mask: int) -> Plan:
        plan = self._plans.get(mask)
        if plan is None:
            if len(self._plans) >= MAX_CACHED_VALUES:
                self._plans.clear()
            plan = Plan(tuple(rule for index, rule in enumerate(self.rules) if mask >> index & 1))
            self._plans[mask] = plan
        return plan
