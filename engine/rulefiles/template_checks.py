"""Checks the templates of one rule when it is loaded, and reports each mistake at its place in the rule file."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Final

from engine.config.yamlfile import KeyPath
from engine.core.rules import Condition
from engine.rulefiles.context import RuleContext
from engine.templates.breakouts import breakout_warnings, syntax_inside
from engine.templates.compiler import Compiler, TemplateProblem, names_in
from engine.templates.lint import template_problems
from engine.templates.names import Names

_COMPILER = Compiler()

_ONLY_COMPILING_SHOWS = re.compile(r"\{%|=")
"""Templates that only the compiler finds fault with hold statements, or an argument by name: given twice, it is a mistake."""

SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**63 - 1
"""The whole numbers that every reader of JSON takes, and no more."""


class TemplateChecks:
    """Checks with the names that the templates of one rule may read. Nothing is checked for a stored rule."""

    def __init__(self, context: RuleContext, names: Names) -> None:
        self.names = names
        self._context = context

    def check(self, source: str, at: KeyPath, *, secrets_allowed: bool = False, syntax: str = "") -> None:
        """Report every mistake in the template at `at`; with a `syntax`, also where a value could break out of it."""
        if "{" not in source or self._context.is_stored:
            return
        found = template_problems(source, self.names, secrets_allowed=secrets_allowed)
        self._context.report_all(at, found)
        if not found and _ONLY_COMPILING_SHOWS.search(source) and (problem := compile_problem(source)) is not None:
            self._context.report(at, problem)
        for message in breakout_warnings(source, syntax) if syntax and not found else ():
            self._context.report(at, message, warning=True)

    def check_tree(self, value: Any, at: KeyPath, *, secrets_allowed: bool = False) -> None:
        """Report every mistake in any text or number inside a JSON value; keys are not templates."""
        if isinstance(value, str):
            self.check(value, at, secrets_allowed=secrets_allowed, syntax=syntax_inside(value))
        elif isinstance(value, dict):
            for key, inner in value.items():
                if "{{" in key:
                    message = f"a key of `{at[at.index('escalate') + 5 if 'escalate' in at[:1] else 3]}` is not a template: it is sent as written"
                    self._context.report((*at, key), message, at_key=True, warning=True)
                self.check_tree(inner, (*at, key), secrets_allowed=secrets_allowed)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self.check_tree(inner, (*at, index), secrets_allowed=secrets_allowed)
        elif isinstance(value, int | float) and (problem := number_problem(value)) is not None:
            self._context.report(at, problem)


def number_problem(value: float) -> str | None:
    """Why a number cannot be sent as JSON; None when it can."""
    if isinstance(value, float):
        return None if math.isfinite(value) else "JSON has no number for infinity or `nan`: write a text, in quotes"
    if SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        return None
    return "is a number that JSON cannot hold: write it as a text, in quotes"


def compile_problem(source: str, *, html: bool = False) -> str | None:
    """What only the compiler notices: loops nested too deeply, a name that cannot be assigned. None when it compiles."""
    try:
        _COMPILER.html(source) if html else _COMPILER.text(source)
    except TemplateProblem as error:
        return f"is not a valid template: {error}"
    except SyntaxError as error:  # of the Python that a template becomes
        return "is nested too deeply" if "nested" in str(error.msg) else f"is not a valid template: {error.msg}"
    except (RecursionError, MemoryError):
        return "is nested too deeply"
    except Exception as error:  # noqa: BLE001  # of a library
        return f"is not a valid template: {str(error)[:300]}"
    return None


@lru_cache(maxsize=10_000)
def compiled_condition(source: str) -> tuple[Condition, frozenset[str]]:
    """A compiled condition and the names that it reads; many rules share one text."""
    return _COMPILER.condition(source), names_in(source, expression=True)
