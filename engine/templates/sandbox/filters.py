"""The filters that templates may use, and those of them that are replaced because their result or work could explode."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

import jinja2
from jinja2.filters import (
    do_dictsort,
    do_float,
    do_int,
    do_max,
    do_min,
    do_round,
    do_sort,
    do_sum,
    do_tojson,
    do_trim,
    make_attrgetter,
    sync_do_unique,
)
from jinja2.utils import pass_environment, pass_eval_context
from markupsafe import Markup

from engine.templates.sandbox.format_filter import formatted
from engine.templates.sandbox.localtime import localtime
from engine.templates.sandbox.meter import (
    MAX_TEXT,
    METER,
    LimitExceeded,
    joined,
    printable,
    refuse_internals,
    refuse_text,
    size_of,
)
from engine.templates.sandbox.operations import as_list, is_number, plain_text, replaced
from engine.templates.secret_markers import after_tojson

MAX_DIGITS = 15
"""Most digits for the filter `round`: a float has no more."""

MAX_NUMBER_CHARACTERS = 400
"""Longest text that `int` and `float` read as a number: longer than any float, and quick to read."""

MAX_ENTITY_CHARACTERS = 12
"""Longest `&#1114111;` that `striptags` turns into its character."""

FILTERS = frozenset(
    {
        *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "forceescape"),
        *("format", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject"),
        *("rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort", "string", "striptags", "sum"),
        *("localtime", "title", "tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
    }
)
"""The filters that templates may use."""

_SMALL = 2**60
"""Numbers below it have different hashes, so that a set of them is quick."""


@pass_environment
def _join_filter(environment: jinja2.Environment, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return joined(METER.charge_each(value), plain_text(str(d)))


def _round_filter(value: float, precision: int = 0, method: Any = "common") -> float:
    if not is_number(value):
        raise LimitExceeded("`round` is for numbers")
    if not isinstance(precision, int) or not -MAX_DIGITS <= precision <= MAX_DIGITS:
        raise LimitExceeded(f"`round` knows {MAX_DIGITS} digits at most")
    return do_round(value, precision, method)


def _int_filter(value: Any, default: Any = 0, base: int = 10) -> Any:
    if isinstance(value, str) and len(value) > MAX_NUMBER_CHARACTERS:
        return default
    return do_int(value, default, base)


def _float_filter(value: Any, default: Any = 0.0) -> Any:
    if isinstance(value, str) and len(value) > MAX_NUMBER_CHARACTERS:
        return default
    return do_float(value, default)


@pass_environment
def _sum_filter(environment: jinja2.Environment, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    if not is_number(start):
        raise LimitExceeded("`sum` is for numbers")
    return do_sum(environment, METER.charge_each(iterable), attribute, start)


def _sorted_list(values: Iterable[Any]) -> list[Any]:
    """The values as a list, paid for as often as sorting compares each."""
    found = as_list(values)
    METER.charge(found, times=2 * len(found).bit_length())
    return found


@pass_environment
def _sort_filter(
    environment: jinja2.Environment,
    value: Iterable[Any],
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> list[Any]:
    """With an attribute only its values are compared, so only they are paid for: a thousand members are sorted within the budget."""
    found = as_list(value)
    if attribute is None:
        _sorted_list(found)
    else:
        for name in str(attribute).split(","):
            METER.spend(len(found) + 1)
            get = make_attrgetter(environment, name)
            _sorted_list([get(one) for one in found])
    return do_sort(environment, found, reverse, case_sensitive, attribute)


def _dictsort_filter(value: Mapping[Any, Any], *args: Any, **kwargs: Any) -> list[Any]:
    if not isinstance(value, Mapping):
        raise jinja2.TemplateRuntimeError("`dictsort` is for mappings such as client.attributes")
    _sorted_list(value.items())
    return do_dictsort(value, *args, **kwargs)


@pass_environment
def _min_filter(environment: jinja2.Environment, value: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    return do_min(environment, as_list(value), *args, **kwargs)


@pass_environment
def _max_filter(environment: jinja2.Environment, value: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    return do_max(environment, as_list(value), *args, **kwargs)


@pass_environment
def _unique_filter(environment: jinja2.Environment, value: Iterable[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    attribute = kwargs.get("attribute", args[1] if len(args) > 1 else None)
    find = make_attrgetter(environment, attribute) if attribute is not None else _itself
    return sync_do_unique(environment, _hashed_quickly(value, find), *args, **kwargs)


def _itself(value: Any) -> Any:
    return value


def _hashed_quickly(values: Iterable[Any], find: Callable[[Any], Any]) -> Iterator[Any]:
    """The same values; raises for one whose hash many others may share, which makes a set of them slow."""
    for value in METER.charge_each(values):
        key = find(value)
        is_quick = isinstance(key, (str, float)) or key is None or (isinstance(key, int) and abs(key) < _SMALL)
        if not is_quick and not isinstance(key, jinja2.Undefined):
            raise LimitExceeded("`unique` is for texts and numbers below 2 ** 60")
        yield value


def _trim_filter(value: Any, chars: str | None = None) -> str:
    if chars is not None:
        text = str(value)
        METER.charge_search(text, str(chars))
        return plain_text(do_trim(text, str(chars)))
    return do_trim(value)


def _striptags_filter(value: Any) -> str:
    """The text without comments and tags, its entities as characters. Every character is looked at a fixed number of times."""
    text = _without(_without(str(value), "<!--", "-->"), "<", ">")
    return _ENTITY.sub(lambda found: html.unescape(found[0]), " ".join(text.split()))


_ENTITY = re.compile(rf"&[#a-zA-Z0-9]{{1,{MAX_ENTITY_CHARACTERS}}};?")


def _without(text: str, opening: str, closing: str) -> str:
    """A text without what stands between two marks, the marks included; an opening that is never closed stays."""
    kept, at = [], 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        kept.append(text[at:start])
        at = end + len(closing)
    return "".join([*kept, text[at:]])


@pass_eval_context
def _tojson_filter(eval_context: Any, value: Any, indent: int | None = None) -> str:
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 8):
        raise LimitExceeded("`tojson` indents by 8 at most")
    try:
        found = do_tojson(eval_context, plain_json(value), indent)
    except ValueError as error:
        raise jinja2.TemplateRuntimeError(f"`tojson`: {error}") from error
    return Markup(after_tojson(found)) if "\\u0000" in found else found  # it was made by `tojson`


def plain_json(value: Any) -> Any:
    """A value whose mappings are dictionaries and whose lists are lists, which is what JSON knows."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {str(key): plain_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, range, Iterator)):
        return [plain_json(inner) for inner in METER.charge_each(value)]
    if value is None or is_number(value):
        return value
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises what says which name is missing
    raise jinja2.TemplateRuntimeError(f"`tojson` cannot write a value of the kind {type(value).__name__}")


def unchanged(value: Any) -> Any:
    """The value itself: a filter that does nothing."""
    return value


OWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    "dictsort": _dictsort_filter,
    "float": _float_filter,
    "format": formatted,
    "int": _int_filter,
    "join": _join_filter,
    "localtime": localtime,
    "max": _max_filter,
    "min": _min_filter,
    "replace": replaced,
    "round": _round_filter,
    "sort": _sort_filter,
    "striptags": _striptags_filter,
    "sum": _sum_filter,
    "tojson": _tojson_filter,
    "trim": _trim_filter,
    "unique": _unique_filter,
}
"""Filters whose result, or whose work, may be far larger than what they are given."""

_KEEPS_HTML = frozenset({"trim", "default", "d", "first", "last"})
"""Filters that return (a part of) what they are given and make nothing new: HTML stays HTML."""


_MAKES_TEXT = frozenset(
    {
        *("capitalize", "e", "escape", "forceescape", "format", "lower", "replace", "string", "striptags", "title"),
        *("trim", "truncate", "upper", "wordcount"),
    }
)
"""Filters that make a text of whatever they are given."""

_SAME_ITEMS = frozenset({"sort"})
"""Filters whose result is a list of the very items that they are given, which have been paid for."""

_PASSES_ON = frozenset({"default", "d"})
"""Filters that only choose: what comes of it is looked at where it is printed."""


def bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for what it is given and whose result is limited."""
    skip = 1 if hasattr(filter_, "jinja_pass_arg") else 0
    makes_text = name in _MAKES_TEXT

    @wraps(filter_)
    def charged(*args: Any, **kwargs: Any) -> Any:
        METER.charge(*args[skip:], *kwargs.values())
        if makes_text:
            args = (*args[:skip], *map(printable, args[skip:]))
            kwargs = {key: printable(value) for key, value in kwargs.items()}
        elif name not in _PASSES_ON:
            for value in (*args[skip:], *kwargs.values()):
                refuse_internals(value, iterators=True)
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            if len(result) > MAX_TEXT:
                refuse_text()
            # Markup is not escaped when it is printed: what was computed from it must be.
            return plain_text(result) if type(result) is Markup and name not in _KEEPS_HTML else result
        if isinstance(result, Iterator):
            return METER.charge_each(result)
        METER.spend(len(result) if name in _SAME_ITEMS else size_of(result))
        return result

    return charged
