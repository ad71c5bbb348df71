"""Names in templates and conditions: an unknown one is found when the file is loaded, not at 3 a.m."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import nodes

from engine.rendering import KNOWN_FILTERS, KNOWN_FUNCTIONS, KNOWN_TESTS, TemplateProblem, parse
from engine.schema import did_you_mean

CLIENT = frozenset({"id", "group", "device", "ip", "attributes"})
ALERT = frozenset({"id", "state", "reason", "started_at", "count", "clients", "key", "source", "detail"})
RULE = frozenset({"name", "severity", "description", "labels"})
PLAIN = frozenset(
    "status previous occurred_at settled_at since duration graceful flaps flapping doubtful verified_at evidence".split()
)
TOP = frozenset({"client", "alert", "rule"}) | PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What may be named. `columns`: the inventory's, None when not known; `feed_only`: there is no client."""

    columns: Sequence[str] | None = None
    feed_only: bool = False


def template_problems(
    source: str, names: Names, *, expression: bool = False, secrets: bool = False
) -> Iterator[str]:
    """What is wrong with a template (or a condition), one sentence each."""
    try:
        tree = parse(source, expression=expression)
    except TemplateProblem as error:
        yield f"cannot be read as {'an expression' if expression else 'a template'}: {error}"
        return
    local = {node.name for node in tree.find_all(nodes.Name) if node.ctx in {"store", "param"}}
    known = ({"alert", "rule"} if names.feed_only else set(TOP)) | KNOWN_FUNCTIONS | local | {"loop"}
    if secrets:
        known.add("secrets")
    told = set()
    for node in tree.find_all(nodes.Name):
        if node.ctx == "load" and node.name not in known and node.name not in told:
            told.add(node.name)
            yield _unknown_name(node.name, known, names, expression)
    for node in tree.find_all(nodes.Filter):
        if node.name not in KNOWN_FILTERS:
            yield f"unknown filter `{node.name}`{did_you_mean(node.name, sorted(KNOWN_FILTERS))}"
    for test in tree.find_all(nodes.Test):
        if test.name not in KNOWN_TESTS:
            yield f"unknown test `{test.name}`{did_you_mean(test.name, sorted(KNOWN_TESTS))}"
    for attribute in tree.find_all((nodes.Getattr, nodes.Getitem)):
        yield from _attribute_problems(attribute, names, local)
    for forbidden in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield f"`{type(forbidden).__name__.lower()}` is not available: a template stands for itself"


def _unknown_name(name: str, known: set[str], names: Names, expression: bool) -> str:
    if name == "secrets":
        return "`secrets` can be used in webhook headers and urls only"
    if names.feed_only and name in TOP:
        return f"`{name}` is about a client, and the trigger `feed` has none; use `alert.source`, `alert.detail`"
    if name in CLIENT:
        return f"unknown name `{name}`; did you mean `client.{name}`?"
    if names.columns and name in names.columns:
        return f"unknown name `{name}`; did you mean `client.attributes.{name}`?"
    quoted = "; text must be quoted" if expression else ""
    return f"unknown name `{name}`{did_you_mean(name, sorted(known)) or quoted}"


def _attribute_problems(node: nodes.Getattr | nodes.Getitem, names: Names, local: set[str]) -> Iterator[str]:
    key = _key_of(node)
    inner = node.node
    if key is None:
        return
    if isinstance(inner, nodes.Name) and inner.name not in local:
        parts = {"client": CLIENT, "alert": ALERT, "rule": RULE}.get(inner.name)
        if parts is not None and key not in parts:
            if inner.name == "client" and names.columns and key in names.columns:
                yield f"`client` has no `{key}`; did you mean `client.attributes.{key}`?"
            else:
                yield f"`{inner.name}` has no `{key}`{did_you_mean(key, sorted(parts), all_of_them=True)}"
        elif inner.name in PLAIN and inner.name != "evidence" and isinstance(node, nodes.Getattr):
            yield f"`{inner.name}` has no parts, so no `.{key}`"
    elif isinstance(inner, nodes.Getattr | nodes.Getitem) and _key_of(inner) == "attributes":
        owner = inner.node
        if isinstance(owner, nodes.Name) and owner.name == "client" and names.columns is not None:
            if key not in names.columns:
                hint = did_you_mean(key, names.columns, all_of_them=True)
                yield f"the inventory has no column `{key}`{hint}"


def _key_of(node: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str) else None


def secrets_named(source: str) -> list[str]:
    """The names behind `secrets.` in a template."""
    return [
        key
        for node in parse(source).find_all((nodes.Getattr, nodes.Getitem))
        if isinstance(node.node, nodes.Name) and node.node.name == "secrets" and (key := _key_of(node)) is not None
    ]
