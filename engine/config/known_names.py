"""Which groups, devices and clients the rows of an inventory name: for what a rule matches and no row has.

A row may be a pattern: `GID_PUMP@@@*` names a group and leaves the device open, `*` leaves both open. Read `KnownNames.missing`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property

from engine.config.inventory import Inventory
from engine.config.patterns import EXPRESSION, CompiledPatterns, compile_patterns, is_literal, is_prefix
from engine.config.schema import did_you_mean

SEPARATOR = "@@@"
"""Separates group and device in a client id."""

MAX_SUGGESTED = 1_000
"""Names among which the nearest is searched: those with the same first character."""

MAX_SCANNED = 2_000
"""Names that a glob is compared with one by one; of a larger inventory only what a prefix says is known."""


class KnownNames:
    """The names in an inventory, made once for all rules of a load."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._compiled: dict[str, CompiledPatterns] = {}  # the patterns among the names of a field

    @cached_property
    def _halves(self) -> dict[str, dict[str, None]]:
        """What rows say of each field; a part that a pattern leaves open is a pattern."""
        found: dict[str, dict[str, None]] = {"group": {}, "device": {}, "client": {}}
        for pattern, _ in self._inventory.rows:
            found["client"][pattern] = None
            head, separator, tail = pattern.partition(SEPARATOR)
            if pattern.startswith(EXPRESSION):
                head = tail = "*"
            elif not separator:
                head, tail = ("", pattern) if is_literal(pattern) else ("*", "*")
            found["group"][head] = found["device"][tail] = None
        return found

    @cached_property
    def _literals(self) -> dict[str, tuple[str, ...]]:
        return {field: tuple(sorted(filter(is_literal, names))) for field, names in self._halves.items()}

    def _matches_any(self, field: str, pattern: str) -> bool:
        """Whether a glob matches a name; True also when there are too many to look at."""
        some = list(self._beginning_with(field, _beginning(pattern), MAX_SCANNED))
        if is_prefix(pattern):
            return bool(some)
        compiled = compile_patterns([pattern])
        return len(some) == MAX_SCANNED or any(compiled.matching(name) for name in some)

    @cached_property
    def _patterns(self) -> dict[str, tuple[str, ...]]:
        return {field: tuple(name for name in names if not is_literal(name)) for field, names in self._halves.items()}

    def named(self, field: str) -> tuple[str, ...]:
        """The groups, devices or clients that rows name in full."""
        return self._literals[field]

    def missing(self, field: str, pattern: str) -> str | None:
        """What to say of a pattern for `group`, `device` or `client` that no row has; None when one has it, or may have it."""
        names = self._halves[field]
        if not names or pattern in names or not self._is_missing(field, pattern):
            return None
        shown = f"no row of the inventory has {'a' if _is_glob(pattern) else 'the'} {field} `{pattern[:60]}`"
        return f"{shown}{did_you_mean(pattern, list(self._beginning_with(field, pattern[:1], MAX_SUGGESTED)))}"

    def _beginning_with(self, field: str, prefix: str, most: int) -> Iterator[str]:
        names = self.named(field)
        for at in range(bisect_left(names, prefix), len(names)):
            if not names[at].startswith(prefix) or most <= 0:
                return
            yield names[at]
            most -= 1

    def _is_missing(self, field: str, pattern: str) -> bool:
        others = self._patterns[field]
        if _is_glob(pattern):  # a pattern of a row may mean the same names
            return not any(_may_overlap(pattern, other) for other in others) and not self._matches_any(field, pattern)
        if not others:
            return True
        if field not in self._compiled:
            self._compiled[field] = compile_patterns(others)
        return not self._compiled[field].matching(pattern)


def _is_glob(pattern: str) -> bool:
    return not is_literal(pattern)


def _may_overlap(one: str, other: str) -> bool:
    """Whether two patterns may match one name, as far as what they begin with says."""
    first, second = _beginning(one), _beginning(other)
    return first.startswith(second) or second.startswith(first)


def _beginning(pattern: str) -> str:
    return "" if pattern.startswith(EXPRESSION) else re.split(r"[*?\[]", pattern, maxsplit=1)[0]


def values_of(inventory: Inventory | None, field: str) -> Iterator[str]:
    """The ids, or halves of ids, that rows name in full; for another field the values of the column."""
    if inventory is None:
        return
    if field not in {"group", "device", "client"}:
        yield from inventory.values(field)
        return
    for pattern, _ in inventory.rows:
        head, separator, tail = pattern.partition(SEPARATOR)
        one = {"group": head if separator else "", "device": tail if separator else pattern, "client": pattern}[field]
        if is_literal(one):
            yield one
