"""Methods, functions and macros that are used as if they were values: `{{ client.id.upper }}` without its brackets. Read `uncalled_problems`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from jinja2 import nodes

from engine.templates.compiler import KNOWN_FUNCTIONS
from engine.templates.lint_scope import dotted
from engine.templates.sandbox.environment import methods_of
from engine.templates.shapes import Scope, python_type, shape_of


def uncalled_problems(node: nodes.Node, scope: Scope, macros: Collection[str]) -> Iterator[str]:
    """A method, a function, a macro or `loop` that is printed, joined, filtered, compared or asked about, and not called."""
    printed = _made_text_of(node)
    for one in (*printed, *_asked_of(node)):
        if isinstance(one, nodes.Name):
            name = one.name
            if name in macros or (name in KNOWN_FUNCTIONS and name not in scope):
                yield f"`{name}` is a {'macro' if name in macros else 'function'}: write `{name}(…)`"
            elif name == "self" and name not in scope:
                yield "`self` is no value that can be printed"
            elif name == "loop" and isinstance(scope.get("loop"), dict) and one in printed:
                yield "`loop` cannot be printed: write `loop.index`, `loop.first` or another part of it"
        elif isinstance(one, nodes.Getattr):
            place = f"{dotted(one.node)}.{one.attr}"
            if _is_method(one, scope) or (
                place in ("loop.cycle", "loop.changed") and isinstance(scope.get("loop"), dict)
            ):
                yield f"`{place}` is a method: write `{place}()`"


def _is_method(node: nodes.Getattr, scope: Scope) -> bool:
    shape = shape_of(node.node, scope)
    kind = python_type(shape)
    is_part = kind is not str and kind is not None and node.attr in shape
    return kind is not None and not is_part and node.attr in (methods_of(kind()) or ())


def _made_text_of(node: nodes.Node) -> Sequence[nodes.Node]:
    """The expressions of which a node makes a text, or which it keeps for one."""
    if isinstance(node, (nodes.Output, nodes.Concat)):
        return node.nodes
    if isinstance(node, (nodes.List, nodes.Tuple)):
        return node.items
    if isinstance(node, nodes.Dict):
        return [pair.value for pair in node.items]
    if isinstance(node, nodes.Filter) and node.node is not None:
        return [node.node, *node.args, *(keyword.value for keyword in node.kwargs)]
    return ()


def _asked_of(node: nodes.Node) -> Sequence[nodes.Node]:
    """The expressions that a node compares, calculates with, decides by, or reads a part of."""
    if isinstance(node, nodes.Compare):
        return [node.expr, *(operand.expr for operand in node.ops)]
    if isinstance(node, (nodes.If, nodes.CondExpr)):
        return [node.test]
    if isinstance(node, (nodes.And, nodes.Or, nodes.Not, nodes.BinExpr, nodes.UnaryExpr)):
        return [node.node] if isinstance(node, nodes.UnaryExpr) else [node.left, node.right]
    if isinstance(node, nodes.For):
        return [node.iter]
    return [node.node] if isinstance(node, (nodes.Getattr, nodes.Getitem)) else ()
