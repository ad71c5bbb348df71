"""The filters that templates may use, and those of them that are replaced because their result or work could explode."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

import jinja2
from jinja2.filters import do_round, do_sum, do_tojson, make_attrgetter
from jinja2.utils import pass_environment, pass_eval_context
from markupsafe import Markup

from engine.templates.sandbox.meter import MAX_TEXT, METER, LimitExceeded, joined, refuse_text

MAX_PADDING = 999
"""Widest field of the filter `format`."""

MAX_DIGITS = 15
"""Most digits for the filter `round`: a float has no more."""

FILTERS = frozenset(
    {
        *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "forceescape"),
        *("format", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject"),
        *("rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort", "string", "striptags", "sum"),
        *("title", "tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
    }
)
"""The filters that templates may use."""

_WIDTH = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")


def replaced(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    """`text.replace(old, new, count)`, its length checked before it is made."""
    METER.charge(text, old, new)
    text, old, new = str(text), str(old), str(new)
    found: int = text.count(old)
    times = found if count is None or count < 0 else min(found, count)
    if len(text) + times * (len(new) - len(old)) > MAX_TEXT:
        refuse_text()
    return str(text.replace(old, new, -1 if count is None else count))


@pass_environment
def _join_filter(environment: jinja2.Environment, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return joined(METER.charge_each(value), str(d))


def _format_filter(value: Any, *args: Any, **kwargs: Any) -> str:
    text = str(value)
    for found in _WIDTH.finditer(text):
        for width in found.groups():
            if width and (width == "*" or len(width) > 4 or int(width) > MAX_PADDING):
                raise LimitExceeded(f"`format` pads to {MAX_PADDING} characters at most")
    given = [*args, *kwargs.values()]
    METER.charge(*given)
    longest = max((len(str(one)) for one in given), default=0)
    if len(text) + text.count("%") * max(longest, MAX_PADDING) > 16 * MAX_TEXT:
        refuse_text()
    if args and kwargs:
        raise jinja2.TemplateRuntimeError("`format` takes values in order or by name, not both")
    return text % (kwargs or args)


def _round_filter(value: float, precision: int = 0, method: Any = "common") -> float:
    if not -MAX_DIGITS <= precision <= MAX_DIGITS:
        raise LimitExceeded(f"`round` knows {MAX_DIGITS} digits at most")
    return do_round(value, precision, method)


@pass_environment
def _sum_filter(environment: jinja2.Environment, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    if not isinstance(start, (int, float)):
        raise LimitExceeded("`sum` is for numbers")
    return do_sum(environment, METER.charge_each(iterable), attribute, start)


@pass_eval_context
def _tojson_filter(eval_context: Any, value: Any, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= 8:
        raise LimitExceeded("`tojson` indents by 8 at most")
    return do_tojson(eval_context, value, indent)


def unchanged(value: Any) -> Any:
    """The value itself: a filter that does nothing."""
    return value


OWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    "join": _join_filter,
    "format": _format_filter,
    "replace": replaced,
    "round": _round_filter,
    "sum": _sum_filter,
    "tojson": _tojson_filter,
}
"""Filters whose result, or whose work, may be far larger than what they are given."""


def bounded(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for what it is given and whose result is limited."""
    skip = 1 if hasattr(filter_, "jinja_pass_arg") else 0

    @wraps(filter_)
    def charged(*args: Any, **kwargs: Any) -> Any:
        METER.charge(*args[skip:], *kwargs.values())
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            if len(result) > MAX_TEXT:
                refuse_text()
            # Markup changes what `+` and `~` do to what stands beside it; escaping is the destination's business.
            return str.__str__(result) if type(result) is Markup else result
        if isinstance(result, Iterator):
            return METER.charge_each(result)
        METER.charge(result)
        return result

    return charged
