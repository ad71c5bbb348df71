"""Comparisons, arithmetic and methods of texts, each paid for by the size of what it works on before it runs.

Python does all of these in one piece that nothing can interrupt: a comparison of lists that hold one another forty times over, a
text looked for in another, one `%` that makes a gigabyte. So each looks at its values first. Read `compared` and `calculated`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from engine.templates.sandbox.meter import MAX_BITS, MAX_TEXT, METER, LimitExceeded, joined, refuse_number, refuse_text

_ORDERS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}

_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
OPERATORS: Final = frozenset(_ARITHMETIC)

_MAX_BASE, _MAX_EXPONENT = 1_000_000, 64

TEXT_METHODS = frozenset(
    {
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"),
        *("isdigit", "islower", "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition"),
        *("removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split"),
        *("splitlines", "startswith", "strip", "swapcase", "title", "upper"),
    }
)
"""Methods of texts that templates may call: none that pads or repeats."""


def compared(order: str, left: Any, right: Any) -> bool:
    """`left == right` and its like, by Jinja's name of the comparison."""
    if order == "notin":
        return not _contains(right, left)
    if order == "in":
        return _contains(right, left)
    METER.charge(left, right)
    return bool(_ORDERS[order](left, right))


def _contains(values: Any, wanted: Any) -> bool:
    if isinstance(values, str):
        METER.charge(values, wanted)
        if isinstance(wanted, str):
            METER.charge_search(values, wanted)
        return wanted in values  # what is no text has Python's own error
    if isinstance(values, Mapping):
        METER.charge(wanted)
        return wanted in values
    if isinstance(values, (list, tuple, set, frozenset)):
        METER.charge(values, wanted)
        return wanted in values
    return any(compared("eq", wanted, value) for value in METER.charge_each(values))


def is_number(value: Any) -> bool:
    """Whether a value may be calculated with."""
    return isinstance(value, (int, float))


def calculated(sign: str, left: Any, right: Any) -> Any:
    """Arithmetic on numbers of modest size; `+` also joins two texts or two lists."""
    if not (is_number(left) and is_number(right)):
        return _added(left, right) if sign == "+" else _refused(sign, left, right)
    METER.charge(left, right)
    if sign == "**" and (abs(left) > _MAX_BASE or abs(right) > _MAX_EXPONENT):
        raise LimitExceeded("** is for small numbers")
    if sign == "*" and _bits(left) + _bits(right) > MAX_BITS:
        refuse_number()
    return _ARITHMETIC[sign](left, right)


def _refused(sign: str, left: Any, right: Any) -> Any:
    if sign == "%":
        raise LimitExceeded("% is for numbers; use ~ or the filter `format` on short texts")
    raise LimitExceeded(f"{sign} is for numbers, not for {type(left).__name__} and {type(right).__name__}")


def _added(left: Any, right: Any) -> Any:
    METER.charge(left, right)
    if isinstance(left, str) and isinstance(right, str):
        return joined((left, right))
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return left + right  # type: ignore[operator]  # a list and a tuple have Python's own error
    raise LimitExceeded(f"+ cannot add {type(left).__name__} and {type(right).__name__}; use ~ to join texts")


def signed(sign: str, value: Any) -> Any:
    """`-value` and `+value`, of numbers only."""
    if not is_number(value):
        raise LimitExceeded(f"{sign} is for numbers, not for {type(value).__name__}")
    METER.charge(value)
    return -value if sign == "-" else +value


def _bits(number: float) -> int:
    return number.bit_length() if isinstance(number, int) else 64


def plain_text(text: str) -> str:
    """A text without the mark that it is HTML: what is computed from HTML is text, and is escaped like any other."""
    return text if type(text) is str else str.__str__(text)


def call_text_method(owner: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A method of a text, one of `TEXT_METHODS`."""
    text, given = plain_text(owner), [*args, *kwargs.values()]
    if name == "join":
        return joined(METER.charge_each(*args, **kwargs), text)
    METER.charge(text, *given)
    for wanted in given:
        if isinstance(wanted, str):
            METER.charge_search(text, wanted)
        elif isinstance(wanted, tuple):
            METER.charge_search(text, joined(wanted))
    if name == "replace":
        return replaced(text, *args, **kwargs)
    result = getattr(text, name)(*args, **kwargs)
    if isinstance(result, str) and len(result) > MAX_TEXT:
        refuse_text()
    METER.charge(result)
    return result


def replaced(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    """`text.replace(old, new, count)`, its length checked before it is made."""
    METER.charge(text, old, new)
    text, old, new = str(text), str(old), str(new)
    METER.charge_search(text, old)
    found: int = text.count(old)
    times = found if count is None or count < 0 else min(found, count)
    if len(text) + times * (len(new) - len(old)) > MAX_TEXT:
        refuse_text()
    return str(text.replace(old, new, -1 if count is None else count))


def as_list(values: Iterable[Any]) -> list[Any]:
    """Values as a list, each paid for, and then the whole of it."""
    found = list(METER.charge_each(values))
    METER.charge(found)
    return found
