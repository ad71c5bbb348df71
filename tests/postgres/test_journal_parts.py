"""The journal of a cell lies in parts, one a day: history is dropped a part at a time, and what was purged is gone at once."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.history import POSITION_BITS
from engine.stores.postgres.journal import Q
from engine.stores.postgres.partitions import PART_SPAN_MS
from engine.stores.postgres.store import PostgresStore
from tests.postgres.conftest import OpenReplica
from tests.postgres.server import shared_server
from tests.postgres.test_kinds_of_failure import name_of

DAY = PART_SPAN_MS


class Undo(Exception):
    """A transaction shall be undone."""


@pytest.fixture
def store(replica: OpenReplica, dsn: str) -> PostgresStore:
    return replica("a", dsn).own()


def append(store: PostgresStore, row: int, at_ms: int, previous: int = 0) -> None:
    with store.transaction():
        store.journal.append(row, at_ms, "log", [b'{"row":%d}' % row], [previous], [])


def rows(store: PostgresStore, after: int = 0) -> list[int]:
    return [row.id for row in store.journal.after(after)]


def parts(store: PostgresStore) -> list[str]:
    """The tables of the cell's journal."""
    found = shared_server().ask(
        f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'rollcall.journal_{store.cell}'::regclass ORDER BY 1",
        name_of(store.database.dsn),
    )
    return [str(name).removeprefix("rollcall.") for (name,) in found]


def purge(store: PostgresStore, before_ms: int, checkpoint: int) -> int:
    with store.transaction():
        return store.purge(before_ms, checkpoint)


def test_each_day_has_a_part_and_every_row_is_found(store: PostgresStore) -> None:
    for row in range(1, 9):
        append(store, row, row * DAY // 2, previous=(row - 1) << POSITION_BITS)
    assert parts(store) == ["journal_1_1", "journal_1_2", "journal_1_3", "journal_1_4"]
    for after in range(9):
        assert rows(store, after) == list(range(after + 1, 9))
    with store.reading() as reader:
        assert [entry.raw for entry in reader.history(8 << POSITION_BITS)] == [
            b'{"row":%d}' % row for row in range(8, 0, -1)
        ]
    assert (store.journal.last_id(), store.journal.last_at_ms()) == (8, 4 * DAY)


def test_what_is_purged_is_gone_at_once_and_its_part_when_all_of_it_is(store: PostgresStore) -> None:
    for row in range(1, 9):
        append(store, row, row * DAY // 2, previous=(row - 1) << POSITION_BITS)
    assert purge(store, DAY, 8) == 1  # row 2 is as young as it may be
    assert (rows(store), len(parts(store))) == ([2, 3, 4, 5, 6, 7, 8], 4)
    with store.reading() as reader:
        assert len(list(reader.history(8 << POSITION_BITS))) == 7
    assert purge(store, 3 * DAY, 3) == 2  # the checkpoint does not vouch for more
    assert (rows(store), parts(store)) == ([4, 5, 6, 7, 8], ["journal_1_2", "journal_1_3", "journal_1_4"])
    assert purge(store, 100 * DAY, 8) == 5
    assert (rows(store), parts(store), store.journal.last_id()) == ([], ["journal_1_4"], 8)
    append(store, 9, 5 * DAY)
    assert rows(store) == [9]


def test_a_part_of_a_transaction_that_was_undone_is_begun_again(store: PostgresStore) -> None:
    with pytest.raises(Undo), store.transaction():
        store.journal.append(1, DAY, "log", [b"{}"], [0], [])
        raise Undo
    append(store, 1, 2 * DAY)
    append(store, 2, 2 * DAY)
    assert (rows(store), parts(store)) == ([1, 2], ["journal_1_1"])


def test_a_part_that_another_owner_began_is_known(store: PostgresStore, replica: OpenReplica, dsn: str) -> None:
    append(store, 1, DAY)
    other = replica("b", dsn)
    assert other.ownership.take(force=True)
    append(other, 2, 3 * DAY)
    assert store.ownership.take(force=True)
    append(store, 3, 3 * DAY)
    assert (rows(store), parts(store)) == ([1, 2, 3], ["journal_1_1", "journal_1_2"])


def test_a_part_that_somebody_reads_right_now_goes_with_the_next_purge(store: PostgresStore, dsn: str) -> None:
    for row in range(1, 5):
        append(store, row, row * 2 * DAY)
    with shared_server().admin(name_of(dsn)) as other, other.transaction():
        other.execute("SELECT count(*) FROM rollcall.journal")
        assert purge(store, 7 * DAY, 4) == 3
        assert (rows(store), len(parts(store))) == ([4], 4)
    append(store, 5, 11 * DAY)
    assert purge(store, 9 * DAY, 5) == 1
    assert (rows(store), parts(store)) == ([5], ["journal_1_5"])


def test_a_clock_that_was_put_back_leaves_no_part_that_never_ends(store: PostgresStore) -> None:
    append(store, 1, 400 * DAY)
    append(store, 2, 10 * DAY)
    append(store, 3, 10 * DAY + 1)
    append(store, 4, 11 * DAY)
    assert (rows(store), len(parts(store))) == ([1, 2, 3, 4], 3)


def test_every_question_finds_its_part_without_reading_the_others(store: PostgresStore, dsn: str) -> None:
    for row in range(1, 30):
        append(store, row, row * DAY)
    with store.database.connect() as connection:

        def touched(name: str, **values: Any) -> set[str]:
            connection.execute("SET plan_cache_mode = force_generic_plan")
            plan = connection.execute(f"EXPLAIN (ANALYZE, COSTS off, TIMING off) {Q[name]}", values).fetchall()
            scans = [line for (line,) in plan if "journal_1_" in line and "never executed" not in line]
            return {line.split(" on ")[1].split()[0] for line in scans}

        assert touched("row", cell=store.cell, row=7) == {"journal_1_7"}
        assert touched("after", cell=store.cell, row=27, limit=10) == {"journal_1_28", "journal_1_29"}
        assert touched("last", cell=store.cell) == {"journal_1_29"}
