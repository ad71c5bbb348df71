"""What people and business processes ask: over HTTP and on the command line, with a service and without one."""

from __future__ import annotations

import json
from pathlib import Path

import requests

from engine import StatusClient
from tests.acceptance.service import event, eventually, now_ms, service
from tests.queries.serving import connect, querying, sweep, tally
from tests.status.standin import StandIn

KEYS = ["client", "online", "connections", "source", "asked_at", "age"]


def test_verify_asks_really_and_the_belief_follows(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a", "G@@@twice", "G@@@lost")
        broker.truth |= {"G@@@twice": 2, "G@@@lost": 0}
        found = running.get("/v1/clients/G@@@a/status", verify="true")
        assert list(found) == KEYS
        assert (found["client"], found["online"], found["connections"], found["source"]) == ("G@@@a", True, 1, "query")
        assert 0 <= found["age"] < 5 and found["asked_at"].endswith("Z")
        assert running.get("/v1/clients/G@@@twice/status", verify="true")["connections"] == 2
        lost = running.get("/v1/clients/G@@@lost/status", verify="true")
        assert (lost["online"], lost["connections"]) == (False, 0)
        eventually(lambda: running.statuses()["G@@@lost"], lambda status: status == "offline")  # asked once more
        assert running.get("/v1/clients/G@@@a")["verified_at"] is not None
        assert running.get("/v1/clients/G@@@a/status")["source"] == "belief"
        unheard = running.get("/v1/clients/G@@@unheard/status", verify="true")
        assert (unheard["online"], unheard["source"]) == (False, "query")
        assert running.metric("rollcall_status_calls") == len(broker.calls)


def test_verify_falls_back_to_the_belief_when_nobody_can_say_in_time(tmp_path: Path) -> None:
    with StandIn(rates={"unknown": 1.0}) as broker, querying(tmp_path, broker, {"unknown_retries": 1}) as running:
        running.start()
        connect(running, broker, "G@@@a")
        found = running.get("/v1/clients/G@@@a/status", verify="true")
        assert (found["online"], found["source"], found["asked_at"]) == (True, "belief", None)
        broker.rates = {"hang": 1.0}
        found = running.get("/v1/clients/G@@@a/status", verify="true")
        assert (found["online"], found["source"]) == (True, "belief")
        found = running.get("/v1/clients/G@@@unheard/status", verify="true")
        assert (found["online"], found["source"], found["age"]) == (None, "belief", None)
        assert running.terminate() == 0  # although calls hang


def test_steady_throttling_is_said_at_once_with_and_without_a_service(tmp_path: Path) -> None:
    with StandIn(rates={"throttled": 1.0}) as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a")
        found = running.get("/v1/clients/G@@@a/status", verify="true")
        assert (found["online"], found["source"]) == (True, "belief")
        assert "throttled" in found["problem"]
        done = running.command("query", "G@@@a", "G@@@b")
        assert done.returncode == 1
        assert "G@@@b: queries are throttled" in done.stderr
        assert running.terminate() == 0
        done = running.command("query", "G@@@a", "G@@@b")  # 60 s at most; it took minutes for each
        assert done.returncode == 1
        assert "G@@@a: queries are throttled" in done.stderr and "G@@@b: queries are throttled" in done.stderr
        assert "belief" in done.stdout


def test_without_a_provider_verify_says_what_is_missing(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.start()
        running.tell(event("G@@@a", "connect", "c"))
        answer = requests.get(f"{running.url}/v1/clients/G@@@a/status", {"verify": "true"}, timeout=10)
        assert answer.status_code == 501 and "`status`" in answer.json()["title"]
        done = running.command("query", "G@@@a")
        assert done.returncode == 1 and "`status`" in done.stderr


def test_a_process_that_knows_only_the_service_has_it_ask_the_broker(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running, StatusClient(service=running.url) as statuses:
        running.start()
        connect(running, broker, "G@@@a", "G@@@lost")
        broker.truth["G@@@lost"] = 0
        found = statuses.online("G@@@a")
        assert (found.online, found.connections, found.source, found.problem) == (True, 1, "query", None)
        assert found.asked_at is not None and found.age is not None
        lost = statuses.online("G@@@lost")
        assert (lost.online, lost.connections, lost.source) == (False, 0, "query")
        assert statuses.online("G@@@unheard").online is False
        broker.rates = {"hang": 1.0}  # the service waits longer than this caller does
        found = statuses.online("G@@@a")
        assert (found.online, found.source) == (True, "belief")
        assert "did not answer within 2 s" in str(found.problem)


def test_a_service_that_gets_no_answer_or_has_nobody_to_ask_tells_what_it_believes(tmp_path: Path) -> None:
    with StandIn(rates={"unknown": 1.0}) as broker, querying(tmp_path, broker, {"unknown_retries": 0}) as running:
        running.start()
        connect(running, broker, "G@@@a")
        with StatusClient(service=running.url) as statuses:
            found = statuses.online("G@@@a")
        assert (found.online, found.source, found.asked_at) == (True, "belief", None)
        assert "did not get an answer from the broker" in str(found.problem)
    (tmp_path / "alone").mkdir()
    with service(tmp_path / "alone") as running, StatusClient(service=running.url) as statuses:
        running.start()
        running.tell(event("G@@@a", "connect", "c"))
        for _ in range(5):  # it is not asked for what it cannot do each time
            found = statuses.online("G@@@a")
            assert (found.online, found.source, found.problem) == (True, "belief", None)


def test_query_says_who_is_online_through_the_service_and_by_its_exit_code(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a", "G@@@b")
        found = running.printed("query", "G@@@b", "G@@@a")
        assert [(one["client"], one["online"], one["source"]) for one in found] == [
            ("G@@@b", True, "query"),
            ("G@@@a", True, "query"),
        ]
        broker.truth["G@@@b"] = 0
        done = running.command("query", "G@@@a", "G@@@b")
        assert done.returncode == 1
        header, first, second = (line.split() for line in done.stdout.splitlines())
        assert header[:3] == ["client", "online", "connections"]
        assert (first[:3], second[:3]) == (["G@@@a", "yes", "1"], ["G@@@b", "no", "0"])


def test_query_without_a_service_asks_the_provider_itself_and_falls_back_to_the_store(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker, {"unknown_retries": 0}) as running:
        broker.truth["G@@@a"] = 1
        (found,) = running.printed("query", "G@@@a")  # nothing has ever run here
        assert (found["online"], found["source"]) == (True, "query")
        running.start()
        connect(running, broker, "G@@@b")
        assert running.terminate() == 0
        broker.script.append("error")
        done = running.command("query", "G@@@b", "--format", "jsonl")
        assert (json.loads(done.stdout)["online"], json.loads(done.stdout)["source"]) == (True, "belief")
        assert "503" in done.stderr
        assert done.returncode == 0


def test_reconcile_reports_the_drift_through_the_service(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a", "G@@@b")
        broker.truth["G@@@b"] = 0
        done = running.command("reconcile", "--dry-run")
        assert done.returncode == 0, done.stderr
        first, header, row = done.stdout.splitlines()
        assert first == "queried 2 of 2: agreed 1, to correct 1, unknown 0, failed 0"
        assert header.split() == ["client", "believed", "connections", "at"]
        assert row.split()[:3] == ["G@@@b", "online", "0"]
        assert running.statuses()["G@@@b"] == "online"
        (found,) = running.printed("reconcile")
        assert tally(found)["corrected"] == 1 and found["finished_at"] is not None
        assert running.statuses()["G@@@b"] == "offline"


def test_reconcile_joins_a_sweep_that_goes_on_and_says_so(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n}" for n in range(40)))
        broker.truth["G@@@d7"] = 0
        broker.rates = {"throttled": 1.0}  # the sweep cannot end before the command has joined it
        number = running.send("POST", "/v1/reconciliations").json()["id"]
        said = f"sweep {number} is already running"
        done = running.command_that_waits("reconcile", said=said, then=broker.rates.clear)
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
        assert done.stdout.splitlines()[0] == "queried 40 of 40: agreed 39, corrected 1, unknown 0, failed 0"
        assert [one["id"] for one in running.items("/v1/reconciliations")] == [number]


def test_reconcile_that_wants_more_than_the_sweep_under_way_waits_for_its_end(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n}" for n in range(30)))
        broker.truth["G@@@d7"] = 0
        broker.rates = {"throttled": 1.0}
        number = running.send("POST", "/v1/reconciliations", {"dry_run": True}).json()["id"]
        done = running.command_that_waits("reconcile", said=f"sweep {number} is running", then=broker.rates.clear)
        assert done.returncode == 0, done.stderr
        assert "when it has finished" in done.stderr
        assert done.stdout.splitlines()[0] == "queried 30 of 30: agreed 29, corrected 1, unknown 0, failed 0"
        assert [one["id"] for one in running.items("/v1/reconciliations")] == [number + 1, number]


def test_reconcile_without_a_service_works_on_the_store_itself(tmp_path: Path) -> None:
    status = {"unknown_retries": 0}
    with StandIn() as broker, querying(tmp_path, broker, status, debounce={"offline": "0s"}) as running:
        running.start()
        connect(running, broker, "G@@@a", "G@@@b")
        assert running.terminate() == 0
        broker.truth["G@@@b"] = 0
        (found,) = running.printed("reconcile", "--dry-run")
        assert tally(found)["corrected"] == 1
        assert {one["client"]: one["status"] for one in running.printed("clients")}["G@@@b"] == "online"
        done = running.command("reconcile")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == "queried 2 of 2: agreed 1, corrected 1, unknown 0, failed 0"
        assert {one["client"]: one["status"] for one in running.printed("clients")}["G@@@b"] == "offline"
        broker.rates = {"unknown": 1.0}
        done = running.command("reconcile")
        assert done.returncode == 1
        assert done.stdout.splitlines()[0].endswith("unknown 2, failed 0")
        running.start()
        kept = [(one["asked"], one["finished_at"] is not None) for one in running.items("/v1/reconciliations")]
        assert kept == [(2, True)] * 3


def test_reconciliations_are_listed_newest_first_and_each_tells_its_drift(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a")
        numbers = [sweep(running)["id"] for _ in range(3)]
        assert [one["id"] for one in running.items("/v1/reconciliations")] == numbers[::-1]
        page = running.get("/v1/reconciliations", limit=2)
        assert list(page["items"][0]) == [
            "id", "started_at", "finished_at", "asked", "agreed", "corrected", "unknown", "failed",
        ]  # fmt: skip
        (last,) = running.get("/v1/reconciliations", limit=2, cursor=page["next"])["items"]
        assert last["id"] == numbers[0]
        for path in ("/v1/reconciliations/99", "/v1/reconciliations/x"):
            assert requests.get(running.url + path, timeout=10).status_code == 404
        for body in ({"dry": True}, {"dry_run": 1}, [1]):
            assert running.send("POST", "/v1/reconciliations", body).status_code == 400
        text = requests.get(f"{running.url}/sweeps?sweep={numbers[0]}", timeout=10).text
        assert "operator" in text and "queried 1 of 1, agreed 1" in text


def test_metrics_tell_of_calls_answers_verdicts_and_sweeps(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a", "G@@@b")
        broker.truth["G@@@b"] = 0
        sweep(running)
        text = requests.get(f"{running.url}/metrics", timeout=10).text
        for line in (
            'rollcall_status_answers_total{outcome="online"} 1.0',
            'rollcall_status_answers_total{outcome="offline"} 2.0',
            'rollcall_status_verdicts_total{verdict="agreed"} 1.0',
            'rollcall_status_verdicts_total{verdict="corrected"} 1.0',
            "rollcall_corrections_total 1.0",
            "rollcall_sweeps_total 1.0",
            "rollcall_status_waiting 0.0",
            "rollcall_stale_answers_total 0.0",
        ):
            assert line in text.splitlines()


def test_an_event_that_comes_while_a_client_is_asked_is_not_overridden(tmp_path: Path) -> None:
    with StandIn(latency_s=0.5) as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a", truth=0)
        number = running.send("POST", "/v1/reconciliations").json()["id"]
        eventually(lambda: broker.asked())
        running.tell(event("G@@@a", "connect", "newer", now_ms() + 50))
        broker.truth["G@@@a"] = 1
        found = eventually(lambda: running.get(f"/v1/reconciliations/{number}"), lambda found: found["finished_at"])
        assert tally(found)["agreed"] == 1
        assert running.statuses() == {"G@@@a": "online"}
        assert running.metric("rollcall_stale_answers") == 1
