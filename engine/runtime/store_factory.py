"""The store of an installation: the one place that names which kind it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.stores.base import Store
from engine.stores.sqlite.store import SqliteStore, owner


def open_store(data: Path, reached: Callable[[str], None] = lambda place: None) -> Store:
    """Open or create the store in a data folder for writing. StoreInUse while another process has it, else StoreError.

    `reached` is told of the places of a transaction (see `runtime.failpoints`).
    """
    return SqliteStore.open(data, reached)


def open_store_to_read(data: Path) -> Store:
    """Open the store in a data folder to read from it, beside a service or without one. StoreError when there is none."""
    return SqliteStore.open_read_only(data)


def owner_of(data: Path) -> int | None:
    """The process that was the last to take the lock on a data folder, working or not; None: nobody, or it may not be seen."""
    return owner(data)
