"""The primary dies and a standby takes over: a synchronous one has everything, one that lagged has not, and the owner is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import psycopg
import pytest

from engine.core.access import EVERYBODY
from engine.errors import Fenced, StoreBehind, StoreError, Unavailable
from engine.runtime.operator_acts import Acknowledge
from engine.runtime.posted_acts import ActSender
from engine.stores.posted import PostedEvents
from engine.stores.postgres.inbox import PostgresInbox
from engine.stores.postgres.store import PostgresStore
from tests.acceptance.service import PATIENCE_S, eventually
from tests.postgres.conftest import OpenReplica
from tests.postgres.server import PostgresServer


class Pair:
    """A primary and its standby; the DSN names both, and a session goes to the one that takes writes."""

    def __init__(self, opened: ExitStack) -> None:
        self.primary = PostgresServer.create()
        opened.callback(self.primary.close)
        self.standby = self.primary.standby("heir")
        opened.callback(self.standby.close)
        self.name = self.primary.database()
        self.dsn = psycopg.conninfo.make_conninfo(
            self.primary.dsn(self.name), host="127.0.0.1,127.0.0.1", port=f"{self.primary.port},{self.standby.port}"
        )

    def wait(self) -> None:
        """Until the standby has everything."""
        eventually(
            lambda: self.primary.ask(
                "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
            ),
            lambda found: found == [(1,)],
        )

    def stop_streaming(self) -> None:
        """From now on the standby lags."""
        self.wait()
        self.standby.stop_streaming()

    def fail_over(self) -> None:
        self.primary.kill()
        self.standby.promote()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as opened:
        yield Pair(opened)


def turns(store: PostgresStore, rows: range) -> None:
    for row in rows:
        with store.transaction():
            store.journal.append(row, row, "log", [b"{}"], [0], [])


def rows(store: PostgresStore) -> list[int]:
    return [row.id for row in store.journal.after(0)]


def test_a_synchronous_standby_has_everything_and_the_owner_goes_on(pair: Pair, replica: OpenReplica) -> None:
    store = replica("a", pair.dsn)
    pair.primary.configure(synchronous_standby_names="heir")
    turns(store.own(), range(1, 21))
    pair.fail_over()
    assert rows(store) == list(range(1, 21))
    turns(store, range(21, 26))
    assert (store.ownership.epoch, rows(store)) == (1, list(range(1, 26)))


def test_a_standby_that_lagged_is_behind_and_everything_is_loaded_again(pair: Pair, replica: OpenReplica) -> None:
    store = replica("a", pair.dsn).own()
    turns(store, range(1, 6))
    pair.stop_streaming()
    turns(store, range(6, 11))
    pair.fail_over()
    with pytest.raises(StoreBehind):
        turns(store, range(11, 12))
    assert not store.ownership.may_send()
    assert rows(store) == [1, 2, 3, 4, 5]
    turns(store.own(), range(6, 8))
    assert (store.ownership.epoch, rows(store)) == (2, [1, 2, 3, 4, 5, 6, 7])


def test_a_taking_that_the_failover_lost_counts_for_nothing(pair: Pair, replica: OpenReplica) -> None:
    first, second = replica("a", pair.dsn), replica("b", pair.dsn)
    turns(first.own(), range(1, 6))
    pair.stop_streaming()
    first.ownership.release()
    turns(second.own(), range(6, 8))
    pair.fail_over()
    with pytest.raises(Fenced):
        turns(second, range(8, 9))
    assert first.ownership.take(force=True)  # the same epoch that the second had
    assert first.ownership.epoch == 2 and rows(first) == [1, 2, 3, 4, 5]
    turns(first, range(6, 8))


def test_a_commit_that_no_synchronous_standby_confirms_is_not_acknowledged(pair: Pair, replica: OpenReplica) -> None:
    """It waits, longer than any statement may; when the primary dies meanwhile, nobody was told that it had committed."""
    store = replica("a", pair.dsn, statement_s=1.0)
    pair.primary.configure(synchronous_standby_names="heir")
    turns(store.own(), range(1, 3))
    pair.stop_streaming()
    with pytest.raises(StoreError):
        turns(store, range(3, 4))
    assert not store.ownership.may_send()
    pair.fail_over()
    turns(store, range(3, 5))
    assert rows(store) == [1, 2, 3, 4]


def test_a_commit_that_survived_a_crash_of_the_primary_counts_when_the_standby_has_it(
    pair: Pair, replica: OpenReplica
) -> None:
    """It waited for the standby when the primary crashed; found again afterwards, it is still on no standby."""
    store = replica("a", pair.dsn, statement_s=1.0)
    pair.primary.configure(synchronous_standby_names="heir")
    turns(store.own(), range(1, 3))
    pair.stop_streaming()
    with pytest.raises(StoreError):
        turns(store, range(3, 4))
    pair.primary.kill()
    pair.primary.start()
    for _ in range(2):
        with pytest.raises(StoreError) as raised:
            turns(store, range(3, 4))
        assert type(raised.value) is StoreError  # nothing is known as long as the standby is away
        assert not store.ownership.may_send()
    pair.fail_over()
    turns(store, range(3, 5))
    assert rows(store) == [1, 2, 3, 4]


def test_what_is_due_is_never_asked_of_a_standby(pair: Pair, replica: OpenReplica) -> None:
    """A delivery that was sent is still due on a standby that lags: it would be sent again."""
    store = replica("a", pair.dsn).own()
    pair.wait()
    pair.primary.kill()
    with pytest.raises(StoreError), store.reading() as reader:
        reader.waiting(0)
    looking = PostgresStore.open_read_only(store.database)
    with closing(looking), looking.reading() as reader:
        assert reader.sources() == {}  # people may look
    pair.standby.promote()
    with store.reading() as reader:
        assert reader.waiting(0).targets == ()


def test_what_is_posted_after_a_failover_is_never_taken_for_what_the_failover_lost(
    pair: Pair, replica: OpenReplica
) -> None:
    """A sequence goes back with its database, so a number comes again."""
    owner = replica("a", pair.dsn).own()
    with closing(PostgresInbox(owner.database, owner.cell)) as inbox:
        pair.stop_streaming()
        inbox.post([PostedEvents("push", [b"lost"])])
        (lost,) = inbox.waiting(10, [])
        lost_act = inbox.ask("Acknowledge", '{"id_": "lost"}')
        pair.fail_over()
        eventually(lambda: posted(inbox, b"kept"))
        kept_act = inbox.ask("Acknowledge", '{"id_": "kept"}')
        assert lost.id in [row.id for row in inbox.waiting(10, [])]
        with pytest.raises(StoreError, match="applied already"), owner.transaction():
            owner.posted.delete([lost])
        assert [row.posted.raw for row in inbox.waiting(10, [])] == [[b"kept"]]
        assert inbox.act(lost_act) == []
        with owner.transaction():
            assert not owner.posted.take(lost_act)
            assert owner.posted.take(kept_act)
            owner.posted.delete(inbox.waiting(10, []))


def posted(inbox: PostgresInbox, line: bytes) -> bool:
    """Post an event, unless the database cannot be reached yet."""
    with suppress(StoreError):
        inbox.post([PostedEvents("push", [line])])
        return True
    return False


def test_an_act_that_the_failover_lost_is_told_to_its_operator(pair: Pair, replica: OpenReplica) -> None:
    """While no database can be asked, it is waited for: what is written may still be carried out."""
    owner = replica("a", pair.dsn).own()

    def written() -> list[tuple[object, ...]]:
        return pair.primary.ask("SELECT id FROM rollcall.acts", pair.name)

    async def go() -> None:
        sender = ActSender(lambda: PostgresInbox(owner.database, owner.cell), within_s=PATIENCE_S)
        try:
            asked = asyncio.create_task(sender.ask(Acknowledge(id_="x"), EVERYBODY))
            await asyncio.to_thread(eventually, written)
            await asyncio.to_thread(pair.fail_over)
            with pytest.raises(Unavailable, match="look what was done"):
                await asked
        finally:
            sender.close()

    pair.stop_streaming()
    asyncio.run(go())
