"""What a process takes of sources that hold the events of several cells: those of its own. Read `CellFilter.keep`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.config.cell_groups import CellGroups
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.events import Rejection
from engine.core.matching import Listing
from engine.sources.base import Batch
from engine.stores.posted import PostedEvents

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


class CellPosts:
    """Parts a batch of events that were sent over HTTP into entries for the inboxes of several cells."""

    def __init__(self, config: Config, numbers: Mapping[str, int]) -> None:
        """`numbers`: of the cells in the store, by name."""
        self._groups, self._numbers, self._own = CellGroups(config.cells), numbers, config.cell.name

    def parts(self, batch: Batch) -> list[PostedEvents]:
        """An entry for each cell that has something in the batch. What belongs to none, or is no event, is for the own cell to keep."""
        lines: dict[str, list[bytes]] = {}
        rejected = [(one.reason, one.raw) for one in batch.rejected]
        for event, raw in zip(batch.events, batch.raw, strict=True):
            cell = self._groups.of(event.client)
            if cell is None:
                rejected.append((NO_CELL, raw))
            else:
                lines.setdefault(cell, []).append(raw)
        found = []
        for cell, some in lines.items():
            found.append(PostedEvents(batch.source, some, cell=self._numbers[cell]))
        if rejected or batch.rejected_more:
            own = self._numbers[self._own]
            found.append(PostedEvents(batch.source, [], rejected, batch.rejected_more, own))
        return found


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
