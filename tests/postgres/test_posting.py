"""Every replica answers: events and acts that come to a standby reach the owner, and reads show up to when they are right."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import psycopg
import pytest
import requests

from tests.acceptance.service import Service, event, eventually, offline_rule, service, sink
from tests.postgres.replicas import Replicas, freeze, replicas, thaw

pytestmark = pytest.mark.long

PUSH = [{"name": "push", "type": "http"}]


def started(made: Replicas, url: str = "http://127.0.0.1:9") -> tuple[Service, Service]:
    """The owner and a standby."""
    owner = made.start(offline_rule(url, recovery=False))
    return owner, next(one for one in made.made if one is not owner)


def journalled(dsn: str) -> Counter[str]:
    """How often each event stands in the journal."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT events FROM rollcall.journal").fetchall()
    return Counter(line.decode() for (events,) in rows for line in bytes(events).split(b"\n") if line)


def test_events_that_are_posted_to_any_replica_are_applied_once_although_owners_are_killed(
    dsn: str, tmp_path: Path
) -> None:
    unbound = {"burst": 1_000_000}
    with sink() as target, replicas(tmp_path, dsn, 2, sources=PUSH, deliveries=unbound) as made:
        first, standby = started(made, target.url)
        taken: list[str] = []
        done = threading.Event()

        def post(one: Service, number: int) -> None:
            """Until it is told to stop: what was answered 202 counts, whatever else was not answered is not posted again."""
            turn = 0
            while not done.is_set():
                turn += 1
                name = f"G@@@{number}-{turn}"
                lines = [event(name, "connect", "c1"), event(name, "tcpclean", "c1")]
                try:
                    answer = one.post(*lines)
                except requests.RequestException:
                    return
                if answer.status_code == 202:
                    assert answer.json()["accepted"] == 2
                    taken.extend(lines)

        posters = [
            threading.Thread(target=post, args=(one, number)) for number, one in enumerate((first, standby, standby))
        ]
        for poster in posters:
            poster.start()
        eventually(lambda: len(taken) > 200)
        first.kill()
        eventually(lambda: standby.readiness()[0] == 200 and made.owner(but=first) is standby)
        count = len(taken)
        eventually(lambda: len(taken) > count + 100)
        done.set()
        for poster in posters:
            poster.join()
        found = eventually(lambda: journalled(dsn), lambda found: set(found) >= set(taken))
        assert {line: found[line] for line in taken} == dict.fromkeys(taken, 1)
        clients = {line.split('"clientId":')[1].split('"')[1] for line in taken}
        eventually(lambda: {client for (client,) in target.told("client")}, lambda told: told >= clients)
        assert set(Counter(arrival.key for arrival in target.first_seen()).values()) == {1}


def test_what_is_posted_without_an_owner_waits_for_one(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 2, lease_s=4.0, sources=PUSH) as made:
        owner, standby = started(made)
        freeze(owner)
        answer = standby.post(event("G@@@waits", "connect", "c1"), "no event")
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        eventually(lambda: standby.statuses().get("G@@@waits") == "online")
        assert [row["reason"] for row in standby.items("/v1/quarantine")]
        thaw(owner)
        made.wait_warm()
        assert owner.statuses() == {"G@@@waits": "online"}


def test_acts_that_come_to_a_standby_are_carried_out_by_the_owner(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 2, sources=PUSH) as made:
        owner, standby = started(made)
        standby.tell(event("G@@@a", "connect", "c1"))
        eventually(lambda: owner.statuses() == standby.statuses() == {"G@@@a": "online"})
        silence = {"match": {"client": "G@@@a"}, "for": "1h", "author": "me", "comment": "why"}
        answer = standby.send("POST", "/v1/silences", silence)
        assert answer.status_code == 201, answer.text
        made_there = answer.json()
        assert [row["id"] for row in owner.items("/v1/silences")] == [made_there["id"]]
        assert [row["id"] for row in standby.items("/v1/silences")] == [made_there["id"]]
        refused = standby.send("POST", "/v1/alerts/none/ack", {"by": "me"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
        bad = standby.send("POST", "/v1/silences", {"match": {"client": "G@@@a"}})
        assert (bad.status_code, bad.json()["code"]) == (400, "bad-request")
        gone = standby.send("DELETE", "/v1/clients/G%40%40%40a")
        assert (gone.status_code, gone.json()) == (200, {"client": "G@@@a"})
        eventually(lambda: owner.statuses() == standby.statuses() == {})
        assert standby.command("silence", "expire", made_there["id"]).returncode == 0
        assert [row["state"] for row in owner.items("/v1/silences")] == ["expired"]


def test_an_act_without_an_owner_is_answered_later_under_its_number(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 2, lease_s=60.0, sources=PUSH) as made:
        owner, standby = started(made)
        freeze(owner)
        silence = {"match": {"client": "G@@@a"}, "for": "1h", "author": "me", "comment": "why"}
        answer = standby.send("POST", "/v1/silences", silence)
        assert answer.status_code == 202, answer.text
        where = answer.json()["answer"]
        assert standby.send("GET", where).status_code == 202
        thaw(owner)
        later = eventually(lambda: standby.send("GET", where), lambda found: found.status_code == 200)
        assert later.json()["author"] == "me"
        assert standby.send("GET", "/v1/acts/999999").status_code == 404


def test_what_is_read_of_a_replica_says_up_to_when_it_is_right(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 2, sources=PUSH) as made:
        owner, standby = started(made)
        for one in (owner, standby):
            one.tell(event("G@@@a", "connect", "c1"))
            eventually(lambda one=one: "G@@@a" in one.statuses())  # type: ignore[misc]
            for path in ("/v1/clients", "/v1/clients/G%40%40%40a", "/v1/clients/G%40%40%40a/status"):
                assert one.send("GET", path).headers["rollcall-as-of"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_an_installation_moves_to_postgresql_and_back_with_one_command(dsn: str, tmp_path: Path) -> None:
    with sink() as target, service(_made(tmp_path / "one"), sources=PUSH) as one:
        one.rules(offline_rule(target.url, recovery=False))
        one.start()
        one.tell(*[event(f"G@@@{number}", "connect", "c1") for number in range(5)], event("G@@@0", "tcpclean", "c1"))
        eventually(lambda: [row["state"] for row in one.items("/v1/deliveries")] == ["delivered"])
        told = len(target.arrivals)
        config = json.loads((one.folder / "config.yaml").read_text())
        before = [one.statuses(), one.items("/v1/deliveries"), one.items("/v1/alerts")]
        (one.folder / "new.yaml").write_text(
            json.dumps(config | {"store": {"type": "postgres", "dsn": dsn}, "data": "data-new"})
        )
        arguments = ["store", "copy", "--from", "config.yaml", "--to", "new.yaml"]
        running = one.process_of(*arguments)
        assert running.returncode == 1 and "in use" in running.stderr
        assert one.terminate() == 0
        copied = one.process_of(*arguments)
        assert (copied.returncode, copied.stderr) == (0, "")
        assert one.process_of(*arguments).returncode == 1  # it is not empty any more
        with service(
            _made(tmp_path / "two"), sources=PUSH, store={"type": "postgres", "dsn": dsn}, cluster={"lease": "2s"}
        ) as two:
            two.rules(offline_rule(target.url, recovery=False))
            two.start()
            assert [two.statuses(), two.items("/v1/deliveries"), two.items("/v1/alerts")] == before
            running = one.process_of(*arguments)
            assert running.returncode == 1  # a service works on what is the target now
            two.tell(event("G@@@1", "tcpclean", "c1"))
            eventually(lambda: len(target.arrivals) == told + 1)
            eventually(lambda: {row["state"] for row in two.items("/v1/deliveries")} == {"delivered"})
            after = [two.statuses(), two.items("/v1/deliveries"), two.items("/v1/alerts")]
            assert two.terminate() == 0
        (one.folder / "back.yaml").write_text(json.dumps(config | {"data": "data-back"}))
        back = eventually(
            lambda: one.process_of("store", "copy", "--from", "new.yaml", "--to", "back.yaml"),
            lambda done: done.returncode == 0,  # the last sign of the replica must be some seconds old
        )
        assert "copied" in back.stdout
        shown = one.process_of("deliveries", "list", "-c", "back.yaml", "--format", "jsonl")
        assert [json.loads(line) for line in shown.stdout.splitlines()] == after[1]
