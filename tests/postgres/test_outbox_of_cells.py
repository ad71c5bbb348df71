"""The outbox where PostgreSQL differs from the embedded store: rows of several cells, rows the server refuses, sessions that end."""

from __future__ import annotations

import random

import pytest

from engine.core.alerting.alert import Throttled
from engine.errors import StoreError
from engine.stores.base import Share
from engine.stores.postgres.outbox_queries import Q
from engine.stores.postgres.session import prepared
from engine.stores.postgres.store import PostgresStore
from engine.testing import delivery
from tests.postgres.conftest import OpenReplica
from tests.postgres.server import shared_server

TARGET = "http://pager.test:80"


@pytest.fixture
def store(dsn: str, replica: OpenReplica) -> PostgresStore:
    return replica("a", dsn).own()


def added(store: PostgresStore, *keys: str, **changes: object) -> list[str]:
    with store.transaction():
        return [item.key for item in store.deliveries.add([delivery(key, **changes) for key in keys])]


def leaving(store: PostgresStore) -> list[str]:
    with store.reading() as reader:
        return [item.key for item in reader.due(10, [Share(TARGET, 100, ())])]


def database_of(store: PostgresStore) -> str:
    with store.database.connect() as connection:
        return connection.info.dbname


def test_each_cell_sends_what_is_its_own_and_lists_are_of_all_newest_first(dsn: str, replica: OpenReplica) -> None:
    eu, us = replica("a", dsn, "eu").own(), replica("b", dsn, "us").own()
    for number in range(3):
        added(eu, f"eu-{number}")
        added(us, f"us-{number}")
    added(us, "eu-0")  # the key of another cell is another delivery
    assert leaving(eu) == ["eu-0", "eu-1", "eu-2"]
    assert leaving(us) == ["us-0", "us-1", "us-2", "eu-0"]
    with eu.reading([eu.cell, us.cell]) as reader:
        rows = reader.deliveries()
        assert [row.key for row in rows] == ["eu-0", "us-2", "eu-2", "us-1", "eu-1", "us-0", "eu-0"]
        assert [row.key for row in reader.deliveries(cursor=rows[4].id)] == ["us-0", "eu-0"]
        assert reader.totals().due == 7
        assert reader.delivery(rows[0].id) == rows[0]
    with eu.reading() as reader:
        assert reader.delivery(rows[0].id) is None and reader.totals().due == 3
    with us.transaction():
        assert us.deliveries.act(rows[-1].id, "discard", 20) == (None, False)  # that of the other cell


def test_a_row_that_the_server_refuses_costs_one_try_and_then_no_other_row(store: PostgresStore) -> None:
    database = database_of(store)
    shared_server().ask(
        "ALTER TABLE rollcall.deliveries ADD CONSTRAINT none CHECK (request NOT LIKE '%poison%')", database
    )
    rows = [delivery("a"), delivery("poison", request={"text": "poison"}), delivery("b")]
    with pytest.raises(StoreError), store.transaction():
        store.deliveries.add(rows)
    with store.transaction():
        assert [item.key for item in store.deliveries.add(rows)] == ["a", "b"]
    with store.reading() as reader:
        (dead,) = reader.deliveries(state="dead")
    assert dead.key == "poison" and "cannot be stored" in (dead.last_error or "")
    assert leaving(store) == ["a", "b"]


def test_a_lane_may_be_longer_than_an_index_takes_and_keeps_its_order(store: PostgresStore) -> None:
    lane = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=20_000)))
    assert added(store, "first", lane=lane, state="held") == []
    assert added(store, "second", lane=lane) == []
    assert added(store, "another", lane=lane + "x") == ["another"]
    assert leaving(store) == ["another"]


def test_a_target_that_no_index_takes_is_dead_and_stops_no_other(store: PostgresStore) -> None:
    long = TARGET + "/" + "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9_000))
    with store.transaction():
        items = store.deliveries.add([delivery("long", target=long), delivery("short")])
    assert [item.key for item in items] == ["short"]


def test_questions_are_answered_after_their_sessions_were_ended(store: PostgresStore) -> None:
    added(store, "a")
    assert leaving(store) == ["a"]
    ended = shared_server().ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE datname = '{database_of(store)}' AND application_name LIKE 'rollcall%'"
    )
    assert ended != [(0,)]
    assert leaving(store) == ["a"]
    assert added(store, "b") == ["b"]


IDS = {"cell": 1, "id": [1, 2], "ids": [1, 2], "at": [1, 2], "said": [None, "x"], "attempt": ["[]", "[]"]}


@pytest.mark.parametrize("name", ["delivered", "standings"])
def test_deliveries_are_found_by_their_ids_in_a_database_that_has_no_statistics_yet(
    name: str, store: PostgresStore
) -> None:
    added(store, *(str(number) for number in range(1_000)))
    with store.database.connect() as connection:
        prepared(connection)
        plan = "\n".join(str(line) for (line,) in connection.execute(f"EXPLAIN {Q[name]}", IDS))
    assert "deliveries_pkey" in plan and "deliveries_cell_key_key" not in plan and "Seq Scan" not in plan, plan


def test_the_key_of_a_throttle_may_be_longer_than_an_index_takes(store: PostgresStore) -> None:
    key = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9_000))
    with store.transaction():
        store.alerts.write_throttles([Throttled("r", key, [1]), Throttled("r", "short", [2])])
    with store.transaction():
        store.alerts.write_throttles([Throttled("r", key, [1, 3])])
    assert {one.key: one.firings for one in store.alerts.throttles()} == {key: [1, 3], "short": [2]}
    with store.transaction():
        store.alerts.write_throttles([Throttled("r", key)])
    assert [one.key for one in store.alerts.throttles()] == ["short"]
