"""What the texts of one request may take together: a body has many, and each alone may be long and slow. Read `RequestBudget.text`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.templates.compiler import Template
from engine.templates.sandbox.gives_up import GivesUp
from engine.templates.sandbox.meter import MAX_WORK, METER, LimitExceeded

MAX_REQUEST_CHARACTERS: Final = 1_048_576
"""Most characters that the texts of one request have together."""

MAX_REQUEST_WORK: Final = 4 * MAX_WORK
"""Most work of all of them, in steps of the meter: about a second on a slow machine."""


class RequestBudget:
    """The budget of one request. Short defaults take the place of what is beyond it."""

    __slots__ = ("_characters", "_work")

    def __init__(self) -> None:
        self._characters, self._work = MAX_REQUEST_CHARACTERS, MAX_REQUEST_WORK

    def text(self, template: Template, variables: Mapping[str, Any]) -> str:
        """A text of the request. Raises what the template causes; LimitExceeded for what is beyond the budget."""
        text = self._worked(template, variables) if type(template) is GivesUp else template(variables)
        self._characters -= len(text)
        if self._characters < 0:
            self._characters += len(text)
            raise LimitExceeded(
                f"the texts of this request have more than {MAX_REQUEST_CHARACTERS} characters together"
            )
        return text

    def _worked(self, template: Template, variables: Mapping[str, Any]) -> str:
        """The text of a template that does more than insert values."""
        if self._work < 0:
            raise LimitExceeded("the texts of this request do too much work together")
        METER.refill()
        try:
            return template(variables)
        finally:
            self._work -= min(MAX_WORK, MAX_WORK - METER.left)
