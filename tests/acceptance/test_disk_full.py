"""The disk is full: nothing is accepted, nothing is published, nothing is lost; with room again it goes on by itself.

A limit on the size of files stands for the full disk: a write that would make the write-ahead log longer fails, until the
limit is lifted again.
"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.acceptance.load import SOURCES, journal_lines
from tests.acceptance.service import Service, event, eventually, offline_rule, service, sink


def fill_disk(running: Service) -> None:
    """From now on no file of the process may grow beyond the write-ahead log as it is."""
    log = running.folder / "data" / "rollcall.sqlite3-wal"
    assert running.process is not None
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))


def make_room(running: Service) -> None:
    """As it was before."""
    assert running.process is not None
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture(autouse=True)
def _limits_can_be_set() -> None:
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux can limit another process")


def test_nothing_is_accepted_or_published_until_there_is_room_and_then_it_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with sink() as target, service(tmp_path, sources=SOURCES) as running:
        running.rules(offline_rule(target.url))
        file.write_text(event("F@@@a", "connect", "1") + "\n")
        process = running.start()
        running.tell(event("P@@@a", "connect", "1"))
        eventually(running.statuses, lambda found: found == {"F@@@a": "online", "P@@@a": "online"})

        fill_disk(running)
        with file.open("a") as out:
            out.write(event("F@@@a", "tcpclean", "1") + "\n" + event("F@@@b", "connect", "1") + "\n")
        for _ in range(3):
            answer = running.post(event("P@@@a", "tcpclean", "1"), event("P@@@b", "connect", "1"))
            assert answer.status_code in (429, 503) and answer.headers["Retry-After"]
        status, why = eventually(running.readiness, lambda found: found[0] == 503)
        assert status == 503 and "could not commit" in why
        assert running.log_lines("store.failed")
        assert running.statuses() == {"F@@@a": "online", "P@@@a": "online"}
        assert running.metric("rollcall_commit_failures") > 0
        assert target.seen() == []

        make_room(running)
        eventually(running.readiness, lambda found: found[0] == 200)  # without anyone telling it anything
        running.tell(event("P@@@a", "tcpclean", "1"), event("P@@@b", "connect", "1"))
        wanted = {"F@@@a": "offline", "F@@@b": "online", "P@@@a": "offline", "P@@@b": "online"}
        eventually(running.statuses, lambda found: found == wanted)
        eventually(target.seen, lambda found: {arrival.body["client"] for arrival in found} == {"F@@@a", "P@@@a"})
        eventually(lambda: running.items("/v1/deliveries", state="due"), lambda found: not found)
        assert len(target.seen()) == 2
        assert process.poll() is None and running.log_lines("store.well")
        assert journal_lines(tmp_path, "log") == file.read_text().splitlines()
        running.kill()
        running.start()
        assert running.statuses() == wanted
    assert "Traceback" not in running.log_text()


def test_holds_deadlines_and_alerts_are_as_before_after_a_commit_that_failed(tmp_path: Path) -> None:
    """The refused reconnect reverts nothing; the hold that comes due meanwhile settles at its instant, and once."""
    with sink() as target, service(tmp_path, debounce={"offline": "2s", "online": "0s"}) as running:
        running.rules(
            offline_rule(target.url),
            offline_rule(target.url, name="later", for_="4s"),
            offline_rule(target.url, name="twice", throttle={"max": 2, "per": "1h"}),
        )
        running.start()
        clients = [f"G@@@d{number}" for number in range(4)]
        running.tell(*(event(client, "connect", "1") for client in clients))
        running.tell(*(event(client, "tcpclean", "1") for client in clients))

        fill_disk(running)
        assert running.post(*(event(client, "connect", "2") for client in clients)).status_code == 503
        # Past the holds and the `for`s, with the disk still full: they come due and cannot be stored.
        failures = running.metric("rollcall_commit_failures")
        eventually(lambda: running.metric("rollcall_commit_failures"), lambda found: found >= failures + 4)
        assert set(running.statuses().values()) == {"online"} and target.seen() == []

        make_room(running)
        wanted = {("gone", client) for client in clients} | {("later", client) for client in clients}
        eventually(lambda: set(target.told("rule", "client")), lambda found: wanted <= found)
        eventually(lambda: running.items("/v1/deliveries", state="due"), lambda found: not found)
        told = target.told("rule", "client")
        assert len(told) == len(set(told)) == len(wanted) + 2  # the throttle had room for two, no more and no less
        held = running.items("/v1/alerts", state="suppressed")
        assert [(alert["rule"], alert["reason"]) for alert in held] == [("twice", "throttle")] * 2
        since = {entry["since"] for entry in running.items("/v1/clients")}
        settled = {arrival.body["settled_at"] for arrival in target.seen() if arrival.body["rule"] == "gone"}
        assert len(since) == len(settled) == 1 and seconds(settled.pop()) - seconds(since.pop()) == 2000

        running.tell(*(event(client, "connect", "2") for client in clients))
        eventually(lambda: target.told("rule", "phase").count(("gone", "recovery")), lambda found: found == 4)
    assert "Traceback" not in running.log_text()


def seconds(instant: str) -> int:
    """An instant of one day in milliseconds, to be subtracted from another."""
    from datetime import datetime

    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def test_a_rule_edited_while_the_disk_is_full_is_taken_when_there_is_room(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url, name="before"))
        running.start()
        running.tell(event("G@@@a", "connect", "1"))
        fill_disk(running)
        running.rules(offline_rule(target.url, name="after"))
        eventually(running.readiness, lambda found: found[0] == 503)
        make_room(running)
        eventually(running.readiness, lambda found: found[0] == 200)
        eventually(lambda: running.log_lines("rules.loaded"))
        running.tell(event("G@@@a", "tcpclean", "1"))
        eventually(lambda: target.told("rule"), lambda found: found == [("after",)])
        running.kill()
        running.start()
        assert not running.log_lines("rule.new")  # it was stored: not new after a restart


def test_sigterm_ends_it_although_the_disk_is_full(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.touch()
    with service(tmp_path, sources=SOURCES) as running:
        running.start()
        running.tell(event("P@@@a", "connect", "1"))
        fill_disk(running)
        with file.open("a") as out:
            out.write(event("F@@@a", "connect", "1") + "\n")
        eventually(running.readiness, lambda found: found[0] == 503)
        assert running.terminate() == 0
        running.start()
        eventually(running.statuses, lambda found: found == {"F@@@a": "online", "P@@@a": "online"})
        assert journal_lines(tmp_path, "log") == file.read_text().splitlines()
    assert "Traceback" not in running.log_text()
