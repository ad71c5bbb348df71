"""What can be wrong with a database, told apart: what happened, why, what to do; and the store goes on by itself when it is over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from engine.errors import StoreError
from engine.stores.postgres import database as database_module
from engine.stores.postgres.database import Database
from engine.stores.postgres.store import PostgresStore
from tests.acceptance.service import eventually, free_port
from tests.postgres.conftest import OpenReplica
from tests.postgres.disks import database_on, fill, small_disk
from tests.postgres.server import ROLE, PostgresServer, shared_server


def write(store: PostgresStore, value: str) -> None:
    with store.transaction():
        store.write_meta("value", value)


def why_not(store: PostgresStore, value: str = "refused") -> str:
    """Why the store cannot commit. It stays the owner, and nothing of the transaction is there."""
    with pytest.raises(StoreError) as raised:
        write(store, value)
    assert type(raised.value) is StoreError
    return str(raised.value)


def name_of(dsn: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])


@pytest.fixture(scope="module")
def module_server() -> Iterator[PostgresServer]:
    server = PostgresServer.create()
    yield server
    server.close()


@pytest.fixture
def own_server(module_server: PostgresServer) -> Iterator[PostgresServer]:
    """A server that tests may kill and configure; the next one finds it as it was."""
    yield module_server
    module_server.ask("ALTER SYSTEM RESET ALL")
    module_server.restart()


@pytest.fixture
def store(replica: OpenReplica, dsn: str) -> PostgresStore:
    made = replica("a", dsn, statement_s=2.0).own()
    write(made, "before")
    return made


def test_a_database_that_was_started_again_between_transactions_costs_none(
    own_server: PostgresServer, replica: OpenReplica
) -> None:
    store = replica("a", own_server.dsn(own_server.database())).own()
    write(store, "before")
    own_server.kill()
    assert "connection lost" in why_not(store)
    with pytest.raises(StoreError, match="connection lost"):
        store.meta("value")
    own_server.start()
    assert store.meta("value") == "before"
    write(store, "after")
    own_server.restart()
    write(store, "after a restart")  # a session that ended meanwhile is replaced before anything is written
    assert (store.meta("value"), store.ownership.epoch, store.ownership.head) == ("after a restart", 1, 3)


def test_a_database_that_crashes_inside_a_transaction_undoes_it(
    own_server: PostgresServer, replica: OpenReplica
) -> None:
    store = replica("a", own_server.dsn(own_server.database())).own()
    with pytest.raises(StoreError), store.transaction():
        store.write_meta("value", "first half")
        own_server.kill()
        own_server.start()
        store.write_meta("other", "second half")
    assert (store.meta("value"), store.meta("other")) == (None, None)
    write(store, "after")


def test_an_administrator_who_ends_the_session_is_named(store: PostgresStore, dsn: str) -> None:
    with pytest.raises(StoreError, match="shut down") as raised, store.transaction():
        store.write_meta("value", "refused")
        shared_server().ask(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(dsn)}' AND state <> 'active'"
        )
        for _ in range(1_000):
            store.write_meta("other", "until the session hears of it")
    assert type(raised.value) is StoreError
    write(store, "after")
    assert (store.meta("value"), store.meta("other")) == ("after", None)


def test_a_database_that_takes_no_writes(own_server: PostgresServer, replica: OpenReplica) -> None:
    store = replica("a", own_server.dsn(own_server.database())).own()
    write(store, "before")
    own_server.configure(default_transaction_read_only="on")
    assert "read-only" in why_not(store) and "after a failover" in why_not(store)
    with store.reading() as reader:
        assert reader.sources() == {}  # what may be read is
    with pytest.raises(StoreError, match="read-only"):
        replica("b", store.database.dsn)
    own_server.configure(default_transaction_read_only="off")
    assert store.meta("value") == "before"
    write(store, "after")


def test_a_standby_alone_is_not_written_to_and_can_be_read(own_server: PostgresServer, replica: OpenReplica) -> None:
    name = own_server.database()
    write(replica("a", own_server.dsn(name)).own(), "before")
    standby = own_server.standby("heir")
    try:
        with pytest.raises(StoreError, match="read-only"):
            replica("b", standby.dsn(name))
        store = PostgresStore.open_read_only(Database(dsn=standby.dsn(name)))
        with store.reading() as reader:
            assert reader.sources() == {}
        assert store.meta("value") == "before"
        store.close()
    finally:
        standby.close()


def test_a_full_disk_and_room_on_it_again(replica: OpenReplica) -> None:
    own_server = PostgresServer.create()
    with closing(own_server), small_disk(24) as disk:
        store = replica("a", own_server.dsn(database_on(own_server, disk))).own()
        write(store, "before")
        filler = fill(disk)
        big = os.urandom(3_000_000)
        with pytest.raises(StoreError, match=r"disk full.*free space"), store.transaction():
            store.write_meta("value", "refused")
            store.quarantine.add("log", 1, [("big", big)])
        assert store.meta("value") == "before"
        filler.unlink()
        with store.transaction():
            store.write_meta("value", "after")
            store.quarantine.add("log", 1, [("big", big)])
        assert store.meta("value") == "after"
        own_server.kill()  # before its disk goes


def test_too_many_connections(store: PostgresStore, replica: OpenReplica, dsn: str) -> None:
    server = shared_server()
    server.ask(f"ALTER DATABASE {name_of(dsn)} CONNECTION LIMIT 1")
    with pytest.raises(StoreError, match=r"too many connections.*max_connections"):
        replica("b", dsn)
    write(store, "after")  # who has a connection goes on
    server.ask(f"ALTER DATABASE {name_of(dsn)} CONNECTION LIMIT -1")
    replica("b", dsn)


def test_a_statement_that_takes_too_long_is_given_up(store: PostgresStore, dsn: str) -> None:
    with shared_server().admin(name_of(dsn)) as other, other.transaction():
        other.execute("LOCK TABLE rollcall.meta")
        assert "statement timeout: a statement took too long" in why_not(store)
    write(store, "after")
    assert store.meta("value") == "after"


def test_a_transaction_that_stands_still_for_longer_than_the_lease_is_given_up(replica: OpenReplica, dsn: str) -> None:
    store = replica("a", dsn, lease_s=1.0).own()
    with pytest.raises(StoreError, match=r"idle in transaction.*longer than the lease"), store.transaction():
        store.write_meta("value", "refused")
        active = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name_of(dsn)}' AND state LIKE 'idle in%'"
        eventually(lambda: shared_server().ask(active), lambda found: found == [(0,)])
        store.write_meta("value", "refused")
    write(store, "after")
    assert store.meta("value") == "after"


def test_a_server_that_answers_nothing_is_not_waited_for_without_end(
    own_server: PostgresServer, replica: OpenReplica
) -> None:
    """All of its processes stand still, and the system goes on taking what is sent to them."""
    store = replica("a", own_server.dsn(own_server.database()), statement_s=1.0).own()
    write(store, "before")
    own_server.pause()
    try:
        assert "connection lost" in why_not(store)
    finally:
        own_server.resume()
    write(store, "after")
    assert store.meta("value") == "after"


def test_a_role_that_may_not_make_the_schema(own_server: PostgresServer, replica: OpenReplica) -> None:
    name = own_server.database()
    own_server.ask("CREATE ROLE guest LOGIN")
    with pytest.raises(StoreError, match=r"missing right.*grant it CREATE"):
        replica("a", own_server.dsn(name, "guest"))
    replica("a", own_server.dsn(name)).close()
    with pytest.raises(StoreError, match="missing right"):
        replica("a", own_server.dsn(name, "guest"))
    own_server.ask(f"GRANT {ROLE} TO guest")
    write(replica("a", own_server.dsn(name, "guest")).own(), "as a member of the role")


def test_a_server_that_is_too_old(replica: OpenReplica, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "OLDEST_VERSION", 990_000)
    with pytest.raises(StoreError, match="upgrade it to 99"):
        replica("a", dsn)


def test_nobody_listens_there(replica: OpenReplica) -> None:
    with pytest.raises(StoreError, match="cannot be reached: connection lost"):
        replica("a", f"host=127.0.0.1 port={free_port()} user={ROLE} dbname=x")


def test_a_database_that_does_not_exist(replica: OpenReplica, dsn: str) -> None:
    with pytest.raises(StoreError, match="create it"):
        replica("a", psycopg.conninfo.make_conninfo(dsn, dbname="not_there"))


def test_a_refused_password_is_said_and_no_text_shows_it(own_server: PostgresServer, replica: OpenReplica) -> None:
    rules = own_server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all {ROLE} all scram-sha-256\nhost all all all trust\n")
    name = own_server.database()
    own_server.ask("SELECT pg_reload_conf()")
    dsn = own_server.dsn(name)

    def said() -> str:
        with pytest.raises(StoreError) as raised:
            Database(dsn=dsn, password=lambda: "wrong-secret-1").connect()
        return str(raised.value)

    text = eventually(said, lambda found: "password" in found)
    assert "where the password is read from" in text and "wrong-secret-1" not in text
    assert "wrong-secret-1" not in repr(Database(dsn=f"{dsn} password=wrong-secret-1"))
    for broken in (f"{dsn} password='wrong-secret-1", "postgresql://user:wrong-secret-1@[::1", "wrong-secret-1"):
        with pytest.raises(StoreError, match="is no connection string") as raised:
            Database(dsn=broken).connect()
        assert "wrong-secret-1" not in str(raised.value)
    assert raised.value.__cause__ is None
    rules.write_text(before)


def test_a_server_that_forgets_at_a_crash_is_not_believed(own_server: PostgresServer, replica: OpenReplica) -> None:
    """`synchronous_commit = off` answers before anything is on the disk; what we answered must be there after a crash."""
    own_server.configure(synchronous_commit="off")
    store = replica("a", own_server.dsn(own_server.database())).own()
    with store.database.connect() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
