"""The budget of one rendering: work is paid for where it can grow, and no value may grow beyond a limit. Read `Meter`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from jinja2.exceptions import SecurityError

MAX_TEXT = 65_536
"""Longest text anywhere in a rendering, in characters."""

MAX_ITEMS = 100_000
"""Items of the largest list, inner lists counted too: more clients than any outage lists."""

MAX_WORK = 250_000
"""Budget of one rendering in steps of at most about 1 µs: a quarter of a second on a slow machine."""

CHARACTERS_A_STEP = 16
"""Characters handled for one step of work, by the slowest filter."""


class LimitExceeded(SecurityError):
    """A template exceeded the limits of the sandbox."""


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

    def charge(self, *values: Any) -> None:
        """Pay for handling values, including those inside them. Raises LimitExceeded for a value that is too large."""
        steps = items = 0
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            steps += 1
            if isinstance(value, str):
                if len(value) > MAX_TEXT:
                    refuse_text()
                steps += len(value) // CHARACTERS_A_STEP
                continue
            if isinstance(value, Mapping):
                inner = [*value.keys(), *value.values()]
            elif isinstance(value, (list, tuple, set, frozenset)):
                inner = list(value)
            else:
                continue
            items += len(inner)
            if items > MAX_ITEMS:
                raise LimitExceeded(f"a list of more than {MAX_ITEMS} items")
            waiting += inner
        self.spend(steps)

    def charge_each(self, values: Iterable[Any], steps: int = 1) -> Iterator[Any]:
        """The same values, each paid for when it is taken."""
        for value in values:
            self.spend(steps)
            yield value


METER = Meter()


def refuse_text() -> NoReturn:
    """Raise LimitExceeded for a text that is too long."""
    raise LimitExceeded(f"a text of more than {MAX_TEXT} characters")


def joined(parts: Iterable[Any], separator: str = "") -> str:
    """Texts joined, counted before they are copied."""
    texts: list[str] = []
    length = 0
    for part in parts:
        if not isinstance(part, str):
            METER.charge(part)
            part = str(part)
        length += len(part) + (len(separator) if texts else 0)
        if length > MAX_TEXT:
            refuse_text()
        texts.append(part)
    METER.spend(len(texts) + length // CHARACTERS_A_STEP)
    return separator.join(texts)
