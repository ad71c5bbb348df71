"""Matchers as arguments: `key=pattern` on a command line or in a URL, with the same meaning as a rule's `match`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from engine.config.inventory import Inventory
from engine.config.patterns import MAX_PROGRAM_OF_REQUEST, compile_patterns, problem_of, program_size
from engine.config.schema import did_you_mean
from engine.core.matching import MatchSet
from engine.core.rules import Match

FIELDS = ("group", "device", "client", "ip")
ATTRIBUTES = "attributes."
MAX_MATCHERS = 100
"""Matchers in one request."""

ClientPredicate = Callable[[str, str], bool]
"""Whether a client, by its id and its `ip:port`, is matched."""


def match_of_arguments(pairs: Sequence[str], inventory: Inventory, also: Sequence[str] = ()) -> Match:
    """The match of `key=pattern` arguments: a key given twice accepts either pattern, different keys must all match.

    Keys are group, device, client, ip, and columns of the inventory (also as `attributes.COLUMN`), and `also` as if they were columns.
    Raises ValueError with a sentence for the first argument that is invalid.
    """
    if len(pairs) > MAX_MATCHERS:
        raise ValueError(f"{len(pairs)} matchers, but at most {MAX_MATCHERS} are allowed")
    fields: dict[str, tuple[str, ...]] = {}
    attributes: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        key, equals, pattern = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"`{pair[:100]}` is not key=pattern, such as group=GID_PUMP or device=p-*")
        kind = attributes if key not in FIELDS else fields
        name = key if key in FIELDS else _column(key, inventory, also)
        problem = _problem(key, pattern)
        if problem:
            raise ValueError(f"`{pair[:100]}` {problem}")
        kind[name] = (*kind.get(name, ()), pattern)
    expressions = [pattern for key, some in (fields | attributes).items() if key != "ip" for pattern in some]
    if program_size(expressions) > MAX_PROGRAM_OF_REQUEST:
        raise ValueError("the patterns are too large together: use smaller counts in `{...}`, or fewer patterns")
    return Match(**fields, attributes=tuple(sorted(attributes.items())))


def _column(key: str, inventory: Inventory, also: Sequence[str]) -> str:
    name = key.removeprefix(ATTRIBUTES)
    if name not in inventory.columns and key not in also:
        known = [*FIELDS, *inventory.columns, *also]
        raise ValueError(f"`{key[:60]}` is not a key of a match{did_you_mean(name, known, all_of_them=True)}")
    return name


def _problem(key: str, pattern: str) -> str | None:
    if key != "ip":
        return problem_of(pattern)
    try:
        ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return "is not a network in CIDR form, such as 10.1.0.0/16"
    return None


def predicate_of_arguments(pairs: Sequence[str], inventory: Inventory) -> ClientPredicate:
    """The same as a function to call for each client. Raises ValueError as `match_of_arguments` does."""
    found = MatchSet([match_of_arguments(pairs, inventory)], inventory.attributes, compile_patterns)
    return lambda client, ip: bool(found.mask(client, ip))
