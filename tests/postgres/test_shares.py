"""Shares of status queries in a real PostgreSQL: what is written down never exceeds the rate, and a restart forgets its predecessor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from engine.errors import StoreError
from engine.status.shared_budget import SharedBudget
from engine.stores.postgres.database import Database
from engine.stores.postgres.shares import PostgresShares
from engine.stores.postgres.store import PostgresStore
from tests.postgres.server import fresh_database


@pytest.fixture
def dsn() -> Iterator[str]:
    with fresh_database() as found:
        PostgresStore.open(Database(dsn=found)).close()
        yield found


Ledger = Callable[[str], PostgresShares]


@pytest.fixture
def ledger(dsn: str) -> Iterator[Ledger]:
    """Makes the ledger as one replica reaches it."""
    with ExitStack() as opened:

        def make(replica: str) -> PostgresShares:
            made = PostgresShares(Database(dsn=dsn, replica=replica))
            opened.callback(made.close)
            return made

        yield make


def written(dsn: str) -> list[tuple[str, int, int]]:
    """(replica, calls, floor) of every share."""
    with psycopg.connect(dsn, options="-c search_path=rollcall") as connection:
        return connection.execute("SELECT replica, calls, floor FROM query_shares ORDER BY replica, member").fetchall()


def test_one_gets_all_and_another_what_is_left_until_the_first_comes_down(dsn: str, ledger: Ledger) -> None:
    a, b = ledger("a"), ledger("b")
    assert a.exchange(using=0, floor=0, wanted=300, rate=300) == (300, 15)
    assert b.exchange(using=0, floor=0, wanted=300, rate=300) == (0, 0)
    assert a.exchange(using=300, floor=15, wanted=300, rate=300) == (150, 15)
    assert b.exchange(using=0, floor=0, wanted=300, rate=300) == (0, 0)  # the first may still be making calls
    assert a.exchange(using=150, floor=15, wanted=300, rate=300) == (150, 15)
    assert b.exchange(using=0, floor=0, wanted=300, rate=300) == (150, 15)
    assert written(dsn) == [("a", 150, 15), ("b", 150, 15)]


def test_a_replica_that_begins_anew_frees_the_floor_of_its_last_run(dsn: str, ledger: Ledger) -> None:
    ledger("a").exchange(using=0, floor=0, wanted=300, rate=300)
    again = ledger("a")
    assert again.exchange(using=0, floor=0, wanted=300, rate=300) == (0, 0)
    assert sorted(written(dsn)) == [("a", 0, 0), ("a", 300, 0)]


def test_many_at_once_never_write_down_more_than_the_rate(dsn: str, ledger: Ledger) -> None:
    def work(number: int) -> int:
        mine, using, floor = ledger(f"r{number}"), 0, 0
        for turn in range(15):
            granted = mine.exchange(using=using, floor=floor, wanted=100 * ((number + turn) % 2), rate=100)
            assert sum(calls for _, calls, _ in written(dsn)) <= 100
            using, floor = granted.limit, granted.floor
        return using

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) <= 100


def test_a_budget_goes_on_by_itself_when_its_connection_was_lost(dsn: str, ledger: Ledger) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        budget = SharedBudget(100, ledger("a"))
        budget.renew()
        assert budget.trouble is None and budget.reserve() == 0.0
        budget.done()
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
        assert ended is not None and ended[0] >= 1
    budget.renew()
    budget.renew()
    assert budget.trouble is None
    budget.start()
    budget.close()
    assert [floor for _, _, floor in written(dsn)] == [0]


def test_a_ledger_that_is_away_is_a_sentence_and_grants_nothing() -> None:
    budget = SharedBudget(100, PostgresShares(Database(dsn="host=127.0.0.1 port=1 user=x dbname=x")))
    budget.renew()
    assert budget.trouble is not None and "database cannot be reached" in budget.trouble
    assert budget.reserve() > 0
    with pytest.raises(StoreError):
        PostgresShares(Database(dsn="host=127.0.0.1 port=1 user=x dbname=x")).leave()
