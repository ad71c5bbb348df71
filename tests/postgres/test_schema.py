"""The schema in PostgreSQL: migrations that are numbered and described, applied once, whoever opens first."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import StoreError
from engine.stores.postgres.database import Database
from engine.stores.postgres.queries import PACKAGE, migrations, script
from engine.stores.postgres.store import PostgresStore
from engine.stores.sql_files import folder
from tests.postgres.conftest import OpenReplica

NAMES = [name for _, name in migrations()]


def test_migrations_are_numbered_from_one_without_a_hole() -> None:
    numbers = [number for number, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_every_migration_says_what_it_is_for(name: str) -> None:
    assert script(name).startswith("-- ")


@pytest.mark.parametrize(
    "file", [entry.name for entry in folder(PACKAGE).iterdir() if not re.match(r"\d{4}_", entry.name)]
)
def test_every_file_of_statements_says_what_they_are_about(file: str) -> None:
    assert script(file).startswith("-- ")


def test_replicas_that_start_at_the_same_time_make_one_schema_and_one_cell(replica: OpenReplica, dsn: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda name: replica(name, dsn), "abcd"))
    assert len({store.cell for store in stores}) == 1
    with stores[0].database.connect() as connection:
        assert connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall() == [
            (number,) for number, _ in migrations()
        ]
    assert sum(store.ownership.take() for store in stores) == 1


def test_a_replica_goes_on_while_a_newer_one_has_brought_the_schema_on(replica: OpenReplica, dsn: str) -> None:
    """A rolling upgrade: who works goes on working; who starts anew must be new enough."""
    old = replica("old", dsn).own()
    with old.database.connect() as connection:
        connection.execute("INSERT INTO schema_version (version) VALUES (999)")
    with old.transaction():
        old.write_meta("by", "old")
    for opening in (PostgresStore.open, PostgresStore.open_read_only):
        with pytest.raises(StoreError, match="upgrade this replica"):
            opening(Database(dsn=dsn))


def test_every_table_begins_with_its_cell(replica: OpenReplica, dsn: str) -> None:
    shared = {"schema_version", "query_shares", "users", "tokens", "sessions", "audit"}
    with replica("a", dsn).database.connect() as connection:
        found = dict(
            connection.execute(
                "SELECT table_name, column_name FROM information_schema.columns"
                " WHERE table_schema = 'rollcall' AND ordinal_position = 1"
            ).fetchall()
        )
    assert {name for name, column in found.items() if column != "cell"} <= shared
