"""Templates that only insert values, without the template engine: nearly all that people write, at a tenth of the cost.

`{{ client.id }} is {{ status }}` needs no sandbox and no compiler: it is text with a few look-ups in plain dictionaries. A
template of this kind is recognised by its syntax tree; at run time whatever is not a plain look-up (a name that is missing,
a value that is no dictionary, a text that grows long) is left to the engine, which then says what is wrong. So both ways
always agree, which is a property test. Read `quickened` first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes

from engine.templates.sandbox import whole_text

Render = Callable[[Mapping[str, Any]], str]
Finalize = Callable[[Any], Any]
Part = str | tuple[str, ...]
"""Literal text, or the names of a look-up: ("client", "id")."""

MAX_QUICK_CHARACTERS = 16_384
"""Longest output of the quick way: far below what a template may produce at most."""


def quickened(tree: nodes.Template, finalize: Finalize, slow: Render) -> Render:
    """A function that renders as `slow` does, quickly where the template only inserts values; `slow` itself where not."""
    parts = _parts(tree)
    if parts is None:
        return slow

    def render(variables: Mapping[str, Any]) -> str:
        found = []
        for part in parts:
            if isinstance(part, str):
                found.append(part)
                continue
            value: Any = variables
            for name in part:
                if type(value) is not dict or name not in value:
                    return slow(variables)
                value = value[name]
            value = finalize(value)
            found.append(value if type(value) is str else str(value))
        text = "".join(found)
        return whole_text(text) if len(text) <= MAX_QUICK_CHARACTERS else slow(variables)

    return render


def _parts(tree: nodes.Template) -> list[Part] | None:
    """Text and look-ups of a template that holds nothing else, None for any other."""
    parts: list[Part] = []
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            part = node.data if isinstance(node, nodes.TemplateData) else _look_up(node)
            if part is None:
                return None
            parts.append(part)
    return parts


def _look_up(node: nodes.Node) -> tuple[str, ...] | None:
    """`client.attributes.site` as its names; None for what is not only names and dots, or reads something hidden."""
    names: list[str] = []
    while isinstance(node, nodes.Getattr):
        names.append(node.attr)
        node = node.node
    if not isinstance(node, nodes.Name):
        return None
    names.append(node.name)
    return None if any(name.startswith("_") for name in names) else tuple(reversed(names))
