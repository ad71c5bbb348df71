"""Finds mistakes in templates and conditions when rules are loaded, not when an alert needs one of them.

The syntax tree is walked with what is known about every variable: `client.foo`, an unknown filter, or a secret in a body are
reported with a suggestion. Read `template_problems` first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

from jinja2 import TemplateError, meta, nodes

from engine.config.schema import did_you_mean
from engine.templates.compiler import (
    KNOWN_FILTERS,
    KNOWN_FUNCTIONS,
    KNOWN_TESTS,
    TemplateProblem,
    constant_problems,
    parse,
)
from engine.templates.lint_calls import call_problems, secret_problem
from engine.templates.lint_equal import never_equal, never_passes
from engine.templates.lint_scope import assigned_names, dotted, guarded, names_below, set_in_branches, set_once
from engine.templates.lint_types import order_problem, sign_problem, sum_problem
from engine.templates.lint_uncalled import uncalled_problems
from engine.templates.names import ABOUT_CLIENT, ANYTHING, NUMBER, TEXT, Names, Shape, Text
from engine.templates.sandbox.environment import LOOP_NAMES, methods_of
from engine.templates.sandbox.tree_limits import REFUSED
from engine.templates.shapes import key_of, python_type, shape_of

MAX_TREE_DEPTH = 100
"""Deepest nesting of a template's syntax."""

_MISTAKEN = {
    "id": "client.id",
    "client_id": "client.id",
    "clientId": "client.id",
    "device": "client.device",
    "group": "client.group",
    "ip": "client.ip",
    "clientIp": "client.ip",
    "attributes": "client.attributes",
    "name": "rule.name",
    "severity": "rule.severity",
    "labels": "rule.labels",
    "state": "status",
    "time": "occurred_at",
    "timestamp": "occurred_at",
}
"""What people write for a variable that has another name."""

_ASSIGNS = re.compile(r"(?<![=!<>])=(?!=)")
"""One `=` where an expression needs two to compare."""

_CLOCKS = frozenset({"now", "utcnow", "today"})


@lru_cache(maxsize=10_000)
def template_problems(
    source: str, names: Names, *, expression: bool = False, secrets_allowed: bool = False
) -> Sequence[str]:
    """A sentence for every mistake in a template (or, with `expression`, in a condition). Never raises."""
    if expression and source.lstrip().startswith(("{{", "{%")):
        return ["must be an expression: write it without {{ }}"]
    try:
        tree = parse(source, expression=expression)
        if expression and not _is_one_expression(tree):
            return ["must be a single expression"]
        checker = _Checker(names, secrets_allowed, tree)
        found = list(checker.walk(tree, dict(checker.variables), 0))
        undeclared = _undeclared(tree, checker.variables.keys() - (set() if secrets_allowed else {"secrets"}))
        found = [message for name in undeclared if (message := checker.unknown(name)) is not None] + found
        found += [] if found else constant_problems(source, expression=expression)
    except (TemplateProblem, TemplateError) as error:
        hint = "; compare with `==`" if expression and _ASSIGNS.search(source) else ""
        return [f"is not a valid {'expression' if expression else 'template'}: {error}{hint}"]
    except RecursionError:
        return ["is nested too deeply"]
    return list(dict.fromkeys(found))


def _is_one_expression(tree: nodes.Template) -> bool:
    """Whether nothing stands after the expression, which was put between braces to be parsed."""
    return len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) and len(tree.body[0].nodes) == 1


def _undeclared(tree: nodes.Template, known: AbstractSet[str]) -> list[str]:
    """Names that the template reads and does not set itself. Jinja's costly search runs only when it is needed.

    Known filters and tests replace unknown ones, which were reported already, so that Jinja goes on to the names.
    """
    if all(name.name in known and name.ctx == "load" for name in tree.find_all(nodes.Name)):
        return []
    for filtered in tree.find_all(nodes.Filter):
        if filtered.name not in KNOWN_FILTERS:
            filtered.name = "upper"
    for tested in tree.find_all(nodes.Test):
        if tested.name not in KNOWN_TESTS:
            tested.name = "defined"
    return sorted(meta.find_undeclared_variables(tree) - set_in_branches(tree))


class _Checker:
    """Walks one syntax tree. `scope` has the shapes of the names that are visible at a node."""

    def __init__(self, names: Names, secrets_allowed: bool, tree: nodes.Template) -> None:
        self._names = names
        self._secrets_allowed = secrets_allowed
        self._guarded = frozenset(guarded(tree))
        self._set_once = set_once(tree)
        # Macros that nothing else has the name of.
        self._macro_names = frozenset(macro.name for macro in tree.find_all(nodes.Macro)) - {
            name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"
        }
        self._macros: dict[str, tuple[nodes.Macro, dict[str, Shape]]] = {}
        self._checked: dict[tuple[object, ...], object] = {}  # macros with the shapes of their arguments
        self.variables: dict[str, Shape] = {**names.variables, "secrets": names.secrets}

    def unknown(self, name: str) -> str | None:
        """Why a name that the template does not define itself cannot be read; None when it can."""
        if name == "secrets":
            return None if self._secrets_allowed else "`secrets` can be used only in URL, headers and body of a webhook"
        if name in self._names.variables:
            return None
        if name in _CLOCKS:
            return f"`{name}` does not exist: templates have no clock; use occurred_at, settled_at or duration"
        if name in ABOUT_CLIENT or name == "client":
            about = self._names.about or "feed"
            instead = (
                "alert.source and alert.detail" if about == "feed" else "alert.clients, alert.members and alert.key"
            )
            return f"`{name}` is about a client, and alerts of the trigger `{about}` are not about one client; use {instead}"
        meant = self._columns_meaning(name) or _MISTAKEN.get(name, "")
        if meant.partition(".")[0] in self._names.variables:
            return f"`{name[:60]}` does not exist; did you mean `{meant}`?"
        return f"`{name[:60]}` does not exist{did_you_mean(name, list(self._names.variables), all_of_them=True)}"

    def _columns_meaning(self, name: str) -> str:
        client = self._names.variables.get("client")
        columns = client["attributes"] if client else ANYTHING
        return f"client.attributes.{name}" if isinstance(columns, dict) and name in columns else ""

    def walk(self, node: nodes.Node, scope: dict[str, Shape], depth: int) -> Iterator[str]:
        """The problems of a node and all below it."""
        if depth > MAX_TREE_DEPTH:
            raise RecursionError
        if isinstance(node, nodes.For):
            yield from uncalled_problems(node, scope, self._macro_names)
            yield from self._loop(node, scope, depth)
            return
        yield from self._node_problems(node, scope)
        if isinstance(node, nodes.Macro):
            self._macros[node.name] = (node, scope)
        inner = {**scope} if isinstance(node, (nodes.Macro, nodes.CallBlock)) else scope
        for name, shape in self._assigned(node, scope):
            inner[name] = shape
        for child in node.iter_child_nodes():
            yield from self.walk(child, inner, depth + 1)
        if isinstance(node, nodes.Macro):
            scope[node.name] = ANYTHING
        if isinstance(node, nodes.Call):
            yield from self._macro_call(node, scope, depth)

    def _assigned(self, node: nodes.Node, scope: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
        """Names that a statement sets, and what is known about them: something only where the template sets them once."""
        if (
            isinstance(node, nodes.Assign)
            and isinstance(node.target, nodes.Name)
            and node.target.name in self._set_once
        ):
            yield node.target.name, shape_of(node.node, scope)
        elif isinstance(node, nodes.With):
            for target, value in zip(node.targets, node.values, strict=True):
                is_known = isinstance(target, nodes.Name) and target.name in self._set_once
                for name in names_below(target):
                    yield name, shape_of(value, scope) if is_known else ANYTHING
        else:
            yield from ((name, ANYTHING) for name in assigned_names(node))

    def _loop(self, node: nodes.For, scope: dict[str, Shape], depth: int) -> Iterator[str]:
        yield from self.walk(node.iter, scope, depth + 1)
        inner = {**scope, "loop": dict.fromkeys(LOOP_NAMES, ANYTHING)}
        shape = shape_of(node.iter, scope)
        if isinstance(node.target, nodes.Name):
            inner[node.target.name] = (
                shape[0] if isinstance(shape, list) else TEXT if isinstance(shape, Text) else ANYTHING
            )
        else:
            inner.update(dict.fromkeys(names_below(node.target), ANYTHING))
        if node.recursive:
            inner.update(dict.fromkeys(names_below(node.target), ANYTHING))
        for child in (*node.body, *([node.test] if node.test else [])):
            yield from self.walk(child, inner, depth + 1)
        for child in node.else_:
            yield from self.walk(child, scope, depth + 1)

    def _macro_call(self, node: nodes.Call, scope: dict[str, Shape], depth: int) -> Iterator[str]:
        """The problems that a macro has with the arguments of one call."""
        name = node.node.name if isinstance(node.node, nodes.Name) else ""
        if name not in self._macros or node.dyn_args is not None or node.dyn_kwargs is not None:
            return
        macro, outer = self._macros[name]
        given = {argument.name: shape_of(value, scope) for argument, value in zip(macro.args, node.args, strict=False)}
        given |= {keyword.key: shape_of(keyword.value, scope) for keyword in node.kwargs}
        shapes = {argument.name: given.get(argument.name, ANYTHING) for argument in macro.args}
        case = (name, *map(_identity, shapes.values()))
        if case in self._checked or all(shape is ANYTHING for shape in shapes.values()):
            return
        self._checked[case] = shapes  # kept, so that no other shape gets their identity
        own = {**outer, **dict.fromkeys(("caller", "varargs", "kwargs"), ANYTHING), **shapes}
        for statement in macro.body:
            yield from self.walk(statement, own, depth + 1)

    def _node_problems(self, node: nodes.Node, scope: Mapping[str, Shape]) -> Iterator[str]:
        yield from uncalled_problems(node, scope, self._macro_names)
        if type(node) in REFUSED:
            yield REFUSED[type(node)]
        elif isinstance(node, (nodes.Filter, nodes.Test)):
            yield from secret_problem(node)
            yield from call_problems(node, scope)
            yield from never_passes(node, scope)
        elif isinstance(node, nodes.BinExpr):
            yield from sum_problem(node, scope)
        elif isinstance(node, nodes.Compare):
            yield from order_problem(node, scope)
            yield from never_equal(node, scope)
        elif isinstance(node, nodes.UnaryExpr):
            yield from sign_problem(node, scope)
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            yield from secret_problem(node.node)
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name):
            name = node.node.name
            if name not in KNOWN_FUNCTIONS and name in self.variables and scope.get(name) is self.variables[name]:
                yield f"`{name}` is not a function"
        elif isinstance(node, (nodes.Getattr, nodes.Getitem)):
            yield from self._attribute_problem(node, scope)

    def _attribute_problem(self, node: nodes.Getattr | nodes.Getitem, scope: Mapping[str, Shape]) -> Iterator[str]:
        shape, name = shape_of(node.node, scope), key_of(node)
        if not isinstance(name, str):
            return
        place = dotted(node.node)
        if place == "alert.key" and {place, f"{place}.{name}"} & self._guarded:
            return  # it is looked whether it is there
        if shape is NUMBER:
            yield f"`{place}` is a number or true or false, and has no `{name[:60]}`"
        kind = python_type(shape)
        if kind is None or (isinstance(node, nodes.Getattr) and name in (methods_of(kind()) or ())):
            return  # nothing is known, or it is a method such as `items`
        if kind is dict and name not in shape:
            yield f"`{place}.{name[:60]}` does not exist{_suggestion(place, name, shape)}"
        elif kind is str and hasattr(str, name):
            yield f"`{place}.{name[:60]}` cannot be called in a template"
        elif kind is str:
            yield f"`{place}` is text and has no `{name[:60]}`"
        elif kind is list:
            yield f"`{place}` is a list and has no `{name[:60]}`"


def _identity(shape: Shape) -> object:
    if isinstance(shape, Text):
        return shape
    return ("list", _identity(shape[0])) if isinstance(shape, list) else id(shape)


_WHEN_EMPTY = {
    "secrets": ": the configuration has no `secrets`",
    "client.attributes": ": no inventory is configured",
    "rule.labels": ": the rule has no `labels`",
    "alert.key": ": it is empty, because this rule has no `by` in `grouping`, `throttle` or `outage`",
}


def _suggestion(place: str, name: str, shape: Mapping[str, Shape]) -> str:
    if not shape:
        return _WHEN_EMPTY.get(place, "")
    columns = shape.get("attributes") if place == "client" else None
    if isinstance(columns, dict) and name in columns:
        return f"; did you mean `client.attributes.{name}`?"
    return did_you_mean(name, list(shape), all_of_them=True)
