"""`match` as people write it: turned into a value, and checked for patterns that are broken or can never match.

A rule that can never match is worse than a missing one: somebody relies on it. So a contradiction that can be seen
without any client is an error, not a surprise. Used for rules and for the debounce overrides of the configuration.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.config.inventory import Inventory
from engine.config.patterns import EXPRESSION, compile_patterns, is_literal, problem_of
from engine.config.schema import did_you_mean
from engine.config.yamlfile import Document, Path_
from engine.core.rules import Match
from engine.errors import Problem

SEPARATOR = "@@@"
"""What stands between the two halves of a client id."""

MAX_LITERAL_BYTES = {"group": 253, "device": 253, "client": 256}
"""A client id has 256 bytes at most, so a longer literal matches nothing."""


def words(value: str | Sequence[str]) -> tuple[str, ...]:
    """A value or a list of them, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def match_of(written: Mapping[str, Any]) -> Match:
    """The value of a `match` that the schema accepted."""
    return Match(
        **{key: words(value) for key, value in written.items() if key != "attributes"},
        attributes=tuple(sorted((column, words(value)) for column, value in written.get("attributes", {}).items())),
    )


def check_match(
    written: Mapping[str, Any], path: Path_, document: Document, inventory: Inventory | None, problems: list[Problem]
) -> None:
    """Add every problem of a `match` at `path` that the schema cannot see; `inventory` None: not known here."""
    before = len(problems)

    def say(at: Path_, message: str) -> None:
        problems.append(document.problem((*path, *at), message))

    def each(value: str | Sequence[str], at: Path_) -> list[tuple[Path_, str]]:
        return [(at, value)] if isinstance(value, str) else [((*at, index), word) for index, word in enumerate(value)]

    for field in ("group", "device", "client"):
        for at, pattern in each(written.get(field, ()), (field,)):
            problem = problem_of(pattern) or _never(field, pattern)
            if problem:
                say(at, problem)
    for at, text in each(written.get("ip", ()), ("ip",)):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            say(at, f"`{text[:60]}` is no network in CIDR form, such as 10.1.0.0/16 or 2001:db8::/32")
    for column, value in written.get("attributes", {}).items():
        for at, pattern in each(value, ("attributes", column)):
            problem = problem_of(pattern)
            if problem:
                say(at, problem)
    if len(problems) > before:
        return
    contradiction = _contradiction(match_of(written))
    if contradiction:
        say(("client",), contradiction)
    if inventory is not None:
        for column, value in written.get("attributes", {}).items():
            problem = _attribute_problem(column, words(value), inventory)
            if problem:
                say(("attributes", column), problem)


def _never(field: str, pattern: str) -> str | None:
    """Why a pattern that can be read matches no client id; None when it may."""
    if field in MAX_LITERAL_BYTES and is_literal(pattern) and len(pattern.encode()) > MAX_LITERAL_BYTES[field]:
        return f"can never match: it is longer than any {field}"
    if pattern.startswith(EXPRESSION):
        return None
    if field == "group" and SEPARATOR in pattern:
        return f"can never match: a group is what stands before `{SEPARATOR}`; match the whole id with `client`"
    if is_literal(pattern) and any(ord(char) < 32 or ord(char) == 127 for char in pattern):
        return "can never match: ids hold no control characters"
    return None


def _contradiction(match: Match) -> str | None:
    """What is wrong when no pattern of `client` leaves a group or device that the other fields accept."""
    if not match.client:
        return None
    for field, accepted in (("group", match.group), ("device", match.device)):
        halves = [_half(pattern, field) for pattern in match.client]
        if not accepted or any(half is None for half in halves):
            continue
        compiled = compile_patterns(accepted)
        if not any(compiled.matching(half or "") for half in halves):
            return f"can never match: `{field}` asks for {', '.join(accepted)[:200]}, `client` for something else"
    return None


def _half(pattern: str, field: str) -> str | None:
    """The group or device that every id matching `pattern` has; None when it is not one text."""
    if pattern.startswith(EXPRESSION):
        return None
    head, separator, tail = pattern.partition(SEPARATOR)
    if not separator:
        return None if not is_literal(pattern) else "" if field == "group" else pattern
    if not is_literal(head):  # a `*` before the separator may itself stand for another separator
        return None
    return head if field == "group" else tail if is_literal(tail) else None


def _attribute_problem(column: str, patterns: Sequence[str], inventory: Inventory) -> str | None:
    if column not in inventory.columns:
        if not inventory.columns:
            return "can never match: no inventory is configured (`inventory: inventory.csv`), so clients have no attributes"
        known = ", ".join(inventory.columns[:30])
        return f"the inventory has no column `{column[:60]}`{did_you_mean(column, inventory.columns) or f' (it has: {known})'}"
    values = inventory.values(column)
    if any(pattern in values for pattern in patterns):
        return None
    others = [pattern for pattern in patterns if not is_literal(pattern)]
    if others:
        compiled = compile_patterns(others)
        if any(compiled.matching(value) for value in ("", *values)):
            return None
    shown = re.sub(r"\s+", " ", ", ".join(patterns))[:100]
    suggestion = did_you_mean(patterns[0], sorted(values)[:10_000])
    return f"can never match: no row of the inventory has `{shown}` in column `{column}`{suggestion}"
