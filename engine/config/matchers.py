"""`match` as people write it: turned into a value, and checked for patterns that are invalid or can never match.

A rule that can never match is worse than a missing rule, because somebody relies on it. So a contradiction that shows
without looking at any client is an error. Used for rules, for debounce overrides and for the silences of scenarios.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from engine.config.endpoints import host_bits_problem
from engine.config.inventory import Inventory
from engine.config.known_names import SEPARATOR, values_of
from engine.config.lookalikes import dot_remark, mistaken_for
from engine.config.patterns import EXPRESSION, compile_patterns, is_literal, matches_nothing, problem_of
from engine.config.schema import did_you_mean
from engine.config.yamlfile import Document, KeyPath
from engine.core.rules import Match
from engine.errors import Problem

MAX_LITERAL_BYTES = {"group": 253, "device": 253, "client": 256}
"""A client id has at most 256 bytes, so a longer literal matches nothing."""


def as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    """A value or a list of them, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def match_of(written: Mapping[str, Any]) -> Match:
    """The value of a `match` that the schema accepted."""
    return Match(
        **{key: as_tuple(value) for key, value in written.items() if key != "attributes"},
        attributes=tuple(sorted((column, as_tuple(value)) for column, value in written.get("attributes", {}).items())),
    )


def check_match(
    written: Mapping[str, Any], path: KeyPath, document: Document, inventory: Inventory | None, problems: list[Problem]
) -> None:
    """Add every problem of the `match` at `path` that the schema cannot find. `inventory` None: attributes are not checked."""
    before = len(problems)

    def report(at: KeyPath, message: str) -> None:
        problems.append(document.problem((*path, *at), message))

    def each(value: str | Sequence[str], at: KeyPath) -> list[tuple[KeyPath, str]]:
        return [(at, value)] if isinstance(value, str) else [((*at, index), word) for index, word in enumerate(value)]

    for field in ("group", "device", "client"):
        for at, pattern in each(written.get(field, ()), (field,)):
            values = partial(values_of, inventory, field)
            problem = problem_of(pattern) or _never(field, pattern) or mistaken_for(field, pattern, values)
            if problem:
                report(at, problem)
            elif remark := _remark(field, pattern) or dot_remark(pattern, values):
                problems.append(document.problem((*path, *at), remark, warning=True))
    for at, text in each(written.get("ip", ()), ("ip",)):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            report(at, f"`{text[:60]}` is not a network in CIDR form, such as 10.1.0.0/16 or 2001:db8::/32")
        else:
            if remark := host_bits_problem(text):
                problems.append(document.problem((*path, *at), remark, warning=True))
    for column, value in written.get("attributes", {}).items():
        for at, pattern in each(value, ("attributes", column)):
            problem = problem_of(pattern)
            if not problem and inventory is not None and pattern not in inventory.values(column):
                problem = mistaken_for(column, pattern, partial(values_of, inventory, column))
            if problem:
                report(at, problem)
    if any(not problem.warning for problem in problems[before:]):
        return
    contradiction = _contradiction(match_of(written))
    if contradiction:
        report(("client",), contradiction)
    if inventory is not None:
        for column, value in written.get("attributes", {}).items():
            problem = attribute_problem(column, as_tuple(value), inventory)
            if problem:
                report(("attributes", column), problem)


def _never(field: str, pattern: str) -> str | None:
    """Why a valid pattern matches no client id; None when it may match one."""
    if field in MAX_LITERAL_BYTES and is_literal(pattern) and len(pattern.encode()) > MAX_LITERAL_BYTES[field]:
        return f"can never match: it is longer than any {field}"
    if pattern.startswith(EXPRESSION):
        return None
    if matches_nothing(pattern):
        return "can never match: a range in `[...]` ends before it begins, such as [z-a]"
    if field == "group" and SEPARATOR in pattern:
        return f"can never match: a group is the part before `{SEPARATOR}`; use `client` to match the whole id"
    if is_literal(pattern) and any(ord(char) < 32 or ord(char) == 127 for char in pattern):
        return "can never match: ids contain no control characters"
    return None


def _remark(field: str, pattern: str) -> str | None:
    """Why a pattern is probably not what is meant, though it may match; None when nothing seems wrong."""
    if pattern != pattern.strip():
        return "begins or ends with a space, which is part of the pattern"
    if field == "device" and SEPARATOR in pattern:
        return f"a device is the part after `{SEPARATOR}`; use `client` to match the whole id"
    return None


def _contradiction(match: Match) -> str | None:
    """Why `client` contradicts `group` or `device`; None when it does not."""
    if not match.client:
        return None
    for field, accepted in (("group", match.group), ("device", match.device)):
        halves = [_half(pattern, field) for pattern in match.client]
        if not accepted or any(half is None for half in halves):
            continue
        compiled = compile_patterns(accepted)
        if not any(compiled.matching(half or "") for half in halves):
            return f"can never match: `{field}` ({', '.join(accepted)[:200]}) contradicts `client`"
    return None


def _half(pattern: str, field: str) -> str | None:
    """The group or device that every id matching `pattern` has; None when they differ."""
    if pattern.startswith(EXPRESSION):
        return None
    head, separator, tail = pattern.partition(SEPARATOR)
    if not separator:
        return None if not is_literal(pattern) else "" if field == "group" else pattern
    if not is_literal(head):  # a `*` before the separator may itself stand for another separator
        return None
    return head if field == "group" else tail if is_literal(tail) else None


def attribute_problem(column: str, patterns: Sequence[str], inventory: Inventory) -> str | None:
    """Why patterns for an attribute can never match; None when they can."""
    if column not in inventory.columns:
        if not inventory.columns:
            return "can never match: no inventory is configured (`inventory: inventory.csv`), so clients have no attributes"
        known = ", ".join(inventory.columns[:30])
        return f"the inventory has no column `{column[:60]}`{did_you_mean(column, inventory.columns) or f' (its columns: {known})'}"
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
    return f"can never match: no row of the inventory has `{shown}` in the column `{column}`{suggestion}"
