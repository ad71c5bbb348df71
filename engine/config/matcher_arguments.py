"""`key=pattern` as people write it at a prompt or in a URL, turned into the same value as a rule's `match`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from engine.config.inventory import Inventory
from engine.config.patterns import compile_patterns, problem_of
from engine.config.schema import did_you_mean
from engine.core.matching import MatchSet
from engine.core.rules import Match

FIELDS = ("group", "device", "client", "ip")
ATTRIBUTES = "attributes."
MAX_PAIRS = 100
"""Pairs in one question."""

Matches = Callable[[str, str], bool]
"""Does a match hold for a client id and its `ip:port`?"""


def match_of_words(pairs: Sequence[str], inventory: Inventory) -> Match:
    """The match that `key=pattern` pairs mean: one key given twice accepts either, different keys must all hold.

    Keys are group, device, client, ip, and columns of the inventory (also as `attributes.COLUMN`). Raises ValueError
    with a sentence for the first pair that cannot be.
    """
    if len(pairs) > MAX_PAIRS:
        raise ValueError(f"{len(pairs)} matchers, more than {MAX_PAIRS}")
    fields: dict[str, tuple[str, ...]] = {}
    attributes: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        key, equals, pattern = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"`{pair[:100]}` is not key=pattern, such as group=GID_PUMP or device=p-*")
        kind = attributes if key not in FIELDS else fields
        name = key if key in FIELDS else _column(key, inventory)
        problem = _problem(key, pattern)
        if problem:
            raise ValueError(f"`{pair[:100]}`: {problem}")
        kind[name] = (*kind.get(name, ()), pattern)
    return Match(**fields, attributes=tuple(sorted(attributes.items())))


def _column(key: str, inventory: Inventory) -> str:
    name = key.removeprefix(ATTRIBUTES)
    if name not in inventory.columns:
        known = [*FIELDS, *inventory.columns]
        raise ValueError(f"`{key[:60]}` is no key of a match{did_you_mean(name, known, all_of_them=True)}")
    return name


def _problem(key: str, pattern: str) -> str | None:
    if key != "ip":
        return problem_of(pattern)
    try:
        ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return "is no network in CIDR form, such as 10.1.0.0/16"
    return None


def matches_of_words(pairs: Sequence[str], inventory: Inventory) -> Matches:
    """The same as something to ask; ValueError as `match_of_words`."""
    found = MatchSet([match_of_words(pairs, inventory)], inventory.attributes, compile_patterns)
    return lambda client, ip: bool(found.mask(client, ip))
