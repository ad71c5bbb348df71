"""The `json` of a webhook: its texts are templates, everything else stays as it is written. Read `JsonBody`.

A body is compiled once: for each text its template and its place, so that rendering only walks and inserts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.templates.compiler import Compiler, Template, TemplateProblem
from engine.templates.defaults import default_text
from engine.templates.request_budget import RequestBudget
from engine.templates.secret_markers import SECRETS
from engine.templates.text import error_text

MAX_PROBLEMS: Final = 20
"""Failing texts of one body that the delivery names; the rest is replaced without being named."""

MAX_DEFAULT_CHARACTERS: Final = 1_000
"""Longest default in place of a text that failed: a body may have thousands."""

MAX_CACHED_BODIES: Final = 10_000

Rendering = Callable[[Mapping[str, Any], RequestBudget, list[str]], Any]
"""Renders (a part of) a body: from the variables, the budget of the request, and the problems, to which it adds."""


def json_body(compiler: Compiler, written: Any) -> Rendering:
    """The compiled body, made once for each body of a rule."""
    found = compiler.bodies.get(id(written))
    if found is None or found[0] is not written:
        if len(compiler.bodies) >= MAX_CACHED_BODIES:
            compiler.bodies.clear()
        found = compiler.bodies[id(written)] = written, _compiled(compiler, written, "json")
    rendering: Rendering = found[1]
    return rendering


def _compiled(compiler: Compiler, value: Any, at: str) -> Rendering:
    """`value` as a rendering; `at` is the way to it."""
    if isinstance(value, str) and "{" in value:
        return _text(_template(compiler, value), at, reads_secrets="secrets" in value)
    if isinstance(value, Mapping):
        entries = [(key, _compiled(compiler, entry, f"{at}.{key}")) for key, entry in value.items()]
        return lambda variables, budget, problems: {
            key: rendering(variables, budget, problems) for key, rendering in entries
        }
    if isinstance(value, (list, tuple)):
        items = [_compiled(compiler, entry, f"{at}[{index}]") for index, entry in enumerate(value)]
        return lambda variables, budget, problems: [rendering(variables, budget, problems) for rendering in items]
    return lambda variables, budget, problems: value


def with_secrets(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a template that may read `secrets`."""
    return {**variables, "secrets": SECRETS}


def _text(template: Template, at: str, *, reads_secrets: bool) -> Rendering:
    def rendering(variables: Mapping[str, Any], budget: RequestBudget, problems: list[str]) -> str:
        try:
            return budget.text(template, with_secrets(variables) if reads_secrets else variables)
        except Exception as error:  # noqa: BLE001  # only this text is lost, and the request says so
            if len(problems) < MAX_PROBLEMS:
                problems.append(f"{at}: {error_text(error)}")
            return default_text(variables)[:MAX_DEFAULT_CHARACTERS]

    return rendering


def _template(compiler: Compiler, source: str) -> Template:
    """A compiled template; one that does not compile fails each time that it is rendered."""
    try:
        return compiler.text(source)
    except TemplateProblem as error:
        problem = error

        def failing(variables: Mapping[str, Any]) -> str:
            raise problem

        return failing
