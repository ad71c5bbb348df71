"""Warnings for what `match` names and no row of the inventory has: probably a slip of the keyboard, perhaps a client that is not listed yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.inventory import Inventory
from engine.config.matchers import as_tuple
from engine.config.patterns import EXPRESSION, is_literal
from engine.config.schema import did_you_mean
from engine.config.yamlfile import KeyPath
from engine.rulefiles.context import RuleContext


def warn_of_unknown(context: RuleContext, written: Mapping[str, Any]) -> None:
    """Report each group, device, client or value of an attribute in a `match` that no row has. Expressions are not looked at."""
    inventory, known = context.inventory, context.known_names
    if inventory is None or known is None or not inventory.rows:
        return
    for field in ("group", "device", "client"):
        for at, pattern in _each(written.get(field, ()), ("match", field)):
            if not pattern.startswith(EXPRESSION) and (remark := known.missing(field, pattern)):
                context.report(at, remark, warning=True)
    for column, value in written.get("attributes", {}).items():
        some = _each(value, ("match", "attributes", column))
        for at, pattern in some if len(some) > 1 else ():  # one alone that no row has is an error
            if pattern and is_literal(pattern) and (remark := _missing_value(inventory, column, pattern)):
                context.report(at, remark, warning=True)


def _missing_value(inventory: Inventory, column: str, value: str) -> str | None:
    values = inventory.values(column)
    if value in values:
        return None
    nearest = did_you_mean(value, sorted(values)[:10_000])
    return f"no row of the inventory has `{value[:60]}` in the column `{column}`{nearest}"


def _each(value: Any, at: KeyPath) -> list[tuple[KeyPath, str]]:
    return [(at if isinstance(value, str) else (*at, index), pattern) for index, pattern in enumerate(as_tuple(value))]
