"""Which cell a client belongs to: the first whose patterns match its group. Read `CellGroups`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.config.cluster import CellConfig
from engine.config.known_names import SEPARATOR
from engine.config.patterns import compile_patterns

MAX_REMEMBERED: Final = 100_000
"""Groups whose cell is remembered; beyond, the memory is emptied and fills again."""


class CellGroups:
    """The cells of a configuration, by the groups of clients."""

    def __init__(self, cells: Sequence[CellConfig]) -> None:
        self._names = [cell.name for cell in cells for _ in cell.groups]  # of each pattern
        self._patterns = compile_patterns([pattern for cell in cells for pattern in cell.groups])
        self._known: dict[str, str | None] = {}

    def of_group(self, group: str) -> str | None:
        """The name of the cell of a group; None: no cell has it."""
        if group in self._known:
            return self._known[group]
        found = self._patterns.matching(group)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        name = self._known[group] = self._names[min(found)] if found else None
        return name

    def of(self, client: str) -> str | None:
        """The name of the cell of a client; None: no cell has its group. An id without a group belongs to the group of no name."""
        group, separator, _ = client.partition(SEPARATOR)
        return self.of_group(group if separator else "")
