"""Replicas of one cell: when the owner goes, another goes on where it was, and nothing is lost or sent twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.acceptance.service import Service, Sink, event, eventually, offline_rule, sink
from tests.postgres.replicas import Replicas, freeze, replicas, thaw
from tests.postgres.server import PostgresServer


def go_offline(made: Replicas, names: list[str], channel: str) -> None:
    """Each is heard once more, and then its connection is closed."""
    for name in names:
        made.append(event(name, "connect", channel), event(name, "tcpclean", channel))


def told(target: Sink) -> Counter[str]:
    """How often the target was told of each client."""
    return Counter(client for (client,) in target.told("client"))


def keys(target: Sink) -> Counter[str]:
    """How often the target got each key."""
    return Counter(arrival.key for arrival in target.arrivals)


def states(one: Service) -> list[str]:
    """The state of every delivery."""
    return [row["state"] for row in one.items("/v1/deliveries")]


def names(kind: str) -> list[str]:
    return [f"G@@@{kind}{number}" for number in range(20)]


def test_a_standby_takes_over_from_an_owner_that_was_killed(dsn: str, tmp_path: Path) -> None:
    with sink() as target, replicas(tmp_path, dsn, 2) as made:
        first = made.start(offline_rule(target.url, recovery=False))
        go_offline(made, names("a"), "c1")
        eventually(lambda: told(target), lambda found: set(found) == set(names("a")))
        first.kill()
        go_offline(made, names("b"), "c1")
        second = made.owner(but=first)
        eventually(lambda: told(target), lambda found: set(found) == {*names("a"), *names("b")})
        eventually(second.statuses, lambda found: len(found) == 40 and set(found.values()) == {"offline"})
        assert len(keys(target)) == 40
        assert second.log_lines("cell.standby") and second.log_lines("cell.taken")
        first.start(ready=False)
        made.wait_warm()
        assert made.owner() is second  # it came back as a standby
        assert eventually(first.statuses, lambda found: len(found) == 40)


def test_an_owner_that_stood_still_sends_nothing_when_it_wakes_up(dsn: str, tmp_path: Path) -> None:
    with sink() as target, replicas(tmp_path, dsn, 2) as made:
        first = made.start(offline_rule(target.url, recovery=False))
        go_offline(made, names("a"), "c1")
        eventually(lambda: states(first), lambda found: found == ["delivered"] * 20)
        freeze(first)
        go_offline(made, names("b"), "c1")
        second = made.owner(but=first)
        eventually(lambda: told(target), lambda found: set(found) == {*names("a"), *names("b")})
        thaw(first)
        made.wait_warm()
        assert first.log_lines("cell.lost")
        go_offline(made, names("c"), "c1")
        eventually(lambda: told(target), lambda found: set(found) == {*names("a"), *names("b"), *names("c")})
        assert set(keys(target).values()) == {1} and len(keys(target)) == 60
        assert made.owner() is second


def test_an_owner_that_is_asked_to_stop_gives_the_cell_away_at_once(dsn: str, tmp_path: Path) -> None:
    with sink() as target, replicas(tmp_path, dsn, 2, lease_s=60) as made:
        first = made.start(offline_rule(target.url, recovery=False))
        go_offline(made, names("a"), "c1")
        eventually(first.statuses, lambda found: len(found) == 20)
        assert first.terminate() == 0 and first.log_lines("cell.released")
        second = made.owner(but=first)  # long before the lease of a minute is over
        go_offline(made, names("b"), "c1")
        eventually(lambda: told(target), lambda found: set(found) == {*names("a"), *names("b")})
        assert set(keys(target).values()) == {1}
        assert made.owner() is second


def test_a_database_that_crashes_is_waited_for_and_everything_goes_on(tmp_path: Path) -> None:
    server = PostgresServer.create()
    try:
        with sink() as target, replicas(tmp_path, server.dsn(server.database()), 2) as made:
            first = made.start(offline_rule(target.url, recovery=False))
            (second,) = [one for one in made.made if one is not first]
            go_offline(made, names("a"), "c1")
            eventually(lambda: states(first), lambda found: found == ["delivered"] * 20)
            server.kill()
            go_offline(made, names("b"), "c1")
            eventually(lambda: second.log_lines("cell.unreachable"))
            eventually(second.readiness, lambda found: found[0] == 503 and "connection lost" in found[1])
            eventually(first.readiness, lambda found: found[0] == 503)
            server.start()
            made.wait_warm()
            eventually(lambda: states(made.owner()), lambda found: found == ["delivered"] * 40)
            assert set(told(target)) == {*names("a"), *names("b")} and set(keys(target).values()) == {1}
    finally:
        server.close()
