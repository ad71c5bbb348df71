"""The connection is lost around a COMMIT: what had committed counts, what had not is undone, and nothing is taken for the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from engine.errors import Fenced, StoreBehind, StoreError
from engine.stores.postgres.store import PostgresStore
from tests.acceptance.service import eventually
from tests.postgres.conftest import OpenReplica
from tests.postgres.proxy import AtCommit, Network
from tests.postgres.server import PostgresServer, shared_server


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(shared_server().port)
    yield made
    made.close()


@pytest.fixture
def far(replica: OpenReplica, network: Network, dsn: str) -> PostgresStore:
    """An owner that reaches its database through the network."""
    return replica("far", through(network, dsn), lease_s=2.0).own()


def through(network: Network, dsn: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn, port=network.port)


def turn(store: PostgresStore, by: str) -> None:
    with store.transaction():
        store.write_meta("by", by)


def test_it_had_committed_and_the_owner_goes_on(far: PostgresStore, network: Network) -> None:
    network.at_commit = AtCommit.LOSE_ANSWER
    turn(far, "first")
    assert (far.meta("by"), far.ownership.head) == ("first", 1)
    turn(far, "second")
    assert (far.meta("by"), far.ownership.head) == ("second", 2)


def test_it_had_not_committed_and_the_owner_tries_again(far: PostgresStore, network: Network) -> None:
    network.at_commit = AtCommit.LOSE
    with pytest.raises(StoreError) as raised:
        turn(far, "first")
    assert type(raised.value) is StoreError and "connection lost" in str(raised.value)
    assert (far.meta("by"), far.ownership.head) == (None, 0)
    turn(far, "again")
    assert (far.meta("by"), far.ownership.head) == ("again", 1)


def test_a_commit_that_arrives_late_is_waited_for(far: PostgresStore, network: Network) -> None:
    """The server holds the transaction when it is asked what became of it; the answer must not change afterwards."""
    network.at_commit = AtCommit.LATE
    settling = threading.Thread(target=_release_when_asked, args=(network,))
    network.then = settling.start
    turn(far, "first")
    settling.join()
    assert (far.meta("by"), far.ownership.head) == ("first", 1)


def _release_when_asked(network: Network) -> None:
    """Wait until the owner waits for the row of its cell."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"
    eventually(lambda: shared_server().ask(asked), lambda found: found == [(1,)])
    network.release()


def test_nobody_can_be_asked_and_it_had_not_committed(replica: OpenReplica) -> None:
    server = PostgresServer.create()
    network = Network(server.port)
    try:
        store = replica("a", through(network, server.dsn(server.database()))).own()
        turn(store, "before")
        network.at_commit = AtCommit.LOSE
        network.then = server.kill
        with pytest.raises(StoreError, match="not known yet"):
            turn(store, "lost")
        assert not store.ownership.may_send()
        server.start()
        turn(store, "after")
        assert (store.meta("by"), store.ownership.head) == ("after", 2)
    finally:
        network.close()
        server.close()


def test_nobody_could_be_asked_and_it_had_committed_so_memory_is_loaded_again(
    far: PostgresStore, network: Network
) -> None:
    """Memory took the transaction for undone: going on would decide from what is not true."""
    network.at_commit = AtCommit.LOSE_ANSWER
    network.then = lambda: setattr(network, "is_refusing", True)
    with pytest.raises(StoreError, match="not known yet"):
        turn(far, "first")
    assert not far.ownership.may_send()
    network.is_refusing = False
    with pytest.raises(StoreBehind):
        turn(far, "second")
    assert far.meta("by") == "first"
    assert far.own().ownership.head == 1
    turn(far, "second")
    assert far.meta("by") == "second"


def test_a_whole_transaction_that_is_late_does_not_come_after_that_of_the_next_owner(
    far: PostgresStore, network: Network, replica: OpenReplica, dsn: str
) -> None:
    turn(far, "far")
    near = replica("near", dsn)
    network.hold()
    raised: list[BaseException] = []

    def late() -> None:
        try:
            turn(far, "far, late")
        except StoreError as error:
            raised.append(error)

    working = threading.Thread(target=late)
    working.start()
    eventually(near.ownership.take)
    assert not far.ownership.may_send()
    turn(near, "near")
    network.release()
    working.join()
    assert [type(error) for error in raised] == [Fenced]
    assert (near.meta("by"), near.ownership.look().head) == ("near", 2)
    turn(near, "near again")


def test_an_owner_that_is_cut_off_and_comes_back_in_time_is_still_the_owner(
    far: PostgresStore, network: Network
) -> None:
    turn(far, "before")
    network.cut()
    turn(far, "after")
    assert (far.meta("by"), far.ownership.head, far.ownership.epoch) == ("after", 2, 1)
