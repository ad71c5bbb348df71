"""Rules that would need clients of several cells to decide one alert: refused, with the key that would make them fit. Read `cell_problem`.

Each cell is worked on by a process of its own, which knows the clients of its groups alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.config.cell_groups import CellGroups
from engine.config.cluster import CellConfig
from engine.config.patterns import compile_patterns, is_literal
from engine.core.rules import Match, Rule

SHARED_BY = frozenset({"group", "client"})
"""Values that clients of two cells never share: the groups of cells are apart."""


def cell_problem(rule: Rule, cells: Sequence[CellConfig]) -> tuple[str, str] | None:
    """The key of a rule that spans cells, and what is wrong with it and what to do; None: each cell decides it alone."""
    found = _spanning(rule)
    if found is None:
        return None
    key, what, remedy = found
    names = cells_of(rule.match, cells)
    if len(names) < 2:
        return None
    return (
        key,
        f"{what} over clients of the cells {', '.join(names)}, which do not know of one another: {remedy}, or use one cell",
    )


def _spanning(rule: Rule) -> tuple[str, str, str] | None:
    """The key by which a rule counts over groups, what it does there, and what would make it fit."""
    for key, terms in (("outage", rule.outage), ("quorum", rule.quorum)):
        if terms is not None and not SHARED_BY & set(terms.by):
            return key, f"counts by {', '.join(terms.by)}", f"write `{key}: {{by: [group]}}`"
    if rule.throttle is not None and not SHARED_BY & set(rule.throttle.by):
        counted = ", ".join(rule.throttle.by)
        return (
            "throttle",
            f"counts by {counted}" if counted else "counts all firings",
            "write `throttle: {by: [group]}`",
        )
    if rule.grouping is not None and not SHARED_BY & set(rule.grouping.by):
        return "grouping", f"groups by {', '.join(rule.grouping.by)}", "write `grouping: {by: [group]}`"
    for parent in rule.parents:
        if not SHARED_BY & set(parent.equal):
            return "inhibited_by", f"inhibits by {', '.join(parent.equal)}", "add `group` to `equal`"
    if rule.schedule is not None:
        return "schedule", "is a roll call", "write `match: {group: ...}` with the groups of one cell"
    return None


def cells_of(match: Match, cells: Sequence[CellConfig]) -> list[str]:
    """The names of the cells that may have clients which match; when in doubt a cell is among them."""
    groups = match.group
    if (
        not groups
        and match.client
        and all("@@@" in one and is_literal(one.partition("@@@")[0]) for one in match.client)
    ):
        groups = tuple(one.partition("@@@")[0] for one in match.client)
    if not groups:
        return [cell.name for cell in cells]
    found: set[str] = set()
    owners = CellGroups(cells)
    for pattern in groups:
        if is_literal(pattern):
            owner = owners.of_group(pattern)
            found |= {owner} if owner is not None else set()
        else:
            found |= {cell.name for cell in cells if any(_may_meet(pattern, one) for one in cell.groups)}
    return [cell.name for cell in cells if cell.name in found]


def _may_meet(one: str, other: str) -> bool:
    """May a text match both patterns? Told by what they begin with; an expression may meet anything."""
    if is_literal(other):
        return bool(compile_patterns([one]).matching(other))
    first, second = _beginning(one), _beginning(other)
    length = min(len(first), len(second))
    return first[:length] == second[:length]


def _beginning(pattern: str) -> str:
    """The text that everything begins with that matches a pattern."""
    if pattern.startswith("re:"):
        return ""
    places = [pattern.find(character) for character in "*?[" if character in pattern]
    return pattern[: min(places)] if places else pattern
