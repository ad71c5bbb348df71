"""A template that uses up its budget again and again is not tried each time. Read `GivesUp`.

One rendering that fails at its limit takes a quarter of a second. A storm renders a thousand texts in one transaction, and must not
stand still for minutes because each of them fails after all the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.templates.sandbox.meter import METER, LimitExceeded
from engine.templates.sandbox.time_limit import TIME_LIMIT

MAX_SKIPPED: Final = 1_024
"""Most renderings that are refused at once after one that reached its limit."""

Made = Callable[[Mapping[str, Any]], str]


class GivesUp:
    """Renders as `made` does, within the limit of time. After each failure at a limit in a row, twice as many are not tried."""

    __slots__ = ("_failures", "_left", "_made", "_reason")

    def __init__(self, made: Made) -> None:
        self._made = made
        self._failures = 0  # in a row
        self._left = 0  # renderings that are not tried
        self._reason = ""

    def __call__(self, variables: Mapping[str, Any]) -> str:
        """The text. Raises what the template causes; LimitExceeded when it is not tried."""
        if self._left:
            self._left -= 1
            raise LimitExceeded(f"{self._reason} (the last {self._failures} times; this time it was not tried)")
        try:
            text = TIME_LIMIT.run(self._made, variables)
        except LimitExceeded as limit:
            if METER.left >= 0 and not limit.is_slow:
                raise  # it failed early: trying again costs nothing
            self._failures += 1
            self._left = min(2**self._failures - 2, MAX_SKIPPED)
            self._reason = str(limit)
            raise
        self._failures = 0
        return text
