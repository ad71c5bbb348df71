"""What `rollcall cells` does, straight in the database: it needs no replica that answers. Read `move_cell`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from engine.config.loader import Config
from engine.errors import BadQuestion, NotConfigured, NotThere, Unavailable
from engine.runtime.store_factory import database_of, is_shared

if TYPE_CHECKING:  # it needs a package that is not always installed
    from engine.stores.postgres.cell_list import CellList

LOOK_S: Final = 0.1
"""Between two looks whether a cell has moved."""

LONGEST_MOVE_S: Final = 40.0
"""An owner finishes what is in hand before it gives a cell back; deliveries under way may take long."""


def cell_objects(config: Config) -> list[dict[str, Any]]:
    """Each cell as `rollcall cells list` shows it. NotConfigured with SQLite, StoreError when the database cannot be asked."""
    with _opened(config) as cells:
        replicas = cells.replicas(config.cluster.lease_ms / 1000)
        return [
            {
                "cell": row.name,
                "owner": row.owner if row.left_s > 0 else None,
                "epoch": row.epoch,
                "lease_left": round(max(0.0, row.left_s), 1),
                "wanted": row.wanted,
                "standby": [one.name for one in replicas if one.cell == row.cell and one.standing == "standby"],
                "behind": [one.name for one in replicas if one.cell == row.cell and one.standing == "behind"],
            }
            for row in cells.all()
        ]


def move_cell(config: Config, cell: str, replica: str) -> str:
    """Have a replica own a cell, and wait until it does; returns a sentence. NotThere without such a cell or replica."""
    with _opened(config) as cells:
        row = _cell(cells, cell)
        if row.owner == replica and row.left_s > 0:
            return f"{replica} owns the cell {cell} already"
        known = sorted({one.name for one in cells.replicas(config.cluster.lease_ms / 1000) if one.cell == row.cell})
        if replica not in known:
            raise NotThere(
                f"no replica {replica} stands by for the cell {cell}: there are {', '.join(known) or 'none'}"
            )
        cells.want(cell, replica)
        return _moved(config, cells, cell, lambda owner: owner == replica)


def release_cell(config: Config, cell: str) -> str:
    """Have a cell's owner give it back, and wait until another replica owns it; returns a sentence."""
    with _opened(config) as cells:
        row = _cell(cells, cell)
        if row.owner is None or row.left_s <= 0:
            raise BadQuestion(f"no replica owns the cell {cell} at present")
        before = row.owner
        cells.want(cell, f"!{before}")
        return _moved(config, cells, cell, lambda owner: owner != before)


def _cell(cells: CellList, name: str) -> Any:
    rows = cells.all()
    for row in rows:
        if row.name == name:
            return row
    raise NotThere(f"there is no cell {name}: there are {', '.join(row.name for row in rows) or 'none'}")


def _moved(config: Config, cells: CellList, cell: str, is_it: Callable[[str], bool]) -> str:
    """Wait until a cell has the owner that is meant."""
    end_s = time.monotonic() + LONGEST_MOVE_S + 2 * config.cluster.lease_ms / 1000
    while True:
        row = _cell(cells, cell)
        if row.owner is not None and row.left_s > 0 and is_it(row.owner):
            return f"{row.owner} owns the cell {cell} now (epoch {row.epoch})"
        if time.monotonic() > end_s:
            raise Unavailable(
                f"the cell {cell} has not moved yet; its owner is {row.owner or 'missing'}: see `rollcall cells list`"
            )
        time.sleep(LOOK_S)


@contextmanager
def _opened(config: Config) -> Iterator[CellList]:
    if not is_shared(config):
        raise NotConfigured("there are no cells: `store` is SQLite, and one process works on all groups")
    from engine.stores.postgres.cell_list import CellList

    with CellList.open(database_of(config)) as cells:
        yield cells
