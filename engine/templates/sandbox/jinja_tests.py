"""The tests that templates may use (`x is odd`): Jinja's own, each paying for what it is given.

Those that compare or calculate are replaced: `"%999999999d" is odd` would be a text formatted to that width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any

from jinja2.tests import TESTS as JINJAS

from engine.templates.sandbox.meter import METER, LimitExceeded
from engine.templates.sandbox.operations import compared, is_number

_COMPARISONS = {
    "eq": "eq",
    "equalto": "eq",
    "==": "eq",
    "ne": "ne",
    "!=": "ne",
    "gt": "gt",
    "greaterthan": "gt",
    ">": "gt",
    "ge": "gteq",
    ">=": "gteq",
    "lt": "lt",
    "lessthan": "lt",
    "<": "lt",
    "le": "lteq",
    "<=": "lteq",
    "in": "in",
}
"""Tests that compare, and Jinja's name of the comparison."""

_CALCULATE = frozenset({"odd", "even", "divisibleby"})


def _paid(name: str, test: Any) -> Callable[..., Any]:
    skip = 1 if hasattr(test, "jinja_pass_arg") else 0

    @wraps(test)
    def charged(*args: Any, **kwargs: Any) -> Any:
        given = (*args[skip:], *kwargs.values())
        METER.charge(*given)
        if name in _CALCULATE and not all(is_number(value) for value in given):
            raise LimitExceeded(f"`is {name}` is for numbers")
        return test(*args, **kwargs)

    return charged


TESTS: Mapping[str, Callable[..., Any]] = {
    name: partial(compared, _COMPARISONS[name]) if name in _COMPARISONS else _paid(name, test)
    for name, test in JINJAS.items()
}
"""The tests that templates may use, by name."""
