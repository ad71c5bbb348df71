"""What a process takes of sources that hold the events of several cells: those of its own. Read `CellFilter.keep`."""

from __future__ import annotations

from collections.abc import Sequence

from engine.config.cell_groups import CellGroups
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.events import Rejection
from engine.core.matching import Listing
from engine.sources.base import Batch

NO_CELL = "no cell has the group of this client: add it to `cells` in the configuration"
"""Why an event is not accepted whose group matches no pattern of any cell."""


class CellFilter:
    """The events of one cell among those of all. What belongs to no cell, and what is no event, is for the first cell to keep."""

    def __init__(self, config: Config) -> None:
        self._groups, self._own = CellGroups(config.cells), config.cell.name
        self._is_first = config.cells[0] == config.cell

    def keep(self, batch: Batch) -> None:
        """Leave in a batch what is this cell's; its position stays, so the rest has been read as well."""
        cells = [self._groups.of(event.client) for event in batch.events]
        if self._is_first:
            lost = [Rejection(0, NO_CELL, raw) for raw, cell in zip(batch.raw, cells, strict=True) if cell is None]
            batch.rejected = [*batch.rejected, *lost]
        else:
            batch.rejected, batch.rejected_more = [], 0
        own = [place for place, cell in enumerate(cells) if cell == self._own]
        batch.events = [batch.events[place] for place in own]
        batch.raw = [batch.raw[place] for place in own]


def cell_filter(config: Config) -> CellFilter | None:
    """The filter of a configuration; None where one cell holds everything."""
    return CellFilter(config) if len(config.cells) > 1 else None


class _OwnListing:
    """Whom the inventory lists in the groups of one cell."""

    def __init__(self, inventory: Inventory, groups: CellGroups, own: str) -> None:
        self._inventory, self._groups, self._own = inventory, groups, own

    def lists(self, client: str) -> bool:
        """See `Listing`."""
        return self._inventory.lists(client) and self._groups.of(client) == self._own

    def clients(self) -> Sequence[str]:
        """See `Listing`."""
        return [client for client in self._inventory.clients() if self._groups.of(client) == self._own]

    @property
    def has_patterns(self) -> bool:
        """See `Listing`."""
        return self._inventory.has_patterns


def listing_of(config: Config, inventory: Inventory) -> Listing:
    """Whom the inventory lists by whole ids, as far as this process is concerned with them."""
    return inventory if len(config.cells) == 1 else _OwnListing(inventory, CellGroups(config.cells), config.cell.name)
