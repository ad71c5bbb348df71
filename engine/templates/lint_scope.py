"""Names in a template: which a statement sets, which are asked about before they are read, and how an expression reads.

Used by `lint`. Nothing here knows what a rule may read.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes

from engine.templates.shapes import key_of


def assigned_names(node: nodes.Node) -> list[str]:
    """Names that a statement sets: nothing is known about them after it."""
    if isinstance(node, (nodes.Assign, nodes.AssignBlock)):
        return names_below(node.target)
    if isinstance(node, nodes.With):
        return [name for target in node.targets for name in names_below(target)]
    if isinstance(node, (nodes.Macro, nodes.CallBlock)):
        own = [node.name, "caller", "varargs", "kwargs"] if isinstance(node, nodes.Macro) else []
        return [*own, *(argument.name for argument in node.args)]
    return []


def set_once(tree: nodes.Template) -> frozenset[str]:
    """Names that the template sets in one place only, so that it is known what they are."""
    found: dict[str, int] = {}
    for name in tree.find_all(nodes.Name):
        if name.ctx != "load":
            found[name.name] = found.get(name.name, 0) + 1
    return frozenset(name for name, count in found.items() if count == 1)


def set_in_branches(node: nodes.Node) -> set[str]:
    """Names that a branch of an `if` sets: after it they may well be there."""
    found: set[str] = set()
    for child in node.iter_child_nodes():
        if isinstance(child, (nodes.Assign, nodes.AssignBlock)):
            found |= set(names_below(child.target))
        elif isinstance(child, nodes.If):
            found |= set_in_branches(child)
    return found


def guarded(tree: nodes.Template) -> Iterator[str]:
    """What the template asks about before it reads it: `x is defined`, `x|default(…)`, `if x`, `x in …`, `… in x`."""
    for node in tree.find_all(
        (nodes.Test, nodes.Filter, nodes.If, nodes.CondExpr, nodes.For, nodes.Compare, nodes.BinExpr)
    ):
        asked: list[nodes.Node | None] = []
        if (isinstance(node, nodes.Test) and node.name in {"defined", "undefined"}) or (
            isinstance(node, nodes.Filter) and node.name in {"default", "d"}
        ):
            asked = [node.node]
        elif isinstance(node, (nodes.If, nodes.CondExpr, nodes.For)):
            asked = [node.test]
        elif isinstance(node, nodes.Compare):
            asked = [operand.expr for operand in node.ops if operand.op in {"in", "notin"}]
        elif isinstance(node, (nodes.And, nodes.Or)):
            asked = [node.left, node.right]
        yield from (dotted(one) for one in asked if isinstance(one, (nodes.Getattr, nodes.Getitem)))


def dotted(node: nodes.Node) -> str:
    """An expression as it is written, as far as it is made of names: `alert.members[0].id`."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, (nodes.Getattr, nodes.Getitem)):
        key = key_of(node)
        return f"{dotted(node.node)}[{key}]" if isinstance(key, int) else f"{dotted(node.node)}.{key}"
    return "…"


def names_below(node: nodes.Node) -> list[str]:
    """The names in a target of an assignment."""
    if isinstance(node, nodes.Name):
        return [node.name]
    return [name.name for name in node.find_all(nodes.Name)]
