"""The store of an installation: the one place that names which kind it is."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path

from engine.config.loader import Config
from engine.stores.base import Store
from engine.stores.copied import CopySide
from engine.stores.sqlite import folder_lock
from engine.stores.sqlite.folder_lock import Holder
from engine.stores.sqlite.store import SqliteStore


def open_store(data: Path, reached: Callable[[str], None] = lambda place: None) -> Store:
    """Open or create the store in a data folder for writing. StoreInUse while another process has it, else StoreError.

    `reached` is called with the places of a transaction (see `runtime.failpoints`).
    """
    return SqliteStore.open(data, reached)


def open_store_to_read(data: Path) -> Store:
    """Open the store in a data folder to read from it, beside a service or without one. StoreError when there is none."""
    return SqliteStore.open_read_only(data)


def open_to_copy(config: Config, cell: str | None, *, is_source: bool) -> CopySide:
    """The whole store of a configuration as one side of a copy, held so that nothing else works on it.

    `cell`: its name; None: the only one. StoreInUse while something works on it, StoreError when there is no source to copy.
    """
    return SqliteStore.open_to_copy(config.data, is_source=is_source)


def holder_of(data: Path) -> Holder | None:
    """The process that works in a data folder now; None: none does."""
    return folder_lock.holder_of(data)


def proves(holder: Holder, challenge: str, proof: str) -> bool:
    """Did a process that can read the lock file of the data folder answer the challenge with this proof?"""
    return holder.key is not None and hmac.compare_digest(
        folder_lock.proof(holder.key, challenge).encode(), proof.encode()
    )
