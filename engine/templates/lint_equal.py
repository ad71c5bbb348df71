"""Comparisons that have the same result whatever happens: `status == "OFFLINE"`, `client.group == 3`, `alert.state in ["fired"]`.

A condition of that kind loads, and its rule never fires, or always. Read `never_equal`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from jinja2 import nodes

from engine.config.schema import did_you_mean
from engine.templates.lint_scope import dotted
from engine.templates.names import NUMBER, Shape, Text
from engine.templates.shapes import Scope, argument, at_path, constant, shape_of

_EQUAL: Final = frozenset({"eq", "equalto", "==", "ne", "!=", "in"})
_CASE_FILTERS: Final = {"upper": str.upper, "lower": str.lower}


def never_equal(node: nodes.Compare, scope: Scope) -> Iterator[str]:
    """`==`, `!=`, `in` and `not in` between what can never be equal."""
    left = node.expr
    for operand in node.ops:
        if operand.op in ("eq", "ne"):
            yield from _pair(left, operand.expr, scope)
        elif operand.op in ("in", "notin"):
            yield from _membership(left, operand.expr, scope)
        left = operand.expr


def never_passes(node: nodes.Filter | nodes.Test, scope: Scope) -> Iterator[str]:
    """The same as tests, `status is eq "OFFLINE"`, and by name: `selectattr("status", "eq", "OFFLINE")`."""
    if isinstance(node, nodes.Test):
        if node.name in _EQUAL and node.args:
            check = _membership if node.name == "in" else _pair
            yield from check(node.node, node.args[0], scope)
        return
    if node.name not in {"select", "reject", "selectattr", "rejectattr"}:
        return
    items, place = shape_of(node.node, scope), 1 if node.name.endswith("attr") else 0
    if not isinstance(items, list) or len(node.args) < place + 2 or constant(node.args[place]) not in _EQUAL:
        return
    path = constant(argument(node, "attr", 0)) if place else ""
    if not isinstance(path, str):
        return
    shown, shape = (f"`{path[:60]}`", at_path(items[0], path)) if place else ("an item", items[0])
    wanted = node.args[place + 1]
    for one in _items(wanted) if constant(node.args[place]) == "in" else [wanted]:
        if problem := _problem(shown, shape, one, shape_of(one, scope)):
            yield problem


def _pair(left: nodes.Expr, right: nodes.Expr, scope: Scope) -> Iterator[str]:
    one, other = shape_of(left, scope), shape_of(right, scope)
    if isinstance(left, nodes.Const) and isinstance(right, nodes.Const):
        return  # somebody has switched it off
    if isinstance(left, nodes.Const):
        left, right, one, other = right, left, other, one
    if problem := _problem(_shown(left), one, right, other) or _wrong_case(left, right):
        yield problem


def _membership(left: nodes.Expr, right: nodes.Expr, scope: Scope) -> Iterator[str]:
    """Each value of a list that is written out; a list whose items are known; a part of a text that is known."""
    wanted = shape_of(right, scope)
    if isinstance(right, (nodes.List, nodes.Tuple)):
        for one in right.items:
            yield from _pair(left, one, scope)
    elif isinstance(wanted, list):
        if problem := _problem("an item", wanted[0], left, shape_of(left, scope)):
            yield problem
    elif isinstance(wanted, Text) and wanted.values is not None and not isinstance(right, nodes.Const):
        part = constant(left)
        if isinstance(part, str) and not any(part in value for value in wanted.values):
            yield f"{_shown(right)} never contains `{part[:60]}`{_nearest(part, wanted.values)}"


def _items(node: nodes.Expr) -> list[nodes.Expr]:
    return node.items if isinstance(node, (nodes.List, nodes.Tuple)) else []


def _problem(shown: str, one: Shape, right: nodes.Expr, other: Shape) -> str | None:
    """Why two values can never be equal; None when they can, or when that is not known."""
    if isinstance(right, nodes.Const) and right.value is None:
        kind = "a text" if isinstance(one, Text) else "a number or true or false" if one is NUMBER else ""
        return f"{shown} is always {kind} and never `none`: when it is not set, it is empty" if kind else None
    if isinstance(one, Text) and other is NUMBER:
        value = constant(right)
        hint = ""
        if value is not None:
            hint = f": write `{str(value).lower() if isinstance(value, bool) else value}` in quotes"
            if one.values is not None:
                hint = _nearest("", one.values)
        return f"{shown} is a text, which never equals a number or true or false{hint}"
    if one is NUMBER and isinstance(other, Text):
        return f"{shown} is a number or true or false, which never equals a text: leave out the quotes"
    if not (isinstance(one, Text) and isinstance(other, Text)) or one.values is None or other.values is None:
        return None
    if one.values & other.values:
        return None
    missed = min(other.values, default="")
    return f"{shown} is never `{missed[:60]}`{_nearest(missed, one.values)}"


def _wrong_case(left: nodes.Expr, right: nodes.Expr) -> str | None:
    """`client.device|upper == "p-1"`: it has no such letters after `upper`."""
    name = left.name if isinstance(left, nodes.Filter) else ""
    if isinstance(left, nodes.Call) and isinstance(left.node, nodes.Getattr):
        name = left.node.attr
    wanted = constant(right)
    if name not in _CASE_FILTERS or not isinstance(wanted, str) or _CASE_FILTERS[name](wanted) == wanted:
        return None
    return f"after `{name}`, a text is never `{wanted[:60]}`; did you mean `{_CASE_FILTERS[name](wanted)[:60]}`?"


def _nearest(word: str, values: frozenset[str]) -> str:
    return did_you_mean(word, sorted(values), all_of_them=True)


def _shown(node: nodes.Expr) -> str:
    place = dotted(node)
    return "the value" if "…" in place else f"`{place[:100]}`"
