"""What can be asked of the database: by the writer in its transaction, or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Values = Sequence[Any] | dict[str, Any]
"""The values of a statement, by place or by name."""


class Questions(Protocol):
    """Answers to single statements: a `Session`, or a `ReadPool`."""

    def row(self, statement: str, values: Values = ()) -> tuple[Any, ...] | None:
        """The first row of an answer, None: there is none."""
        ...

    def rows(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows of an answer."""
        ...
