"""Who runs a cell, against a real PostgreSQL: taking, holding, giving back, and what the fence stops."""

from __future__ import annotations

import pytest

from engine.errors import Fenced, StoreBehind, StoreInUse
from engine.runtime.store_clock import StoreClock
from engine.stores.postgres.database import Database
from engine.stores.postgres.ownership import steady_s
from tests.acceptance.service import eventually
from tests.postgres.conftest import OpenReplica


def test_a_cell_has_one_owner_and_is_free_when_that_gives_it_back(replica: OpenReplica, dsn: str) -> None:
    a, b = replica("a", dsn).own(), replica("b", dsn)
    assert not b.ownership.take() and not b.ownership.may_send()
    with pytest.raises(StoreInUse, match="'a'"):
        b.own()
    a.ownership.release()
    assert not a.ownership.may_send()
    assert b.ownership.take() and b.ownership.may_send()
    assert (b.ownership.epoch, b.ownership.look().owner) == (2, "b")


def test_a_cell_is_free_when_its_owner_has_not_committed_for_the_lease(replica: OpenReplica, dsn: str) -> None:
    a, b = replica("a", dsn, lease_s=1.0).own(), replica("b", dsn)
    eventually(b.ownership.take)
    assert not a.ownership.may_send()  # its own clock says so, before anybody told it


def test_every_commit_moves_the_head_and_renews_the_lease(replica: OpenReplica, dsn: str) -> None:
    store = replica("a", dsn).own()
    for turn in range(3):
        with store.transaction():
            store.write_meta("turn", str(turn))
    with store.transaction():
        pass  # the beat of an owner that has nothing to write
    assert (store.meta("turn"), store.ownership.head, store.ownership.look().head) == ("2", 4, 4)


def test_what_a_former_owner_writes_is_not_committed_and_it_is_told(replica: OpenReplica, dsn: str) -> None:
    a, b = replica("a", dsn).own(), replica("b", dsn)
    assert b.ownership.take(force=True)
    with pytest.raises(Fenced), a.transaction():
        a.write_meta("by", "a")
    assert b.meta("by") is None
    assert not a.ownership.is_owner and a.ownership.fenced_commits == 1
    with pytest.raises(Fenced), a.transaction():
        pass
    with b.transaction():
        b.write_meta("by", "b")


def test_an_owner_whose_database_was_put_back_loads_again(replica: OpenReplica, dsn: str) -> None:
    a = replica("a", dsn).own()
    for _ in range(3):
        with a.transaction():
            a.write_meta("by", "a")
    with Database(dsn=dsn).connect() as connection:
        connection.execute("UPDATE cells SET head = 1")
    with pytest.raises(StoreBehind), a.transaction():
        a.write_meta("by", "a of later")
    assert not a.ownership.may_send()
    assert a.ownership.take()  # nobody need wait for the lease
    assert (a.ownership.head, a.meta("by")) == (1, "a")


def test_an_epoch_that_came_twice_is_told_apart(replica: OpenReplica, dsn: str) -> None:
    """The taking was lost in a failover; another replica took the same epoch since, and the heads happen to be equal."""
    a, b = replica("a", dsn).own(), replica("b", dsn)
    with Database(dsn=dsn).connect() as connection:
        connection.execute("UPDATE cells SET epoch = 0, token = NULL, until = clock_timestamp()")
    assert b.ownership.take()
    assert (a.ownership.epoch, a.ownership.head) == (b.ownership.epoch, b.ownership.head)
    with pytest.raises(Fenced), a.transaction():
        pass


def test_cells_have_owners_and_heads_of_their_own(replica: OpenReplica, dsn: str) -> None:
    eu, us = replica("a", dsn, "eu").own(), replica("b", dsn, "us").own()
    with eu.transaction():
        eu.write_meta("where", "eu")
    assert (eu.meta("where"), us.meta("where")) == ("eu", None)
    assert (eu.ownership.look().head, us.ownership.look().head) == (1, 0)
    with us.transaction():
        us.write_meta("where", "us")
    assert eu.meta("where") == "eu"


def test_clocks_that_are_an_hour_apart_decide_nothing(replica: OpenReplica, dsn: str) -> None:
    """Neither the clocks of the machines nor the instants that their engines write."""
    hour_ms = 3_600_000
    ahead = replica("ahead", dsn, lease_s=2.0, now_s=lambda: steady_s() + 3_600)
    behind = replica("behind", dsn, lease_s=60.0, now_s=lambda: steady_s() - 3_600)
    assert ahead.ownership.take() and not behind.ownership.take()
    with ahead.transaction():
        ahead.journal.append(1, 10 * hour_ms, "log", [b"{}"], [0], [])
    assert ahead.ownership.may_send() and not behind.ownership.take()
    eventually(behind.ownership.take)
    assert not ahead.ownership.may_send() and behind.ownership.may_send()
    with behind.transaction():
        behind.journal.append(2, 8 * hour_ms, "log", [b"{}"], [0], [])
    with pytest.raises(Fenced), ahead.transaction():
        ahead.journal.append(2, 10 * hour_ms, "log", [b"{}"], [0], [])
    assert [(row.id, row.at_ms // hour_ms) for row in ahead.journal.after(0)] == [(1, 10), (2, 8)]


def test_the_database_s_clock_comes_with_the_cell(replica: OpenReplica, dsn: str) -> None:
    """A standby looks ten times a second: one question, not two."""
    store = replica("a", dsn).own()
    clock = StoreClock()
    before_ms = store.database_ms()
    row = clock.ask_beside(store.ownership.look, lambda row: row.now_ms)
    assert before_ms <= row.now_ms <= store.database_ms()
    assert row.owner == "a" and abs(clock.now_ms() - store.database_ms()) < 60_000
