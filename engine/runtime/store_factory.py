"""The store of an installation: the one place that names which kind it is."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config.cell_groups import CellGroups
from engine.config.cluster import POSTGRES, CellConfig
from engine.config.loader import Config
from engine.core.cell_division import Division
from engine.core.client_ids import shown_name
from engine.errors import BadQuestion, RollcallError
from engine.status.shared_budget import ShareLedger
from engine.stores.base import Store
from engine.stores.copied import CopySide
from engine.stores.sqlite import folder_lock
from engine.stores.sqlite.folder_lock import Holder
from engine.stores.sqlite.store import SqliteStore
from engine.web.access.tokens import LOCAL_CHALLENGE, LOCAL_PREFIX

if TYPE_CHECKING:  # they need a package that is not always installed
    from engine.stores.postgres.database import Database
    from engine.stores.postgres.reader import CellReaders
    from engine.stores.postgres.store import PostgresStore


def open_store(config: Config, reached: Callable[[str], None] = lambda place: None) -> Store:
    """Open or create the store of a configuration for writing. StoreInUse while another process has it, else StoreError.

    `reached` is called with the places of a transaction (see `runtime.failpoints`).
    """
    if is_shared(config):
        return open_cell(config, config.cell, reached).own()
    return SqliteStore.open(config.data, reached)


def open_store_to_read(config: Config) -> Store:
    """Open the store of a configuration to read from it, beside a service or without one. StoreError when there is none."""
    if is_shared(config):
        from engine.stores.postgres.store import PostgresStore

        return PostgresStore.open_read_only(database_of(config), config.cell.name)
    return SqliteStore.open_read_only(config.data)


def is_shared(config: Config) -> bool:
    """Do several replicas share the store?"""
    return config.store.type == POSTGRES


def open_cell(config: Config, cell: CellConfig, reached: Callable[[str], None] = lambda place: None) -> PostgresStore:
    """Open the store of a cell without owning it. StoreError when the database cannot be used, or is divided in another way.

    So nothing is ever written into a cell that no replica runs, and no such cell is made.
    """
    from engine.stores.postgres.store import PostgresStore  # its package is not always installed

    cell_numbers(config)
    return PostgresStore.open(database_of(config), cell.name, reached)


def readers_of(config: Config, cells: Sequence[int]) -> CellReaders:
    """Readers of these cells together, beside their stores; opened with the first question."""
    from engine.stores.postgres.reader import CellReaders

    database = database_of(config)
    return CellReaders(database.connect_anywhere, cells[0], cells)


def cell_numbers(config: Config) -> dict[str, int]:
    """The numbers of all cells in the database, by name; one that no process has worked on yet is made known.

    StoreError when the database is divided in another way.
    """
    from engine.stores.postgres.cell_list import CellList

    with CellList.open(database_of(config)) as cells:
        return cells.divide(division_of(config))


def division_of(config: Config) -> list[Division]:
    """How a configuration divides the fleet."""
    return [Division(cell.name, cell.groups) for cell in config.cells]


def database_of(config: Config) -> Database:
    """The database that a configuration with `store: {type: postgres}` names. RollcallError when the DSN cannot be read."""
    from engine.stores.postgres.database import Database

    store, cluster = config.store, config.cluster
    assert store.dsn is not None
    password = store.password
    return Database(
        dsn=store.dsn.reveal(),
        password=lambda: password.reveal() if password is not None else None,
        replica=cluster.name,
        lease_s=cluster.lease_ms / 1000,
    )


def store_problems(config: Config) -> list[tuple[str, bool]]:
    """What is wrong with a database that several replicas share, each with whether it is only a warning; nothing is changed in it."""
    if not is_shared(config) or config.missing_packages:
        return []
    from engine.stores.postgres.examination import examine

    try:
        return [(found.text, found.is_warning) for found in examine(database_of(config), wanted=division_of(config))]
    except RollcallError as error:  # a secret that cannot be read here
        return [(str(error), True)]


def query_shares(config: Config, place: str = "") -> ShareLedger | None:
    """Where the rate of status queries is shared with other replicas; None: this process has it alone.

    `place`: tells those apart who share it in one replica.
    """
    if not is_shared(config):
        return None
    from engine.stores.postgres.shares import PostgresShares

    return PostgresShares(database_of(config), place=f"{config.cell.name} {place}".strip())


def open_to_copy(config: Config, cell: str | None, *, is_source: bool) -> CopySide:
    """The whole store of a configuration as one side of a copy, held so that nothing else works on it.

    `cell`: its name; None: the one of this configuration. StoreInUse while something works on it, StoreError when there is no source
    to copy.
    """
    if not is_shared(config):
        return SqliteStore.open_to_copy(config.data, is_source=is_source)
    store = open_cell(config, _cell_named(config, cell))
    try:
        return store.whole()
    except BaseException:
        store.close()
        raise


def foreign_to(config: Config, cell: str | None) -> Callable[[str], str | None]:
    """What is wrong with a client in a store of a cell, as a sentence: it belongs to another one. None: nothing."""
    if not is_shared(config) or len(config.cells) == 1:
        return lambda client: None
    own, groups = _cell_named(config, cell).name, CellGroups(config.cells)

    def problem(client: str) -> str | None:
        found = groups.of(client)
        if found == own:
            return None
        return f"the client {shown_name(client)} belongs to {'no cell' if found is None else 'the cell ' + found}, not to {own}"

    return problem


def _cell_named(config: Config, cell: str | None) -> CellConfig:
    found = config.cell if cell is None else next((one for one in config.cells if one.name == cell), None)
    if found is None:
        raise BadQuestion(f"{config.path} has no cell {cell}; it has {', '.join(one.name for one in config.cells)}")
    return found


def holder_of(data: Path) -> Holder | None:
    """The process that works in a data folder now; None: none does."""
    return folder_lock.holder_of(data)


def local_token(holder: Holder) -> str | None:
    """What shows the service that a command can read the lock file of its data folder; None: this one cannot."""
    if holder.key is None:
        return None
    return LOCAL_PREFIX + folder_lock.proof(holder.key, LOCAL_CHALLENGE)


def proves(holder: Holder, challenge: str, proof: str) -> bool:
    """Did a process that can read the lock file of the data folder answer the challenge with this proof?"""
    return holder.key is not None and hmac.compare_digest(
        folder_lock.proof(holder.key, challenge).encode(), proof.encode()
    )
