"""Compiles templates and conditions, each once. Read `Compiler`.

A template becomes a function of the variables; `text`, `url` and `html` differ in how they escape what expressions print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any
from urllib.parse import quote

import jinja2
from jinja2 import meta, nodes

from engine.core.rules import Condition
from engine.errors import RollcallError
from engine.templates.fast_path import with_fast_path
from engine.templates.lint_scope import set_once
from engine.templates.sandbox.environment import Environment
from engine.templates.sandbox.filters import FILTERS
from engine.templates.sandbox.gives_up import GivesUp
from engine.templates.sandbox.jinja_tests import TESTS
from engine.templates.sandbox.meter import MAX_TEXT, METER, LimitExceeded
from engine.templates.sandbox.time_limit import TIME_LIMIT
from engine.templates.secret_markers import is_marker
from engine.templates.text import encodable, error_text

MAX_OUTPUT_CHARACTERS = MAX_TEXT
"""Longest text one template may produce."""

MAX_TEMPLATE_CHARACTERS = 16_384
"""Longest template text."""

MAX_CACHED_TEMPLATES = 10_000

Template = Callable[[Mapping[str, Any]], str]
"""A compiled template: from the variables to its text. Raises what the template or a value causes."""


class TemplateProblem(RollcallError):
    """A template cannot be compiled; the message says where and why."""


def _finalize_plain(value: Any) -> Any:
    return "" if value is None else value


def _finalize_url(value: Any) -> str:
    """One percent-encoded segment. The marker of a secret stays: the secret is encoded when it replaces the marker."""
    text = "" if value is None else str(value)
    if is_marker(text):
        return text
    encoded = quote(text, safe="")
    return f"\1{encoded}\1" if text in {".", ".."} else encoded


class Compiler:
    """Compiled templates, cached by their source. Every method raises TemplateProblem for a source that does not compile."""

    def __init__(self) -> None:
        self._plain = Environment(_finalize_plain)
        self._url = Environment(_finalize_url)
        self._html = Environment(_finalize_plain, autoescape=True)
        self._texts: dict[str, Template] = {}
        self._urls: dict[str, Template] = {}
        self._htmls: dict[str, Template] = {}
        self.bodies: dict[int, tuple[Any, Any]] = {}  # of `json_body`: what it was made of, and what it made

    def text(self, source: str) -> Template:
        """A template for text and JSON strings."""
        return _cached(self._texts, self._plain, source)

    def url(self, source: str) -> Template:
        """A template for a URL: every value is one percent-encoded segment."""
        return _cached(self._urls, self._url, source)

    def html(self, source: str) -> Template:
        """A template for HTML: every value is escaped."""
        return _cached(self._htmls, self._html, source)

    def render_all(
        self, value: Any, variables: Mapping[str, Any], render: Callable[[Template, Mapping[str, Any]], str]
    ) -> Any:
        """A JSON value with every text in it rendered by `render`; keys stay as they are. Raises what a template causes."""
        if isinstance(value, str):
            return render(self.text(value), variables) if "{" in value else value
        if isinstance(value, Mapping):
            return {key: self.render_all(entry, variables, render) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.render_all(entry, variables, render) for entry in value]
        return value

    def condition(self, source: str) -> Condition:
        """A compiled `condition`. One that fails when it is evaluated counts as true, so that no page is lost."""
        check_source(source)
        with _compiling():
            expression = self._plain.compile_expression(source, undefined_to_none=False)
            repeats = parse(source, expression=True).find(nodes.Filter) is not None  # nothing else in it could

        def holds(variables: Mapping[str, Any]) -> bool:
            METER.refill()
            try:
                return bool(TIME_LIMIT.run(expression, variables) if repeats else expression(variables))
            except Exception:  # noqa: BLE001  # whatever fails, the page is not lost
                return True

        return holds


def _cached(cache: dict[str, Template], environment: Environment, source: str) -> Template:
    found = cache.get(source)
    if found is None:
        if len(cache) >= MAX_CACHED_TEMPLATES:
            cache.clear()
        found = cache[source] = _compile(environment, source)
    return found


def check_source(source: str) -> None:
    """Raise TemplateProblem for a template that is too long."""
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateProblem(f"longer than {MAX_TEMPLATE_CHARACTERS} characters")


def _compile(environment: Environment, source: str) -> Template:
    """A template as a function. The rendering loop is Jinja's own, but counts the output as it grows."""
    if "{" not in source:
        literal = encodable(source)
        return lambda variables: literal
    check_source(source)
    with _compiling():
        tree = environment.parse(source)
        template = environment.from_string(source)
    root, new_context = template.root_render_func, template.new_context

    def made(variables: Mapping[str, Any]) -> str:
        METER.refill()
        parts, length = [], 0
        for part in root(new_context(dict(variables))):
            length += len(part)
            if length > MAX_OUTPUT_CHARACTERS:
                raise LimitExceeded(f"more than {MAX_OUTPUT_CHARACTERS} characters")
            parts.append(part)
        return encodable("".join(parts))

    render = GivesUp(made)
    return render if environment.autoescape else with_fast_path(tree, environment.finish, render)


def parse(source: str, *, expression: bool = False) -> nodes.Template:
    """The syntax tree of a template (or of a condition), for checks. Raises TemplateProblem when it has none."""
    check_source(source)
    text = "{{ (" + source + "\n) }}" if expression else source
    with _compiling():
        return _CHECKER.parse(text)


@contextmanager
def _compiling() -> Iterator[None]:
    """Whatever Jinja and Python have against a template comes out as TemplateProblem."""
    try:
        yield
    except (RecursionError, SyntaxError, MemoryError) as error:
        raise TemplateProblem("it is nested too deeply") from error
    except (jinja2.TemplateError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise TemplateProblem(error_text(error)) from error


_CHECKER = Environment(_finalize_plain)
KNOWN_FILTERS = FILTERS
KNOWN_TESTS = frozenset(TESTS)
KNOWN_FUNCTIONS = frozenset(_CHECKER.globals)


def constant_problems(source: str, *, expression: bool = False) -> list[str]:
    """Why what a template (or a condition) makes at its top level of constants alone, also of those it has set, can never be made."""
    found = []
    tree = parse(source, expression=expression)
    once = set_once(tree)
    before: dict[str, nodes.Node] = {}  # what sets each name to something constant
    for statement in tree.body:
        if isinstance(statement, nodes.Assign):
            made: Sequence[nodes.Node] = (statement.node,)
        else:
            made = statement.nodes if isinstance(statement, nodes.Output) else ()
        for node in made:
            is_set = isinstance(statement, nodes.Assign)
            is_plain = isinstance(node, (nodes.TemplateData, nodes.Const, nodes.Name)) and not is_set
            if is_plain or not _names_below(node) <= before.keys() | KNOWN_FUNCTIONS:
                continue
            try:
                METER.refill()
                needed = [*before.values(), statement if is_set else nodes.Output([node])]
                alone = nodes.Template([_copied(one) for one in dict.fromkeys(needed)], lineno=1)
                TIME_LIMIT.run(lambda made: "".join(made), _CHECKER.from_string(alone).generate())
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the same each time
                found.append(f"always fails: {error_text(error)}")
            else:
                if isinstance(statement, nodes.Assign) and (names := _names_below(statement.target)) <= once:
                    before |= dict.fromkeys(names, statement)
    return found


def _copied(node: nodes.Node) -> nodes.Node:
    """To compile a tree changes it."""
    found = copy(node)
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(found, name, _copied(value))
        elif isinstance(value, list):
            setattr(found, name, [_copied(one) if isinstance(one, nodes.Node) else one for one in value])
    return found


def _names_below(node: nodes.Node) -> set[str]:
    return {node.name} if isinstance(node, nodes.Name) else {name.name for name in node.find_all(nodes.Name)}


def checker_function(name: str, *, is_filter: bool) -> Callable[..., Any]:
    """A known filter or test, for checks of how it is called."""
    known: Mapping[str, Any] = _CHECKER.filters if is_filter else _CHECKER.tests
    found: Callable[..., Any] = known[name]
    return found


def names_in(source: str, *, expression: bool = False) -> frozenset[str]:
    """The top-level names a template (or a condition) reads."""
    return frozenset(meta.find_undeclared_variables(parse(source, expression=expression)))
