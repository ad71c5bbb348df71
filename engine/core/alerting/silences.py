"""Silences: which alerts an operator keeps back for a while, by their clients, by their rules, or by both. Read `Silences.covering` first.

A silence keeps firings and reminders back, never the recovery of a firing that was sent. Its matchers are about clients. Of what is
about no client it covers an outage, a quorum or a schedule whose key its matchers hold for, or all of whose clients it covers, and an alert about
a source or a receiver if a matcher names that (`source`, `target`). A silence without any matcher covers every alert of its rules, feeds
included; without rules too, it covers everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from engine.core.addresses import network
from engine.core.keys import PREFIX
from engine.core.matching import Attributes, CompilePatterns, MatchSet, PatternSet
from engine.core.rules import Match

SUBJECTS: Final = ("source", "target")
"""Names that a matcher may have beside those of clients: what an alert that has no client is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """From `from_ms` on, the end `until_ms` excluded. A store keeps all of it and hands back those that are not over."""

    id: str
    match: Match
    rules: tuple[str, ...] = ()  # patterns for the names of rules; none: alerts of every rule
    from_ms: int
    until_ms: int
    author: str = ""
    comment: str = ""
    planned: bool = (
        False  # was it made for an instant to come? People wrote that down, so no step of the clock moves it
    )

    def is_on(self, at_ms: int) -> bool:
        """Does it silence at this instant?"""
        return self.from_ms <= at_ms < self.until_ms


class Silences:
    """Every silence that is not over, ready to say which covers a client."""

    def __init__(self) -> None:
        self.open: dict[str, Silence] = {}
        self.listed: list[Silence] = []  # a mask has a bit for each
        self._attributes: Attributes | None = None
        self._clients: MatchSet | None = None
        self._keys: MatchSet | None = None
        self._key: Mapping[str, str] = {}
        self._about_subjects = 0  # those whose matchers name what only alerts without a client are about
        self._any_rule = 0  # those of every rule
        self._patterns: PatternSet | None = None  # for the names of rules
        self._of_pattern: list[int] = []
        self._of_rule: dict[str, int] = {}

    def set(self, silences: Iterable[Silence], attributes: Attributes, compile_patterns: CompilePatterns) -> None:
        """These are the silences now."""
        self.open = {silence.id: silence for silence in silences}
        # The one that lasts longest is found first, so that what it covers is looked at once.
        self.listed = sorted(self.open.values(), key=lambda silence: (-silence.until_ms, silence.id))
        matches = [silence.match for silence in self.listed]
        self._attributes = attributes
        self._clients = MatchSet(matches, attributes, compile_patterns) if matches else None
        self._keys = MatchSet(matches, lambda _: self._key, compile_patterns) if matches else None
        self._about_subjects = self._any_rule = 0
        patterns: dict[str, int] = {}
        for index, silence in enumerate(self.listed):
            bit = 1 << index
            if any(column in SUBJECTS for column, _ in silence.match.attributes):
                self._about_subjects |= bit
            if not silence.rules:
                self._any_rule |= bit
            for pattern in silence.rules:
                patterns[pattern] = patterns.get(pattern, 0) | bit
        self._of_pattern = list(patterns.values())
        self._patterns = compile_patterns(list(patterns)) if patterns else None
        self._of_rule = {}

    def covering(self, rule: str, client: str, ip: str, at_ms: int) -> Silence | None:
        """The silence that covers an alert of the rule about the client at this instant, and lasts longest.

        `ip` is `ip:port` as the broker wrote it.
        """
        if self._clients is None:
            return None
        mask = self.mask_of_rule(rule)
        return self._first(mask & self.mask_of_client(client, ip), at_ms) if mask else None

    def covering_key(
        self, rule: str, key: Mapping[str, str], clients: Iterable[tuple[str, str]], at_ms: int
    ) -> Silence | None:
        """The silence that covers what is about a key and its clients (id, `ip:port`): by the key, or by every client."""
        if self._clients is None:
            return None
        found = self._first(self.mask_by_key(rule, key), at_ms)
        return found if found is not None else self._first(self.mask_by_clients(rule, clients), at_ms)

    def mask_by_key(self, rule: str, key: Mapping[str, str]) -> int:
        """A bit for each silence whose matchers hold for the key of an alert of the rule."""
        mask = self.mask_of_rule(rule)
        if not mask or self._keys is None:
            return 0
        self._key = key
        mask &= self._keys.mask_of_client(f"{key['group']}@@@" if "group" in key else "")
        for index, silence in enumerate(self.listed):
            if mask >> index & 1 and not _holds_key(silence.match, key):
                mask &= ~(1 << index)
        return mask

    def mask_by_clients(self, rule: str, clients: Iterable[tuple[str, str]]) -> int:
        """A bit for each silence that covers every one of the clients (id, `ip:port`), of whom there must be one."""
        mask, some = self.mask_of_rule(rule), False
        for client, ip in clients:
            some = True
            mask &= self.mask_of_client(client, ip)
            if not mask:
                break
        return mask if some else 0

    def mask_of_rule(self, rule: str) -> int:
        """A bit for each silence of which the rule may be."""
        mask = self._of_rule.get(rule)
        if mask is None:
            mask = self._any_rule
            if self._patterns is not None:
                for index in self._patterns.matching(rule):
                    mask |= self._of_pattern[index]
            self._of_rule[rule] = mask
        return mask

    def mask_of_client(self, client: str, ip: str) -> int:
        """A bit for each silence whose matchers hold for the client."""
        if self._clients is None or self._attributes is None:
            return 0
        mask = self._clients.mask(client, ip)
        about = mask & self._about_subjects
        if about:  # a client is no source, but the inventory may have such a column
            values = self._attributes(client)
            for index, silence in enumerate(self.listed):
                names = [column for column, _ in silence.match.attributes if column in SUBJECTS]
                if about >> index & 1 and not all(values.get(name) for name in names):
                    mask &= ~(1 << index)
        return mask

    def _first(self, mask: int, at_ms: int) -> Silence | None:
        if mask:
            for index, silence in enumerate(self.listed):
                if mask >> index & 1 and silence.is_on(at_ms):
                    return silence
        return None


def _holds_key(match: Match, key: Mapping[str, str]) -> bool:
    """Does a match whose patterns hold for a key hold for all of it: its whole network, and what it names at all?"""
    if match.ip and not _holds_network(match.ip, key):
        return False
    named = [column for column, _ in match.attributes if column in SUBJECTS]
    if not named and match != Match() and any(name in SUBJECTS for name in key):
        return False  # `group: *` is about clients, and a source is none
    return all(key.get(name) for name in named)


def _holds_network(wanted: tuple[str, ...], key: Mapping[str, str]) -> bool:
    """Does one of the networks hold the key's whole network?"""
    for name, value in key.items():
        if name.startswith(PREFIX) and value:
            inner = network(value)
            for text in wanted:
                outer = network(text)
                holds = outer.version == inner.version and outer.prefixlen <= inner.prefixlen
                if holds and int(inner.network_address) & int(outer.netmask) == int(outer.network_address):
                    return True
    return False
