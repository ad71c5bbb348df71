"""Templates that only insert values, without the template engine: nearly all that people write, at a tenth of the cost.

`{{ client.id }} is {{ status }}` needs no sandbox and no compiler: it is text with a few look-ups in plain dictionaries. A
template of this kind is recognised by its syntax tree. Whatever is not a plain look-up when it runs (a missing name, a value that
is not a dictionary, a long text) is left to the template engine, which reports what is wrong. So both always agree, which a
property test checks. Read `with_fast_path` first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes

from engine.templates.text import encodable

Render = Callable[[Mapping[str, Any]], str]
Finalize = Callable[[Any], Any]
Part = str | tuple[str, ...]
"""Literal text, or the names of a look-up: ("client", "id")."""

MAX_FAST_CHARACTERS = 16_384
"""Longest output of the fast path: far below the limit of a template."""


def with_fast_path(tree: nodes.Template, finalize: Finalize, slow: Render) -> Render:
    """A function that renders as `slow` does, fast when the template only inserts values; otherwise `slow` itself."""
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
        return encodable(text) if len(text) <= MAX_FAST_CHARACTERS else slow(variables)

    return render


def _parts(tree: nodes.Template) -> list[Part] | None:
    """Text and look-ups of a template that contains nothing else; None for any other."""
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
    """`client.attributes.site` as its names; None for anything but names and dots, and for private names."""
    names: list[str] = []
    while isinstance(node, nodes.Getattr):
        names.append(node.attr)
        node = node.node
    if not isinstance(node, nodes.Name):
        return None
    names.append(node.name)
    return None if any(name.startswith("_") for name in names) else tuple(reversed(names))
