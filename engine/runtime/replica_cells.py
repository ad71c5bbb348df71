"""The cells that one replica runs or stands by for, each with a life of its own. Read `ReplicaCells.run`.

Without `cells` in the configuration there is one, and with the embedded store it is always owned. The others that several replicas
share are told apart by the groups of clients.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from engine.config.cell_groups import CellGroups
from engine.config.loader import Config
from engine.runtime.cell import Cell
from engine.runtime.cell_life import CellLife

K = TypeVar("K")


class ReplicaCells:
    """The present cells, in the order of the configuration."""

    def __init__(self, config: Config, lives: Mapping[str, CellLife]) -> None:
        """`lives`: by the names of `config.own_cells`."""
        self._lives = lives
        self._groups = CellGroups(config.cells) if len(config.cells) > 1 else None

    @property
    def are_several(self) -> bool:
        """Does the configuration divide the fleet into cells?"""
        return self._groups is not None

    def all(self) -> list[Cell]:
        """Every cell of this replica, whoever owns it."""
        return [life.cell for life in self._lives.values()]

    @property
    def first(self) -> Cell:
        """The first one: the only one where there is one."""
        return next(iter(self._lives.values())).cell

    def named(self, name: str) -> Cell | None:
        """The cell of this name; None: not one of this replica's."""
        life = self._lives.get(name)
        return None if life is None else life.cell

    def owned(self) -> list[Cell]:
        """Those that this replica owns at present, as far as it knows."""
        return [cell for cell in self.all() if not cell.is_standby]

    def name_of(self, client: str) -> str | None:
        """The name of the cell that a client belongs to, also when that is not one of this replica's; None: of none."""
        return self.first.name if self._groups is None else self._groups.of(client)

    def of(self, client: str) -> Cell | None:
        """The cell that a client belongs to; None: not one of this replica's."""
        if self._groups is None:
            return self.first
        name = self._groups.of(client)
        return None if name is None else self.named(name)

    async def run(self, stop: asyncio.Event, before_stop: Callable[[], Awaitable[None]]) -> BaseException | None:
        """Until `stop` is set, or an internal error ends one of them, which is returned. `before_stop` is awaited before the first ends."""

        async def lived(life: CellLife) -> BaseException | None:
            try:
                return await life.run(stop, before_stop)
            finally:
                stop.set()  # the service ends as a whole

        found = await asyncio.gather(*[lived(life) for life in self._lives.values()], return_exceptions=True)
        return next((error for error in found if error is not None), None)


def added(counts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    """What several cells have counted, by key. Keys stay also where all is 0."""
    found: Counter[K] = Counter()
    for some in counts:
        found.update(some)
    return dict(found)
