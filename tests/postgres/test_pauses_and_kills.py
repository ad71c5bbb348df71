"""A replica that stands still, or dies, inside a transaction: its cell goes on without it, and it can do no harm afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from engine.errors import Fenced, StoreBehind
from engine.stores.postgres.store import PostgresStore
from tests.acceptance.service import eventually
from tests.postgres.conftest import OpenReplica


class Paused:
    """A replica of `paused_replica`, as the test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def other_process(dsn: str, lease_s: float) -> Iterator[Paused]:
    """The owner of the cell, in a process of its own."""
    command = [sys.executable, "-m", "tests.postgres.paused_replica", dsn, "other", str(lease_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        paused = Paused(process)
        try:
            assert paused.hear() == "owner"
            yield paused
        finally:
            process.kill()


def taken(store: PostgresStore) -> PostgresStore:
    eventually(store.ownership.take)
    return store


def write(store: PostgresStore, by: str) -> None:
    with store.transaction():
        store.write_meta("by", by)


@pytest.mark.parametrize("is_inside", [True, False], ids=["inside a transaction", "between transactions"])
def test_a_replica_that_stood_still_for_longer_than_its_lease_commits_nothing(
    is_inside: bool, replica: OpenReplica, dsn: str
) -> None:
    here = replica("here", dsn)
    with other_process(dsn, lease_s=1.0) as other:
        other.say("other")
        assert other.hear() == "inside"
        if not is_inside:
            other.say("")
            assert other.hear() == "committed"
        other.process.send_signal(signal.SIGSTOP)
        write(taken(here), "here")
        other.process.send_signal(signal.SIGCONT)
        if not is_inside:
            other.say("other")
        other.say("")
        # Stopped inside, it first hears of its session that the server gave up; asked again, of the fence.
        answers = [other.hear()]
        other.say("other, again")
        other.say("")
        answers.append(other.hear())
    assert answers in (["StoreError False", "Fenced False"], ["Fenced False", "Fenced False"])
    assert here.meta("by") == "here"
    write(here, "here, again")


def test_a_replica_that_is_killed_between_its_writes_and_the_commit_wrote_nothing(
    replica: OpenReplica, dsn: str
) -> None:
    here = replica("here", dsn)
    with other_process(dsn, lease_s=1.0) as other:
        other.say("committed")
        assert other.hear() == "inside"
        other.say("")
        assert other.hear() == "committed"
        other.say("killed")
        assert other.hear() == "inside"
        other.process.kill()
        taken(here)
    assert (here.meta("by"), here.ownership.head) == ("committed", 1)
    write(here, "here")
    assert here.meta("by") == "here"


def test_replicas_that_steal_from_one_another_lose_nothing_and_write_nothing_twice(
    replica: OpenReplica, dsn: str
) -> None:
    """Nobody waits for a lease: each takes the cell whenever it has lost it, and goes on where the journal is then."""
    stores = [replica(name, dsn) for name in "abc"]
    committed: dict[str, list[int]] = {store.database.replica: [] for store in stores}

    def steal(store: PostgresStore) -> None:
        mine = committed[store.database.replica]
        while len(mine) < 20:
            if not store.ownership.take(force=True):
                continue
            last = store.journal.last_id()
            for row in range(last + 1, last + 4):
                try:
                    with store.transaction():
                        store.journal.append(row, row, store.database.replica, [b"{}"], [0], [])
                except (Fenced, StoreBehind):
                    break
                mine.append(row)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(steal, stores))
    written = sorted(row for rows in committed.values() for row in rows)
    assert written == [row.id for row in stores[0].journal.after(0)] == list(range(1, len(written) + 1))
    assert stores[0].ownership.look().head == len(written)
