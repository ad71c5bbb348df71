"""A database of its own for each test of this folder that asks for `dsn`, and replicas that open it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from engine.errors import StoreError
from engine.stores.postgres.database import Database
from engine.stores.postgres.ownership import steady_s
from engine.stores.postgres.store import PostgresStore
from tests.postgres.server import fresh_database

OpenReplica = Callable[..., PostgresStore]


@pytest.fixture
def dsn() -> Iterator[str]:
    """How to connect to an empty database."""
    with fresh_database() as found:
        yield found


@pytest.fixture
def replica() -> Iterator[OpenReplica]:
    """Opens the store of a cell as a replica with a name, and closes it after the test."""
    with ExitStack() as opened:

        def open_store(
            name: str,
            dsn: str,
            cell: str = "main",
            lease_s: float = 60.0,
            statement_s: float = 30.0,
            now_s: Callable[[], float] = steady_s,
        ) -> PostgresStore:
            database = Database(dsn=dsn, replica=name, lease_s=lease_s, statement_s=statement_s)
            store = PostgresStore.open(database, cell, now_s=now_s)
            opened.callback(_close, store)
            return store

        yield open_store


def _close(store: PostgresStore) -> None:
    with suppress(StoreError):  # a test may have ended its server
        store.close()
