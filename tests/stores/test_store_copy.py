"""A whole store moves to another one and back: everything arrives, or nothing does."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from engine.errors import StoreError, StoreInUse
from engine.runtime.store_copy import copy_store
from engine.stores.copied import TABLES, CopiedTable, CopySide, Row
from engine.stores.posted import PostedEvents
from engine.stores.postgres.database import Database
from engine.stores.postgres.inbox import PostgresInbox
from engine.stores.postgres.store import PostgresStore
from engine.stores.sqlite.store import FILE_NAME, SqliteStore
from engine.testing import temporary_folder
from tests.command_line import command
from tests.postgres.server import fresh_database

HOSTILE = ["G@@@'; DROP TABLE clients; --", "é\u202e\U0001f4a9", 'a"\\N\t\n\\.', "", "NULL"]
"""Texts that have broken copies before: quotes, backslashes, the marks of a copy's own format."""

BLOBS = [b"", bytes(range(256)), b"\\N\n\t"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as found:
        yield found


def kinds(table: CopiedTable) -> list[str]:
    """Of each column, INTEGER, TEXT or BLOB, and whether it may be null: as the SQLite schema says."""
    with temporary_folder() as scratch:
        SqliteStore.open(scratch).close()
        connection = sqlite3.connect(scratch / FILE_NAME)
        info = {row[1]: (row[2], row[3], row[5]) for row in connection.execute(f"PRAGMA table_info({table.name})")}
        connection.close()
    return [f"{info[column][0]}{'' if info[column][1] or info[column][2] else '?'}" for column in table.columns]


def some_rows(table: CopiedTable, count: int) -> list[Row]:
    """So many rows with odd values, and no two with one key."""
    shapes = kinds(table)

    def value(number: int, column: str, shape: str) -> str | int | bytes | None:
        if shape.endswith("?") and number % 3 == 1:
            return None
        if shape.startswith("INTEGER"):
            if column in {"told", "planned", "down", "retrying", "may_have_arrived"}:
                return number % 2
            if column in {
                "attempts",
                "attempts_before",
                "count",
                "total",
                "asked",
                "agreed",
                "corrected",
                "unknown",
                "failed",
                "connections",
            }:
                return number
            return number + 1 if column == "id" else (1 << 53) + number
        if shape.startswith("BLOB"):
            return BLOBS[number % len(BLOBS)]
        return f"{number}{HOSTILE[number % len(HOSTILE)]}"

    return [
        tuple(value(number, column, shape) for column, shape in zip(table.columns, shapes, strict=True))
        for number in range(count)
    ]


def filled(side: CopySide, count: int = 12) -> dict[str, list[Row]]:
    """Rows in every table of an empty store."""
    wanted = {table.name: some_rows(table, count) for table in TABLES}
    with side.writing():
        for table in TABLES:
            side.write(table, wanted[table.name])
    return wanted


def content(side: CopySide) -> dict[str, list[Row]]:
    """Every row of a store."""
    return {table.name: sorted(side.rows(table), key=repr) for table in TABLES}


def sorted_rows(rows: dict[str, list[Row]]) -> dict[str, list[Row]]:
    return {name: sorted(found, key=repr) for name, found in rows.items()}


Sides = Callable[[str, str], AbstractContextManager[CopySide]]


@pytest.fixture
def dsn() -> Iterator[str]:
    with fresh_database() as found:
        yield found


@pytest.fixture
def sides(folder: Path, request: pytest.FixtureRequest) -> Iterator[Sides]:
    """Opens one side of a kind: a folder of a name, or a cell of a name; `elsewhere` in a database of its own."""

    @contextmanager
    def opened(kind: str, name: str) -> Iterator[CopySide]:
        if kind == "sqlite":
            side = sqlite_side(folder / name)
        else:
            dsn = request.getfixturevalue("dsn") if kind == "postgres" else databases.enter_context(fresh_database())
            side = postgres_store(dsn, name).whole()
        try:
            yield side
        finally:
            side.close()

    with ExitStack() as databases:
        yield opened


def test_numbers_that_another_cell_of_the_database_uses_are_a_refusal(sides: Sides) -> None:
    with sides("postgres", "a") as source, sides("postgres", "b") as target:
        filled(source)
        with pytest.raises(StoreError, match="in use by another cell"):
            copy_store(source, target)
    with sides("postgres", "b") as target:  # users and the like belong to both cells
        assert {name for name, count in target.counts().items() if count} == {
            table.name for table in TABLES if table.is_shared
        }


def postgres_store(dsn: str, cell: str) -> PostgresStore:
    return PostgresStore.open(Database(dsn=dsn, replica="copy", lease_s=60.0), cell)


def sqlite_side(data: Path, *, is_source: bool = False) -> CopySide:
    return SqliteStore.open_to_copy(data, is_source=is_source)


def test_the_list_names_every_table_and_column_of_sqlite(folder: Path) -> None:
    SqliteStore.open(folder).close()
    connection = sqlite3.connect(folder / FILE_NAME)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    kept = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in names}
    connection.close()
    assert {table.name: set(table.columns) for table in TABLES} == kept


@pytest.mark.parametrize("ways", ["sqlite sqlite", "sqlite postgres", "postgres sqlite", "postgres elsewhere"])
def test_everything_arrives(sides: Sides, ways: str) -> None:
    first, second = ways.split()
    with sides(first, "a") as source, sides(second, "b") as target:
        wanted = filled(source)
        done = copy_store(source, target)
        assert {found.table: found.rows for found in done} == {table.name: 12 for table in TABLES}
        assert content(target) == content(source) == sorted_rows(wanted)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_target_that_has_anything_is_refused_and_stays_as_it_was(sides: Sides, kind: str) -> None:
    with sides("sqlite", "a") as source:
        filled(source)
        with sides(kind, "b") as target, target.writing():
            target.write(TABLES[0], [("a key", "a value")])
        with sides(kind, "b") as target:
            with pytest.raises(StoreError, match=r"is not empty \(1 rows in meta\)"):
                copy_store(source, target)
            assert sum(target.counts().values()) == 1


def test_a_source_without_a_store_or_without_rows_is_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match="nothing to copy"):
        sqlite_side(folder / "a", is_source=True)
    assert not (folder / "a").exists()
    with (
        closing(sqlite_side(folder / "a")) as source,
        closing(sqlite_side(folder / "b")) as target,
        pytest.raises(StoreError, match="nothing to copy"),
    ):
        copy_store(source, target)


def test_either_side_in_use_is_refused(folder: Path) -> None:
    with closing(SqliteStore.open(folder)), pytest.raises(StoreInUse):
        sqlite_side(folder, is_source=True)


def test_a_cell_that_a_replica_owns_or_that_has_said_something_of_itself_is_refused(dsn: str) -> None:
    owner = postgres_store(dsn, "a").own()
    other = postgres_store(dsn, "a")
    with pytest.raises(StoreInUse, match="'copy'"):
        other.whole()
    other.close()
    owner.close()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO rollcall.replicas (cell, name, standing, epoch, journal_row, seen_at)"
            " SELECT cell, 'a standby', 'standby', 1, 0, clock_timestamp() FROM rollcall.cells"
        )
    standing_by = postgres_store(dsn, "a")
    with pytest.raises(StoreInUse, match="a standby"):
        standing_by.whole()
    standing_by.close()


def test_what_waits_to_be_carried_out_keeps_a_cell_from_being_copied(dsn: str) -> None:
    store = postgres_store(dsn, "a")
    inbox = PostgresInbox(store.database, store.cell)
    inbox.post([PostedEvents("push", [b"{}"])])
    inbox.close()
    with pytest.raises(StoreError, match="1 requests with events"):
        store.whole()
    store.close()


def test_no_replica_takes_a_cell_while_it_is_copied(sides: Sides, dsn: str) -> None:
    with sides("postgres", "a") as source:
        other = PostgresStore.open(Database(dsn=dsn, replica="other"), "a")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '100ms'")
            assert not other.ownership.take(force=True)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute("UPDATE rollcall.cells SET until = 'epoch'")
        assert source.counts()["meta"] == 0
        other.close()


def test_a_store_that_was_copied_goes_on_with_new_numbers_and_reads_its_history(sides: Sides, dsn: str) -> None:
    with sides("sqlite", "a") as source, sides("postgres", "b") as target:
        with source.writing():
            for table in TABLES:
                rows = some_rows(table, 3)
                if table.name == "journal":
                    rows = [(number, number * 80_000_000, "s", 1, b"{}", bytes(8), b"\x90") for number in (1, 2, 3)]
                if table.name == "meta":
                    rows = [("checkpoint", "2")]
                source.write(table, rows)
        copy_store(source, target)
    store = postgres_store(dsn, "b").own()
    assert [row.id for row in store.journal.after(1)] == [2, 3]
    assert store.journal.last_id() == 3
    with store.transaction():
        store.quarantine.add("s", 1, [("why", b"raw")])
        store.journal.append(4, 400_000_000, "s", [b"{}"], [0], [])
    with psycopg.connect(dsn) as connection:
        newest = connection.execute("SELECT max(id) FROM rollcall.quarantine").fetchone()
        assert newest is not None and newest[0] > 3
    assert [row.id for row in store.journal.after(2)] == [3, 4]
    store.close()


def test_a_text_that_postgresql_cannot_hold_is_copied_without_its_zero_character(sides: Sides) -> None:
    with sides("sqlite", "a") as source, sides("postgres", "b") as target:
        with source.writing():
            source.write(TABLES[0], [("key", "a\0b")])
        copy_store(source, target)
        assert list(target.rows(TABLES[0])) == [("key", "a\ufffdb")]


@pytest.mark.parametrize("lose", [lambda rows: islice(rows, 11), lambda rows: (_changed(row) for row in rows)])
def test_what_does_not_arrive_as_it_was_is_not_committed(
    folder: Path, lose: Callable[[Iterable[Row]], Iterable[Row]]
) -> None:
    with closing(SqliteStore.open_to_copy(folder / "a", is_source=False)) as source:
        filled(source)
        with closing(SqliteStore.open_to_copy(folder / "b", is_source=False)) as target:
            written = target.write
            target.write = lambda table, rows: written(  # type: ignore[method-assign]
                table, rows if table.name != "corrections" else _all_read(rows, lose)
            )
            with pytest.raises(StoreError, match="does not hold what was copied"):
                copy_store(source, target)
            assert not any(target.counts().values())


def _all_read(rows: Iterable[Row], lose: Callable[[Iterable[Row]], Iterable[Row]]) -> Iterable[Row]:
    return lose(list(rows))


def _changed(row: Row) -> Row:
    return (*row[:-1], "something else")


def test_a_client_of_another_cell_is_not_copied(folder: Path) -> None:
    with closing(sqlite_side(folder / "a")) as source, closing(sqlite_side(folder / "b")) as target:
        filled(source)
        with pytest.raises(StoreError, match="is foreign: copy into a database with one cell"):
            copy_store(source, target, foreign=lambda client: "it is foreign" if client.startswith("3") else None)
        assert not any(target.counts().values())


def test_memory_does_not_grow_with_the_store(folder: Path) -> None:
    """200 rows of half a megabyte each pass through a few megabytes."""
    journal = next(table for table in TABLES if table.name == "journal")
    with closing(sqlite_side(folder / "a")) as source, closing(sqlite_side(folder / "b")) as target:
        with source.writing():
            source.write(journal, ((row, row, "s", 1, b"x" * 500_000, b"", b"") for row in range(1, 201)))
        tracemalloc.start()
        try:
            copy_store(source, target)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000


def test_the_command_copies_and_says_what_to_do(folder: Path) -> None:
    with closing(sqlite_side(folder / "old")) as source:
        filled(source)
    for name in ("old", "new"):
        (folder / f"{name}.yaml").write_text(f"version: 1\ndata: {name}\nhttp: null\nsources: []\nrules: rules/\n")
    (folder / "rules").mkdir()
    (folder / "rules" / "none.yaml").write_text("version: 1\nrules: []\n")
    arguments = ["store", "copy", "--from", "old.yaml", "--to", "new.yaml"]
    first = command(folder, *arguments)
    assert (first.returncode, first.stderr) == (0, "")
    assert f"copied {12 * len(TABLES)} rows" in first.stdout
    again = command(folder, *arguments)
    assert again.returncode == 1
    assert "is not empty" in again.stderr
