"""Places in a written body where what a device sends could become structure: `{"id": "{{ client.id }}"}` with an id that holds a quote.

In `json:` every value stays a value. A `body:`, the text of a command, a header or a log line is one text, whose syntax only its author
knows, so it is guessed: JSON, XML, a form, or `name=value`. Read `breakout_warnings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from jinja2 import nodes

from engine.templates.compiler import TemplateProblem, parse
from engine.templates.shapes import key_of

JSON: Final = "JSON"
XML: Final = "XML"
FORM: Final = "a form"
HTML: Final = "HTML"
PLAIN: Final = "text"

_SAFE: Final = {
    JSON: frozenset({"tojson", "urlencode"}),
    XML: frozenset({"e", "escape", "forceescape", "tojson", "urlencode"}),
    FORM: frozenset({"urlencode"}),
    HTML: frozenset({"tojson", "urlencode"}),
    PLAIN: frozenset({"tojson", "urlencode"}),
}
"""Filters after which a value cannot leave its place in a syntax."""

_NUMBERS: Final = frozenset({"length", "count", "int", "float", "wordcount", "round", "abs", "sum"})

_ADVICE: Final = {
    JSON: "write `{{{{ {0}|tojson }}}}` without quotes around it, or use `json:` instead of `body:`",
    XML: "write `{{{{ {0}|e }}}}`, or use `json:`, where every value goes through `tojson` by itself",
    FORM: "write `{{{{ {0}|urlencode }}}}`, or use `json:`, where every value goes through `tojson` by itself",
    HTML: 'put quotes around it, as in href="{{{{ {0} }}}}"; in a script write `{{{{ {0}|tojson }}}}`',
    PLAIN: "write `{{{{ {0}|tojson }}}}`, which puts quotes around it",
}

_BY_DEVICES: Final = frozenset({"client", "evidence", "alert"})
_OF_CLIENT: Final = frozenset({"id", "group", "device", "ip", ""})
_OF_ALERT: Final = frozenset({"clients", "members", "key", "detail", ""})
"""What devices (and brokers) control, of the variables above; "" is the whole of it."""

_FORM_FIELD: Final = re.compile(r"(?:^|&)[^\s=&{}]{1,60}=$")
_ASSIGNED: Final = re.compile(r"[\w.-]=[\"']?$")
_IN_TAG: Final = re.compile(r"<[a-zA-Z][^<>]*=\s*$")
_SCRIPT: Final = re.compile(r"<(?:script|style)\b(?!.*</(?:script|style))", re.IGNORECASE | re.DOTALL)


def syntax_of(source: str, content_type: str = "") -> str:
    """What a text seems to be, by the type that its headers name, or by how it begins."""
    kind, begin = content_type.lower(), source.lstrip()
    begin = re.sub(r"^(?:\{%.*?%\}|\{#.*?#\}|\s)+", "", begin, flags=re.DOTALL)
    is_object = begin[:1] == "{" and begin[:2] not in {"{{", "{%"}
    if "json" in kind or is_object or (begin[:1] == "[" and begin.rstrip()[-1:] == "]"):
        return JSON
    if "xml" in kind or begin[:1] == "<":
        return XML
    if "x-www-form-urlencoded" in kind or re.match(r"[^\s=&{}]{1,60}=[^\s&]*(?:\{\{.*?\}\}[^\s&]*)*(?:&|$)", begin):
        return FORM
    return PLAIN


def syntax_inside(source: str) -> str:
    """The syntax of a text inside a JSON body: JSON or XML written in it; empty for any other."""
    found = syntax_of(source)
    return found if found in {JSON, XML} else ""


@lru_cache(maxsize=10_000)
def breakout_warnings(source: str, syntax: str) -> Sequence[str]:
    """A sentence for each value that could break out of its place. Never raises."""
    if "{" not in source:
        return ()
    try:
        return tuple(dict.fromkeys(_Places(syntax).walk(parse(source).body, {})))
    except (TemplateProblem, RecursionError):
        return ()  # reported elsewhere


class _Places:
    """Walks the statements of a template with the text before each value, and the names that hold what devices control."""

    def __init__(self, syntax: str) -> None:
        self._syntax = syntax
        self._before = ""

    def walk(self, statements: list[nodes.Node], scope: dict[str, bool]) -> Iterator[str]:
        """The warnings of some statements."""
        for node in statements:
            if isinstance(node, nodes.Output):
                yield from self._output(node, scope)
                continue
            self._assign(node, scope)
            for field in ("body", "elif_", "else_"):
                below = getattr(node, field, None)
                if isinstance(below, list):
                    yield from self.walk(below, scope)

    def _assign(self, node: nodes.Node, scope: dict[str, bool]) -> None:
        pairs: list[tuple[nodes.Node, nodes.Node]] = []
        if isinstance(node, nodes.For):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, nodes.Assign):
            pairs = [(node.target, node.node)]
        elif isinstance(node, nodes.With):
            pairs = list(zip(node.targets, node.values, strict=True))
        elif isinstance(node, nodes.Macro):
            scope.update((argument.name, True) for argument in node.args)
        for target, value in pairs:
            is_theirs = self._is_theirs(value, scope)
            names = [target] if isinstance(target, nodes.Name) else target.find_all(nodes.Name)
            scope.update((name.name, is_theirs) for name in names if isinstance(name, nodes.Name))

    def _output(self, output: nodes.Output, scope: dict[str, bool]) -> Iterator[str]:
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                self._before = (self._before + node.data)[-4_096:]
            else:
                if self._can_break_out() and self._is_theirs(node, scope):
                    shown = _written(node)
                    advice = _ADVICE[self._syntax].format(shown if shown != "…" else "value")
                    yield f"`{shown}` is set by a device and could break out of its place in {self._syntax}: {advice}"
                self._before += "\0"

    def _can_break_out(self) -> bool:
        if self._syntax == HTML:
            return bool(_IN_TAG.search(self._before) or _SCRIPT.search(self._before))
        return self._syntax != PLAIN or bool(_ASSIGNED.search(self._before) or _FORM_FIELD.search(self._before))

    def _is_theirs(self, node: nodes.Node, scope: dict[str, bool]) -> bool:
        """Whether a device controls (part of) the text of a value."""
        if isinstance(node, nodes.Filter):
            if node.name in _SAFE[self._syntax] or node.name in _NUMBERS:
                return False
        elif isinstance(node, (nodes.Test, nodes.Compare, nodes.Not, nodes.Const, nodes.TemplateData)):
            return False
        elif isinstance(node, nodes.CondExpr):
            return any(self._is_theirs(one, scope) for one in (node.expr1, node.expr2) if one is not None)
        elif isinstance(node, (nodes.Name, nodes.Getattr, nodes.Getitem)):
            names = _path(node)
            if names is not None:
                return scope[names[0]] if names[0] in scope else _is_by_devices(names)
        return any(self._is_theirs(child, scope) for child in node.iter_child_nodes())


def _path(node: nodes.Node) -> list[str] | None:
    """`alert.members[0].id` as its names; None for what is not made of names alone."""
    names: list[str] = []
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        key = key_of(node)
        names.append(key if isinstance(key, str) else "")
        node = node.node
    return [node.name, *reversed(names)] if isinstance(node, nodes.Name) else None


def _is_by_devices(names: list[str]) -> bool:
    if names[0] not in _BY_DEVICES:
        return False
    part = names[1] if len(names) > 1 else ""
    if names[0] == "client":
        return part in _OF_CLIENT
    if names[0] == "alert":
        return part in _OF_ALERT
    return not (len(names) > 2 and names[2] in {"type", "time", "used", "why"})


def _written(node: nodes.Node) -> str:
    """An expression as its author wrote it, as far as it is made of names."""
    names = _path(node)
    if names is not None:
        return ".".join(name for name in names if name)[:60]
    for child in node.find_all((nodes.Getattr, nodes.Name)):
        inner = _path(child)
        if inner is not None:
            return ".".join(name for name in inner if name)[:60]
    return "…"
