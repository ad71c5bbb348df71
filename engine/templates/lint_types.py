"""Operators and filters between values for which they can only fail: a text less than a number, the length of a number, a division by 0.

Read `order_problem`; what is known of a value is its shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from jinja2 import nodes

from engine.templates.lint_scope import dotted
from engine.templates.names import NUMBER, Shape, Text
from engine.templates.shapes import Scope, constant, python_type, shape_of

_TO_NUMBER: Final = "a text becomes a number with the filter `int` or `float`"

_ORDERS: Final = {"lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}


def order_problem(node: nodes.Compare, scope: Scope) -> Iterator[str]:
    """Only numbers, or only texts, or only lists are less or more than one another. Values of the inventory are texts."""
    left = node.expr
    for operand in node.ops:
        kinds = [kind_of(shape_of(one, scope)) for one in (left, operand.expr)]
        if operand.op in _ORDERS and all(kinds) and (kinds[0] != kinds[1] or "mapping" in kinds):
            sign = _ORDERS[operand.op]
            if set(kinds) == {"text", "number"}:
                yield f"`{sign}` cannot compare a text and a number: {_TO_NUMBER}"
            else:
                hint = "; its size is `|length`" if {"list", "mapping"} & set(kinds) else ""
                yield f"`{sign}` cannot compare a {kinds[0]} and a {kinds[1]}{hint}"
        elif operand.op in ("in", "notin"):
            yield from _inside(kinds, operand.expr)
        left = operand.expr


def _inside(kinds: Sequence[str], right: nodes.Expr) -> Iterator[str]:
    """`in` looks into texts, lists and mappings, and into a text only for a text."""
    if kinds[1] == "number":
        yield f"`{dotted(right)}` is a number or true or false: `in` can look into texts and lists only"
    elif kinds[1] == "text" and kinds[0] not in ("", "text"):
        yield f"`in` can look into a text only for a text, not for a {kinds[0]}"


def kind_of(shape: Shape) -> str:
    """What a value is, in words; empty when it is not known."""
    found = python_type(shape)
    return "number" if shape is NUMBER else {str: "text", list: "list", dict: "mapping"}[found] if found else ""


_OF_SEVERAL: Final = frozenset(
    {
        *("length", "count", "first", "last", "join", "sort", "list", "map", "select", "reject", "selectattr"),
        *("rejectattr", "sum", "unique", "min", "max", "reverse", "dictsort", "items"),
    }
)


def number_problem(node: nodes.Filter, scope: Scope) -> Iterator[str]:
    """A filter for texts or lists after a number, or `localtime` after what is no instant."""
    shape = shape_of(node.node, scope)
    if shape is not NUMBER or node.node is None:
        return
    if node.name in _OF_SEVERAL:
        yield f"`{node.name}` is for texts and lists, and `{dotted(node.node)}` is a number or true or false"
    elif node.name == "localtime":
        yield f"`localtime` is for instants such as occurred_at, and `{dotted(node.node)}` is a number or true or false"


def sign_problem(node: nodes.UnaryExpr, scope: Scope) -> Iterator[str]:
    """`-` and `+` before a text."""
    if isinstance(shape_of(node.node, scope), Text) and isinstance(node, (nodes.Neg, nodes.Pos)):
        yield f"{node.operator} is for numbers, not for a text; {_TO_NUMBER}"


def sum_problem(node: nodes.BinExpr, scope: Scope) -> Iterator[str]:
    """A text and a number cannot be added, texts can only be added, and nothing is divided by 0."""
    if isinstance(node, (nodes.And, nodes.Or)):
        return
    kinds = {kind_of(shape_of(node.left, scope)), kind_of(shape_of(node.right, scope))}
    if "mapping" in kinds or ("list" in kinds and kinds & {"text", "number"}):
        yield f"{node.operator} cannot be used with a {'mapping' if 'mapping' in kinds else 'list'}"
    elif kinds == {"text", "number"} and isinstance(node, nodes.Add):
        yield "+ cannot add a text and a number; use ~ to join them"
    elif "text" in kinds and not isinstance(node, nodes.Add):
        yield f"{node.operator} is for numbers, not for a text; {_TO_NUMBER}"
    elif (
        isinstance(node, (nodes.Div, nodes.FloorDiv, nodes.Mod))
        and _is_zero(node.right)
        and "" not in kinds
        and not isinstance(node.left, nodes.Const)
    ):
        yield f"{node.operator} 0 always fails"


def _is_zero(node: nodes.Node) -> bool:
    found = constant(node)
    return isinstance(found, (int, float)) and found == 0
