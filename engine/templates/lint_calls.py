"""Mistakes in how filters, tests and methods are called: an unknown name, wrong arguments, an attribute that items do not have.

Only what fails each time that it is reached is a mistake. Read `call_problems`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

from jinja2 import nodes

from engine.config.schema import did_you_mean
from engine.config.time_zones import zone
from engine.templates.compiler import KNOWN_FILTERS, KNOWN_TESTS, checker_function
from engine.templates.lint_scope import dotted
from engine.templates.lint_types import number_problem
from engine.templates.names import NUMBER, Shape, Text
from engine.templates.sandbox.localtime import check_pattern
from engine.templates.shapes import Scope, argument, attribute_path, constant, shape_of


def call_problems(node: nodes.Filter | nodes.Test, scope: Scope) -> Iterator[str]:
    """The problems of one filter or test."""
    is_filter = isinstance(node, nodes.Filter)
    known, shown = (KNOWN_FILTERS, "the filter `") if is_filter else (KNOWN_TESTS, "the test `is ")
    name: str = node.name
    if name not in known:
        yield f"{shown}{name[:60]}` does not exist{did_you_mean(name, sorted(known))}"
        return
    if problem := _wrong_arguments(node, is_filter):
        yield problem
    if isinstance(node, nodes.Filter):
        yield from _of_items(node, scope)
        yield from number_problem(node, scope)
        if name == "localtime":
            yield from _localtime(node)


def _wrong_arguments(node: nodes.Filter | nodes.Test, is_filter: bool) -> str | None:
    """Why the call cannot work whatever the values are; None when it can."""
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return None
    function = inspect.unwrap(checker_function(node.name, is_filter=is_filter))
    passed = 1 + len(node.args) + hasattr(function, "jinja_pass_arg")
    keywords: dict[str, Any] = {str(keyword.key): None for keyword in node.kwargs}
    try:
        inspect.signature(function).bind(*[None] * passed, **keywords)
    except TypeError as error:
        return f"the {'filter' if is_filter else 'test'} `{node.name}` cannot be called like this: {error}"
    except ValueError:  # a function of Python's that does not say
        return None
    return None


def _of_items(node: nodes.Filter, scope: Scope) -> Iterator[str]:
    """What a filter does with each item: a filter or a test of a name, an attribute."""
    if node.name in {"map", "select", "reject", "selectattr", "rejectattr"}:
        yield from _named(node)
    path, shape = attribute_path(node), shape_of(node.node, scope)
    if path is None or not isinstance(shape, list) or argument(node, "default") is not None:
        return
    if node.name in {"selectattr", "rejectattr"} and constant(argument(node, "", 1)) in {"defined", "undefined"}:
        return
    for one in path.split(",") if node.name == "sort" else [path]:
        if problem := _path_problem(shape[0], one):
            yield f"`{node.name}`: {problem}"


def _named(node: nodes.Filter) -> Iterator[str]:
    """A filter or a test that is named by a text."""
    place = 1 if node.name.endswith("attr") else 0
    name = constant(node.args[place]) if len(node.args) > place else None
    if isinstance(name, str):
        kind, known = ("filter", KNOWN_FILTERS) if node.name == "map" else ("test", KNOWN_TESTS)
        if name not in known:
            yield f"the {kind} `{name[:60]}` in `{node.name}` does not exist{did_you_mean(name, sorted(known))}"


def _path_problem(shape: Shape, path: str) -> str | None:
    """Why an item never has this attribute; None when it may."""
    done = "an item"
    for part in path.split("."):
        if part.isdigit():
            return None
        if isinstance(shape, Text) or shape is NUMBER:
            return f"{done} is {'text' if isinstance(shape, Text) else 'a number'} and has no `{part[:60]}`"
        if isinstance(shape, list):
            return f"{done} is a list and has no `{part[:60]}`"
        if not isinstance(shape, dict):
            return None
        if part not in shape:
            return f"{done} has no `{part[:60]}`{did_you_mean(part, list(shape), all_of_them=True)}"
        done, shape = f"`{part}`", shape[part]
    return None


def _localtime(node: nodes.Filter) -> Iterator[str]:
    name, pattern = constant(argument(node, "zone", 0)), constant(argument(node, "pattern", 1))
    for check, value in ((zone, name), (check_pattern, pattern)):
        if isinstance(value, str):
            try:
                check(value)
            except ValueError as error:
                yield f"`localtime`: {error}"


_KEEPS_SECRETS: Final = frozenset({"tojson", "default", "d", "string", "e", "escape", "forceescape"})


def secret_problem(node: nodes.Filter | nodes.Test | nodes.Getattr) -> Iterator[str]:
    """A filter, a test or a method that needs the value of a secret: it is added only when the request is sent."""
    name = node.attr if isinstance(node, nodes.Getattr) else node.name
    secret = node.node
    if not isinstance(secret, (nodes.Getattr, nodes.Getitem)) or not isinstance(secret.node, nodes.Name):
        return
    if secret.node.name == "secrets" and name not in _KEEPS_SECRETS and not isinstance(node, nodes.Test):
        yield f"`{dotted(secret)}` cannot go through `{name[:60]}`: a secret is added when the request is sent; only `tojson` is possible"
