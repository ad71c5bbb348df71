"""What may happen to replicas and their database while events flow: each event counts once, and each client is told of under one key."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.service import Service, Sink, event, eventually, offline_rule, sink
from tests.acceptance.wall_clock import WallClock
from tests.postgres.replicas import Replicas, freeze, is_frozen, replicas, standing, thaw
from tests.postgres.server import PostgresServer
from tests.postgres.slow_line import slow_line

pytestmark = pytest.mark.long

HOUR_MS = 3_600_000


class Fleet:
    """Clients that come and go for good, one after the other, written to the file that all replicas read."""

    def __init__(self, made: Replicas, target: Sink) -> None:
        self.made, self.target = made, target
        self.sent = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ends.wait(0.02):
            name = f"G@@@d{self.sent}"
            self.made.append(event(name, "connect", "c"), event(name, "tcpclean", "c"))
            self.sent += 1

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait_for_more(self, count: int = 60) -> None:
        """Until so many more clients have been told of."""
        wanted = len(self.keys()) + count
        eventually(lambda: len(self.keys()) >= wanted)

    def keys(self) -> Counter[str]:
        """How often the target got each key."""
        return Counter(arrival.key for arrival in self.target.seen())

    def stop_and_check(self, server: PostgresServer, database: str, *, twice: int = 0) -> None:
        """Everything has arrived, once; `twice`: so many keys may have come again, because their answers were lost."""
        self._ends.set()
        self._thread.join()
        names = {f"G@@@d{number}" for number in range(self.sent)}
        eventually(lambda: {client for (client,) in self.target.told("client")}, lambda found: found == names)
        owner = self.made.owner()
        eventually(owner.statuses, lambda found: found.keys() == names and set(found.values()) == {"offline"})
        eventually(
            lambda: {row["state"] for row in owner.items("/v1/deliveries")}, lambda found: found == {"delivered"}
        )
        counted = server.ask("SELECT sum(count) FROM rollcall.journal", database)
        assert counted == [(2 * self.sent,)]
        told = self.keys()
        keys: dict[str, set[str]] = {name: set() for name in names}
        for arrival in self.target.seen():
            keys[arrival.body["client"]].add(arrival.key)
        assert not [name for name, some in keys.items() if len(some) > 1], "two keys"
        assert sum(told.values()) - len(told) <= twice


@contextmanager
def fleet(
    folder: Path,
    server: PostgresServer,
    count: int = 3,
    dsn: Callable[[str], str] | None = None,
    database: str | None = None,
) -> Iterator[tuple[Replicas, Fleet, str]]:
    """Replicas with rules, not started, their fleet, and the name of their database."""
    database = database or server.database()
    found = server.dsn(database) if dsn is None else dsn(database)
    with sink() as target, replicas(folder, found, count, lease_s=2.0, deliveries={"burst": 1_000_000}) as made:
        for one in made.made:
            one.rules(offline_rule(target.url, recovery=False))
        yield made, Fleet(made, target), database


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    made = PostgresServer.create()
    try:
        yield made
    finally:
        made.close()


def started(made: Replicas, flow: Fleet) -> Service:
    """All run, events flow; the owner."""
    made.start()
    flow.start()
    flow.wait_for_more()
    return made.owner()


def test_owners_are_killed_one_after_the_other(tmp_path: Path, server: PostgresServer) -> None:
    with fleet(tmp_path, server) as (made, flow, database):
        owner = started(made, flow)
        for _ in range(3):
            owner.kill()
            following = made.owner(but=owner)
            flow.wait_for_more()
            owner.start(ready=False)
            made.wait_warm()
            owner = following
        flow.stop_and_check(server, database, twice=400)


@pytest.mark.parametrize("place", ["before_commit", "after_commit"])
def test_an_owner_dies_around_a_commit(place: str, tmp_path: Path, server: PostgresServer) -> None:
    with fleet(tmp_path, server, 2) as (made, flow, database):
        first, second = made.made
        first.start(ready=False, ROLLCALL_FAILPOINT=f"{place}:60")
        eventually(lambda: standing(first) == "owner")
        second.start(ready=False)
        flow.start()
        eventually(lambda: first.process is not None and first.process.poll() is not None)
        assert made.owner() is second
        flow.wait_for_more()
        flow.stop_and_check(server, database, twice=400)


def test_an_owner_stands_still_again_and_again(tmp_path: Path, server: PostgresServer) -> None:
    with fleet(tmp_path, server) as (made, flow, database):
        owner = started(made, flow)
        for _ in range(3):
            freeze(owner)
            following = made.owner(but=owner) if len(made.made) > 1 else owner
            flow.wait_for_more()
            thaw(owner)
            made.wait_warm()
            owner = made.owner()
            assert owner is following
        flow.stop_and_check(server, database, twice=400)


@pytest.mark.parametrize("place", ["before_commit", "after_commit"])
def test_an_owner_stands_still_around_a_commit(place: str, tmp_path: Path, server: PostgresServer) -> None:
    """Inside its transaction it holds the row of the cell, until the database gives its session up."""
    with fleet(tmp_path, server, 2) as (made, flow, database):
        first, second = made.made
        first.start(ready=False, ROLLCALL_FAILPOINT=f"{place}:60:stop")
        eventually(lambda: standing(first) == "owner")
        second.start(ready=False)
        flow.start()
        eventually(lambda: is_frozen(first))
        assert made.owner(but=first) is second
        flow.wait_for_more()
        thaw(first)
        made.wait_warm()
        assert made.owner() is second
        flow.stop_and_check(server, database, twice=400)


def test_an_owner_is_cut_off_and_what_it_said_arrives_late(tmp_path: Path, server: PostgresServer) -> None:
    with slow_line(server.port) as line, fleet(tmp_path, server, 2) as (made, flow, database):
        first, second = made.made
        config = first.folder / "config.yaml"
        config.write_text(config.read_text().replace(f"port={server.port}", f"port={line.port}"))
        first.start(ready=False)
        eventually(lambda: standing(first) == "owner")
        second.start(ready=False)
        made.wait_warm()
        flow.start()
        flow.wait_for_more()
        line.cut()
        assert made.owner(but=first) is second
        flow.wait_for_more()
        line.mend()
        made.wait_warm()
        assert made.owner() is second
        flow.stop_and_check(server, database, twice=400)


def test_the_cell_is_taken_away_ten_times_a_second(tmp_path: Path, server: PostgresServer) -> None:
    with fleet(tmp_path, server) as (made, flow, database):
        started(made, flow)
        for _ in range(60):  # as if every lease had run out
            server.ask("UPDATE rollcall.cells SET until = clock_timestamp() - interval '1 minute'", database)
            time.sleep(0.1)
        eventually(lambda: stolen_again(server, database))
        flow.wait_for_more()
        made.wait_warm()
        flow.stop_and_check(server, database, twice=1_000)


def stolen_again(server: PostgresServer, database: str) -> bool:
    """Have there been many takings? Else there is one more occasion."""
    ((epoch,),) = server.ask("SELECT epoch FROM rollcall.cells", database)
    if int(str(epoch)) > 5:
        return True
    server.ask("UPDATE rollcall.cells SET until = clock_timestamp() - interval '1 minute'", database)
    time.sleep(0.1)
    return False


def test_wall_clocks_an_hour_apart_change_nothing(tmp_path: Path, server: PostgresServer) -> None:
    with fleet(tmp_path, server) as (made, flow, database):
        for one, ahead_ms in zip(made.made, (HOUR_MS, 0, -HOUR_MS), strict=True):
            clock = WallClock(one.folder)
            clock.set(ahead_ms)
            one.start(ready=False, **clock.environment)
        made.wait_warm()
        flow.start()
        flow.wait_for_more()
        for _ in range(2):
            owner = made.owner()
            owner.kill()
            made.owner(but=owner)
            flow.wait_for_more()
        assert not [line for one in made.made for line in one.log_lines("clock.stepped")]
        flow.stop_and_check(server, database, twice=400)


def test_a_rolling_upgrade_sends_nothing_twice(tmp_path: Path, server: PostgresServer) -> None:
    with fleet(tmp_path, server) as (made, flow, database):
        started(made, flow)
        for one in made.made:
            assert one.terminate() == 0
            flow.wait_for_more()
            one.start(ready=False)
            made.wait_warm()
        flow.stop_and_check(server, database)


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "lagging"])
def test_a_failover_to_a_standby(synchronous: bool, tmp_path: Path, server: PostgresServer) -> None:
    standby = server.standby("second")
    try:
        if synchronous:
            server.configure(synchronous_standby_names="second")

        def both(database: str) -> str:
            return f"host=127.0.0.1,127.0.0.1 port={server.port},{standby.port} user=rollcall dbname={database}"

        with fleet(tmp_path, server, 2, both) as (made, flow, database):
            started(made, flow)
            if not synchronous:
                standby.stop_streaming()
                flow.wait_for_more()
            server.kill()
            kept = {client for (client,) in standby.ask("SELECT client FROM rollcall.deliveries", database)}
            standby.promote()
            assert synchronous or not kept.issuperset(client for (client,) in flow.target.told("client")), "no lag"
            made.wait_warm()
            flow.wait_for_more()
            flow.stop_and_check(standby, database, twice=0 if synchronous else 1_000)
    finally:
        standby.close()
