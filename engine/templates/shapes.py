"""What is known about the value of an expression, from what is known about the variables. Read `shape_of`.

`alert.clients|sort|first` is a text, `alert.members|map(attribute="id")` a list of texts. Where nothing is known it is `ANYTHING`, and
then nothing is a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import nodes

from engine.templates.names import ANYTHING, NUMBER, TEXT, Shape, Text, one_of

Scope = Mapping[str, Shape]

_SAME: Final = frozenset({"list", "sort", "reverse", "unique", "select", "reject", "selectattr", "rejectattr"})
"""Filters that give a list of what they are given a list of."""

_ONE: Final = frozenset({"first", "last", "min", "max"})
_TEXTS: Final = frozenset(
    {
        *("capitalize", "e", "escape", "forceescape", "format", "join", "localtime", "lower", "replace", "string"),
        *("striptags", "title", "tojson", "trim", "truncate", "upper", "urlencode"),
    }
)
_NUMBERS: Final = frozenset({"count", "length", "wordcount"})
_MADE_NUMBERS: Final = frozenset({"int", "float"})
"""Filters that give a number unless they are given another default."""

_TEXT_METHODS: Final = frozenset({"upper", "lower", "strip", "replace", "title", "capitalize", "join"})


def constant(node: nodes.Node | None) -> Any:
    """The value of a constant; None for any other node."""
    return node.value if isinstance(node, nodes.Const) else None


def key_of(node: nodes.Getattr | nodes.Getitem) -> object:
    """The attribute or index that a node reads, when it is a constant."""
    return node.attr if isinstance(node, nodes.Getattr) else constant(node.arg)


def argument(node: nodes.Filter, name: str, place: int = -1) -> nodes.Expr | None:
    """The argument of a filter of this name, or at this place."""
    for keyword in node.kwargs:
        if keyword.key == name:
            return keyword.value
    return node.args[place] if 0 <= place < len(node.args) else None


def attribute_path(node: nodes.Filter) -> str | None:
    """The path of the attribute that a filter reads of each item, such as `attributes.site`; None when it reads none that is known."""
    place = {"selectattr": 0, "rejectattr": 0, "join": 1, "sum": 0, "unique": 1, "min": 1, "max": 1, "sort": 2}
    if node.name not in place and node.name != "map":
        return None
    name = "attr" if node.name.endswith("attr") else "attribute"
    found = constant(argument(node, name, place.get(node.name, -1)))
    return found if isinstance(found, str) else None


def at_path(shape: Shape, path: str) -> Shape:
    """The shape at the end of a path; ANYTHING when that is not known."""
    for part in path.split("."):
        if not isinstance(shape, dict):
            return ANYTHING
        shape = shape.get(part, ANYTHING)
    return shape


def shape_of(node: nodes.Node | None, scope: Scope) -> Shape:
    """What is known about the value of an expression."""
    made: Callable[[Any, Scope], Shape] | None = _BY_NODE.get(type(node))  # type: ignore[arg-type]
    return made(node, scope) if made is not None else ANYTHING


def _name(node: nodes.Name, scope: Scope) -> Shape:
    return scope.get(node.name, ANYTHING)


def _item(node: nodes.Getattr | nodes.Getitem, scope: Scope) -> Shape:
    shape = shape_of(node.node, scope)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return shape if isinstance(shape, list) else TEXT if isinstance(shape, Text) else ANYTHING
    name = key_of(node)
    if isinstance(shape, dict) and isinstance(name, str):
        return shape.get(name, ANYTHING)
    if isinstance(shape, list) and isinstance(name, int):
        return shape[0]
    return TEXT if isinstance(shape, Text) and isinstance(name, int) else ANYTHING


def _filter(node: nodes.Filter, scope: Scope) -> Shape:
    if node.name in _TEXTS:
        return changed(shape_of(node.node, scope), node.name)
    if node.name in _NUMBERS or (node.name in _MADE_NUMBERS and not node.args and not node.kwargs):
        return NUMBER
    shape = shape_of(node.node, scope)
    if not isinstance(shape, list):
        return ANYTHING
    if node.name in _SAME:
        return shape
    if node.name in _ONE:
        return shape[0]
    if node.name == "map":
        path, name = attribute_path(node), constant(node.args[0]) if node.args else None
        if path is not None:
            return [at_path(shape[0], path)]
        return [TEXT] if name in _TEXTS else ANYTHING
    return ANYTHING


def _call(node: nodes.Call, scope: Scope) -> Shape:
    method = node.node
    if isinstance(method, nodes.Getattr) and isinstance(shape_of(method.node, scope), Text):
        if method.attr in _CASES:
            return changed(shape_of(method.node, scope), method.attr)
        return TEXT if method.attr in _TEXT_METHODS else [TEXT] if method.attr == "split" else ANYTHING
    return ANYTHING


def _const(node: nodes.Const, scope: Scope) -> Shape:
    return (
        one_of(node.value)
        if isinstance(node.value, str)
        else NUMBER
        if isinstance(node.value, (int, float))
        else ANYTHING
    )


def _either(node: nodes.CondExpr, scope: Scope) -> Shape:
    one, other = shape_of(node.expr1, scope), shape_of(node.expr2, scope)
    if isinstance(one, Text) and isinstance(other, Text):
        return Text(None if one.values is None or other.values is None else one.values | other.values)
    return one if one is other else ANYTHING


_CASES: Final[Mapping[str, Callable[[str], str]]] = {
    "lower": str.lower,
    "upper": str.upper,
    "capitalize": str.capitalize,
    "string": str,
}


def python_type(shape: Shape) -> type[dict[str, Any] | list[Any] | str] | None:
    """What a mapping, a list or a text is for Python; None for what has no methods or is not known."""
    if isinstance(shape, Text):
        return str
    return dict if isinstance(shape, dict) else list if isinstance(shape, list) else None


def changed(shape: Shape, name: str) -> Text:
    """What a filter or a method makes of a text."""
    if name in _CASES and isinstance(shape, Text) and shape.values is not None:
        return Text(frozenset(map(_CASES[name], shape.values)))
    return TEXT


_BY_NODE: Final[Mapping[type[nodes.Node], Callable[[Any, Scope], Shape]]] = {
    nodes.Name: _name,
    nodes.Getattr: _item,
    nodes.Getitem: _item,
    nodes.Filter: _filter,
    nodes.Call: _call,
    nodes.Const: _const,
    nodes.TemplateData: lambda node, scope: TEXT,
    nodes.Concat: lambda node, scope: TEXT,
    nodes.CondExpr: _either,
    nodes.Compare: lambda node, scope: NUMBER,
}
