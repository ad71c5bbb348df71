"""The budget of one rendering: work is paid for where it can grow, and no value may grow beyond a limit. Read `Meter`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

from jinja2 import Undefined
from jinja2.exceptions import SecurityError, TemplateRuntimeError

MAX_TEXT = 262_144
"""Longest text anywhere in a rendering, in characters: all that is known of the thousand clients that an alert lists, as JSON."""

MAX_ITEMS = 100_000
"""Items of the largest list, inner lists counted too: more clients than any outage lists."""

MAX_BITS = 4_096
"""Bits of the largest number: about 1,200 digits."""

MAX_WORK = 250_000
"""Budget of one rendering in steps of at most about 1 µs: a quarter of a second on a slow machine."""

CHARACTERS_A_STEP = 16
"""Characters handled for one step of work, by the slowest filter."""

COMPARISONS_A_STEP = 1_024
"""Characters compared for one step, where a search may have to compare each character of a text with each of another."""


class LimitExceeded(SecurityError):
    """A template exceeded the limits of the sandbox. `is_slow`: it was stopped after a long time."""

    is_slow = False


class Meter(threading.local):
    """What is left of the budget of the rendering that runs in this thread."""

    left = MAX_WORK

    def refill(self) -> None:
        """Start a rendering with a full budget."""
        self.left = MAX_WORK

    def spend(self, steps: int) -> None:
        """Pay for work before it is done. Raises LimitExceeded when the budget is used up."""
        self.left -= steps
        if self.left < 0:
            raise LimitExceeded("the template does too much work")

    def charge(self, *values: Any, times: int = 1) -> None:
        """Pay for handling values, including those inside them, so many times. LimitExceeded for a value that is too large."""
        self.spend(size_of(*values) * times)

    def charge_search(self, text: str, wanted: str) -> None:
        """Pay for looking for one text in another: at worst each character of one is compared with each of the other."""
        self.spend(1 + len(text) * len(wanted) // COMPARISONS_A_STEP)

    def charge_each(self, values: Iterable[Any], steps: int = 1) -> Iterator[Any]:
        """The same values, each paid for when it is taken."""
        for value in values:
            self.spend(steps)
            yield value


METER = Meter()


def size_of(*values: Any) -> int:
    """The steps that it takes to handle values once, shared inner values counted each time. Raises LimitExceeded."""
    steps = items = 0
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        steps += 1
        if isinstance(value, str):
            if len(value) > MAX_TEXT:
                refuse_text()
            steps += len(value) // CHARACTERS_A_STEP
        elif isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                refuse_number()
        elif isinstance(value, (Mapping, list, tuple, set, frozenset)):
            items += len(value)
            if items > MAX_ITEMS:
                raise LimitExceeded(f"a list of more than {MAX_ITEMS} items")
            waiting += [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    return steps


def refuse_text() -> NoReturn:
    """Raise LimitExceeded for a text that is too long."""
    raise LimitExceeded(f"a text of more than {MAX_TEXT} characters")


def refuse_number() -> NoReturn:
    """Raise LimitExceeded for a number that is too large."""
    raise LimitExceeded(f"the number is too large: more than {MAX_BITS} bits")


_PLAIN: Final = (str, int, float, Mapping, list, tuple, range, set, frozenset, Undefined, type(None))
"""What has a text of its own. Anything else is a thing of Python's, whose text would show what only Python knows."""

_SINGLE: Final = (str, int, float, type(None))


def refuse_internals(value: Any, *, iterators: bool = False) -> None:
    """Raise TemplateRuntimeError for a method, a function, a macro, `loop` or another thing of Python's, also inside lists and mappings.

    `iterators`: whether the value itself may be a sequence that is made when it is read (`map`, `select`).
    """
    if isinstance(value, _SINGLE):
        return
    if iterators and isinstance(value, Iterator) and not callable(value):
        return
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (Undefined, *_SINGLE)):
            continue
        if isinstance(one, Iterator) and not callable(one):
            raise TemplateRuntimeError("a list inside another one cannot be printed like this: write `|list` after it")
        if not isinstance(one, _PLAIN):
            if callable(one):
                raise TemplateRuntimeError("a function or a method cannot be printed: call it with ( )")
            raise TemplateRuntimeError("this is no value that can be printed")
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting += one


def printable(value: Any) -> Any:
    """The value as it may be printed: a sequence that is made when it is read (`map`, `select`, `range`) as a list.

    Raises TemplateRuntimeError for what `refuse_internals` refuses.
    """
    if isinstance(value, _SINGLE):
        return value
    if isinstance(value, range) or (isinstance(value, Iterator) and not callable(value)):
        value = list(value)
        METER.charge(value)
    refuse_internals(value)
    return value


def joined(parts: Iterable[Any], separator: str = "") -> str:
    """Texts joined, counted before they are copied."""
    texts: list[str] = []
    length = 0
    for part in parts:
        if not isinstance(part, str):
            METER.charge(part)
            part = str(printable(part))
        length += len(part) + (len(separator) if texts else 0)
        if length > MAX_TEXT:
            refuse_text()
        texts.append(part)
    METER.spend(len(texts) + length // CHARACTERS_A_STEP)
    return str.join(separator, texts)
