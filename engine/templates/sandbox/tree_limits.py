"""Rewrites a template's syntax tree so that everything in it pays for its work, and refuses what cannot be limited.

Jinja compiles most operations to plain Python, which would run without asking the meter. What is put in their place are methods of
the environment, called by a kind of node that no template text can make: they have no name that a template could write, not in a
filter and not in data that names one. A kind of node that is not listed here is refused. Read `TreeLimits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jinja2 import nodes
from jinja2.exceptions import TemplateAssertionError
from jinja2.visitor import NodeTransformer

_TEMPLATES = "extends, include, import and block are not supported: a template cannot use other templates"
_AUTOESCAPE = "autoescape cannot be changed: what is inserted into HTML is always escaped, and nothing else needs it"

REFUSED: Mapping[type[nodes.Node], str] = {
    nodes.Extends: _TEMPLATES,
    nodes.Include: _TEMPLATES,
    nodes.Import: _TEMPLATES,
    nodes.FromImport: _TEMPLATES,
    nodes.Block: _TEMPLATES,
    nodes.ScopedEvalContextModifier: _AUTOESCAPE,
    nodes.EvalContextModifier: _AUTOESCAPE,
    nodes.NSRef: "attributes cannot be set: templates have no namespaces",
}
"""Statements that no template may contain, and why."""

_ALLOWED = frozenset(
    {
        *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Macro, nodes.CallBlock),
        *(nodes.FilterBlock, nodes.With, nodes.Assign, nodes.AssignBlock, nodes.Scope, nodes.Name, nodes.Const),
        *(nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test),
        *(nodes.Call, nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand),
        *(nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Add, nodes.Sub, nodes.Mod, nodes.Pow),
        *(nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos),
    }
)


def is_internal(call: nodes.Call) -> bool:
    """Whether a call is one that was put into the tree here."""
    return isinstance(call.node, nodes.EnvironmentAttribute)


def _internal(name: str, *args: nodes.Node, lineno: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None, lineno=lineno)


def _size(found: Iterable[nodes.Node]) -> int:
    """The number of these nodes and all below them."""
    return sum(1 + _size(node.iter_child_nodes()) for node in found)


class TreeLimits(NodeTransformer):
    """Puts payments where compiled templates would work for free."""

    def __init__(self) -> None:
        self._blocks = 0

    def visit(self, node: nodes.Node, *args: object, **kwargs: object) -> object:
        """Refuse what is not known."""
        if type(node) not in _ALLOWED:
            kind = type(node).__name__
            message = REFUSED.get(type(node), f"a template cannot contain this kind of statement ({kind})")
            raise TemplateAssertionError(message, getattr(node, "lineno", 1) or 1)
        return super().visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.For:
        """An item costs the size of the body, or of the condition that leaves it out."""
        condition = _size([node.test] if node.test else [])
        self._pay(node)
        node.iter = _internal("charged_items", node.iter, nodes.Const(1 + condition), lineno=node.lineno)
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
        payment = _internal("paid", nodes.Const(_size(node.body)), lineno=node.lineno)
        self.generic_visit(node)
        node.body = [nodes.ExprStmt(payment, lineno=node.lineno), *node.body]

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> list[nodes.Node]:
        """A block and then a filter of what it made, so that the result is escaped where it must be."""
        name, block = self._block(node.body, node.lineno)
        self.generic_visit(node.filter)
        return [block, nodes.Output([_applied(node.filter, name)], lineno=node.lineno)]

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node | list[nodes.Node]:
        """The same for a block that is filtered before it is assigned."""
        if node.filter is None:
            return self.generic_visit(node)
        name, block = self._block(node.body, node.lineno)
        self.generic_visit(node.filter)
        return [block, nodes.Assign(node.target, _applied(node.filter, name), lineno=node.lineno)]

    def _block(self, body: list[nodes.Node], lineno: int) -> tuple[str, nodes.Node]:
        self._blocks += 1
        name = f"_block_{self._blocks}"
        return name, self.generic_visit(
            nodes.AssignBlock(nodes.Name(name, "store", lineno=lineno), None, body, lineno=lineno)
        )

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        """`~` counts before it copies."""
        self.generic_visit(node)
        return _internal("joined_parts", nodes.List(node.nodes, lineno=node.lineno), lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:
        """A comparison looks at both sides first, unless one of them is written out in the template."""
        self.generic_visit(node)
        if _is_cheap(node):
            return node
        found: nodes.Expr | None = None
        left = node.expr
        for operand in node.ops:
            order = nodes.Const(operand.op, lineno=node.lineno)
            one = _internal("compared", order, left, operand.expr, lineno=node.lineno)
            found = one if found is None else nodes.And(found, one, lineno=node.lineno)
            left = operand.expr
        assert found is not None
        return found

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        """A slice copies: of a text its characters, of a list the references to its items. That is paid for."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _internal("charged_to_cut", node.node, lineno=node.lineno)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        """A literal may hold the same list many times over."""
        self.generic_visit(node)
        return node if _is_constant(node.items) else _internal("charged", node, lineno=node.lineno)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        """The same, where it is a value and not the target of an assignment."""
        self.generic_visit(node)
        is_free = node.ctx != "load" or _is_constant(node.items)
        return node if is_free else _internal("charged", node, lineno=node.lineno)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        """The same for a mapping."""
        self.generic_visit(node)
        return _internal("charged", node, lineno=node.lineno)


def _applied(chain: nodes.Filter, name: str) -> nodes.Filter:
    """A chain of filters without a beginning, applied to a name."""
    innermost = chain
    while innermost.node is not None:
        assert isinstance(innermost.node, nodes.Filter)
        innermost = innermost.node
    innermost.node = nodes.Name(name, "load", lineno=chain.lineno)
    return chain


def _is_constant(items: Iterable[nodes.Node]) -> bool:
    return all(isinstance(item, nodes.Const) for item in items)


def _is_cheap(node: nodes.Compare) -> bool:
    """Whether each comparison ends within the size of a value that the template itself holds."""
    left = node.expr
    for operand in node.ops:
        right = operand.expr
        if operand.op in ("in", "notin"):
            if not (isinstance(right, (nodes.List, nodes.Tuple)) and _is_constant(right.items)):
                return False
        elif not (isinstance(left, nodes.Const) or isinstance(right, nodes.Const)):
            return False
        left = right
    return True
