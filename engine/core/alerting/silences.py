"""Silences: for which clients an operator stops firings and reminders for a while. Read `Silences.covering` first.

A silence keeps firings and reminders back, never the recovery of a firing that was sent. It is about clients. Of what is
about no client it covers an outage or a schedule whose key its matchers hold for, or all of whose clients it covers; a
silence without any matcher covers everything, feeds included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.core.addresses import network
from engine.core.keys import PREFIX
from engine.core.matching import Attributes, CompilePatterns, MatchSet
from engine.core.rules import Match


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """From `from_ms` on, the end `until_ms` excluded. A store keeps all of it and hands back those that are not over."""

    id: str
    match: Match
    from_ms: int
    until_ms: int
    author: str = ""
    comment: str = ""

    def is_on(self, at_ms: int) -> bool:
        """Does it silence at this instant?"""
        return self.from_ms <= at_ms < self.until_ms


class Silences:
    """Every silence that is not over, ready to say which covers a client."""

    def __init__(self) -> None:
        self.open: dict[str, Silence] = {}
        self._listed: list[Silence] = []
        self._clients: MatchSet | None = None
        self._keys: MatchSet | None = None
        self._key: Mapping[str, str] = {}

    def set(self, silences: Iterable[Silence], attributes: Attributes, compile_patterns: CompilePatterns) -> None:
        """These are the silences now."""
        self.open = {silence.id: silence for silence in silences}
        # The one that lasts longest is found first, so that what it covers is looked at once.
        self._listed = sorted(self.open.values(), key=lambda silence: (-silence.until_ms, silence.id))
        matches = [silence.match for silence in self._listed]
        self._clients = MatchSet(matches, attributes, compile_patterns) if matches else None
        self._keys = MatchSet(matches, lambda _: self._key, compile_patterns) if matches else None

    def covering(self, client: str, ip: str, at_ms: int) -> Silence | None:
        """The silence that covers the client at this instant and lasts longest; `ip` is `ip:port` as the broker wrote it."""
        if self._clients is None:
            return None
        return self._first(self._clients.mask(client, ip), at_ms)

    def covering_key(self, key: Mapping[str, str], clients: Iterable[tuple[str, str]], at_ms: int) -> Silence | None:
        """The silence that covers what is about a key and its clients (id, `ip:port`): by the key, or by every client."""
        if self._clients is None or self._keys is None:
            return None
        self._key = key
        mask = self._keys.mask_of_client(f"{key['group']}@@@" if "group" in key else "")
        for index, silence in enumerate(self._listed):
            if silence.match.ip and not _holds_network(silence.match.ip, key):
                mask &= ~(1 << index)
        found = self._first(mask, at_ms)
        if found is not None:
            return found
        mask, some = (1 << len(self._listed)) - 1, False
        for client, ip in clients:
            some = True
            mask &= self._clients.mask(client, ip)
            if not mask:
                return None
        return self._first(mask, at_ms) if some else None

    def _first(self, mask: int, at_ms: int) -> Silence | None:
        for index, silence in enumerate(self._listed):
            if mask >> index & 1 and silence.is_on(at_ms):
                return silence
        return None


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
