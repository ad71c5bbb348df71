"""A whole store moves to another one and back: everything arrives, or nothing does."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from engine.errors import StoreError, StoreInUse
from engine.runtime.store_copy import copy_store
from engine.stores.copied import TABLES, CopiedTable, CopySide, Row
from engine.stores.sqlite.store import FILE_NAME, SqliteStore
from engine.testing import temporary_folder
from tests.command_line import command

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


def sqlite_side(data: Path, *, is_source: bool = False) -> CopySide:
    return SqliteStore.open_to_copy(data, is_source=is_source)


def test_the_list_names_every_table_and_column_of_sqlite(folder: Path) -> None:
    SqliteStore.open(folder).close()
    connection = sqlite3.connect(folder / FILE_NAME)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    kept = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in names}
    connection.close()
    assert {table.name: set(table.columns) for table in TABLES} == kept


def test_everything_arrives(folder: Path) -> None:
    with closing(sqlite_side(folder / "a")) as source, closing(sqlite_side(folder / "b")) as target:
        wanted = filled(source)
        done = copy_store(source, target)
        assert {found.table: found.rows for found in done} == {table.name: 12 for table in TABLES}
        assert content(target) == content(source) == sorted_rows(wanted)


def test_a_target_that_has_anything_is_refused_and_stays_as_it_was(folder: Path) -> None:
    with closing(sqlite_side(folder / "a")) as source, closing(sqlite_side(folder / "b")) as target:
        filled(source)
        with target.writing():
            target.write(TABLES[0], [("a key", "a value")])
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
