"""Rewrites a template's syntax tree so that loops, `~`, slices and literals pay for their work.

Jinja compiles these to plain Python, which would run without asking the meter. Read `TreeLimits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from engine.templates.sandbox.meter import METER, joined

_SPEND, _CHARGE_EACH, _CHARGE, _JOIN = "spend!", "charge_each!", "charge!", "join!"
"""Names of the filters that a rewritten tree calls: no template can write them."""


@pass_context
def _spend(context: Context, steps: int) -> str:
    METER.spend(steps)
    return ""


@pass_context
def _charge_each(context: Context, values: Iterable[Any], steps: int) -> Iterator[Any]:
    return METER.charge_each(values, steps)


@pass_context
def _charge(context: Context, value: Any) -> Any:
    METER.charge(value)
    return value


@pass_context
def _join(context: Context, parts: list[Any]) -> str:
    return joined(parts)


METER_FILTERS: Mapping[str, Callable[..., Any]] = {
    _SPEND: _spend,
    _CHARGE_EACH: _charge_each,
    _CHARGE: _charge,
    _JOIN: _join,
}
"""The filters that a rewritten tree calls. They take the context, so that the compiler never evaluates them in advance."""


def _call(name: str, value: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=value.lineno)


def _size(found: Iterable[nodes.Node]) -> int:
    """The number of these nodes and all below them."""
    return sum(1 + _size(node.iter_child_nodes()) for node in found)


class TreeLimits(NodeTransformer):
    """Puts payments where compiled templates would work for free."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        """An item costs the size of the body, or of the condition that leaves it out."""
        condition = _size([node.test] if node.test else [])
        self._pay(node)
        node.iter = _call(_CHARGE_EACH, node.iter, nodes.Const(1 + condition))  # type: ignore[arg-type]
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        """A call costs the size of the macro."""
        self._pay(node)
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        """So does a block that a macro calls back."""
        self._pay(node)
        return node

    def _pay(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> None:
        payment = nodes.ExprStmt(_call(_SPEND, nodes.Const(_size(node.body), lineno=node.lineno)), lineno=node.lineno)
        self.generic_visit(node)
        node.body = [payment, *node.body]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        """`~` counts before it copies."""
        self.generic_visit(node)
        return _call(_JOIN, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        """A slice copies, which is paid for by the size of what it is cut from."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _call(_CHARGE, node.node)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        """A literal may hold the same list many times over."""
        self.generic_visit(node)
        return node if _is_constant(node.items) else _call(_CHARGE, node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        """The same, where it is a value and not the target of an assignment."""
        self.generic_visit(node)
        return node if node.ctx != "load" or _is_constant(node.items) else _call(_CHARGE, node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        """The same for a mapping."""
        self.generic_visit(node)
        return _call(_CHARGE, node)


def _is_constant(items: Iterable[nodes.Node]) -> bool:
    return all(isinstance(item, nodes.Const) for item in items)
