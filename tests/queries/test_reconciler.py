"""Sweeps through the running service: belief converges to truth, corrections act like events, and the rate is kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.service import PATIENCE_S, Service, event, eventually, now_ms, offline_rule, service, sink
from tests.queries.serving import connect, ended, querying, status_section, sweep, tally
from tests.status.standin import StandIn


def test_a_sweep_corrects_what_lost_events_left_wrong_and_reports_the_drift(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n}" for n in range(20)))
        running.tell(event("G@@@gone", "connect", "c"), event("G@@@gone", "tcpclean", "c"))
        broker.truth |= {"G@@@d3": 0, "G@@@gone": 1}
        found = sweep(running)
        assert tally(found) == {"asked": 21, "agreed": 19, "corrected": 2, "unknown": 0, "failed": 0}
        assert (found["why"], found["total"]) == ("operator", 21)
        drift = {one["client"]: (one["believed"], one["connections"]) for one in found["corrections"]}
        assert drift == {"G@@@d3": ("online", 0), "G@@@gone": ("offline", 1)}
        (lost,) = [one for one in found["corrections"] if one["client"] == "G@@@d3"]
        assert [entry["channel"] for entry in lost["events"]] == ["c-G@@@d3"]
        statuses = running.statuses()
        assert {name: status for name, status in statuses.items() if status == "offline"} == {"G@@@d3": "offline"}
        assert sorted(broker.asked().count(name) for name in statuses) == [1] * 19 + [2] * 2
        assert tally(sweep(running))["agreed"] == 21


def test_a_correction_is_held_and_pages_like_an_event(tmp_path: Path) -> None:
    with (
        StandIn() as broker,
        sink() as target,
        querying(tmp_path, broker, debounce={"offline": "300ms", "online": "0s"}) as running,
    ):
        running.rules(offline_rule(target.url))
        running.start()
        connect(running, broker, "G@@@a", "G@@@b")
        broker.truth["G@@@a"] = 0
        assert tally(sweep(running))["corrected"] == 1
        eventually(lambda: target.told("client", "phase"), lambda told: told == [("G@@@a", "firing")])
        broker.truth["G@@@a"] = 1
        assert tally(sweep(running))["corrected"] == 1
        eventually(lambda: target.told("client", "phase")[1:], lambda told: told == [("G@@@a", "recovery")])


def test_a_dry_run_tells_what_would_be_corrected_and_changes_nothing(tmp_path: Path) -> None:
    with StandIn() as broker, sink() as target, querying(tmp_path, broker) as running:
        running.rules(offline_rule(target.url))
        running.start()
        connect(running, broker, "G@@@a", "G@@@b", "G@@@c")
        before = running.items("/v1/clients")
        broker.truth["G@@@a"] = 0
        found = sweep(running, dry_run=True)
        assert tally(found) == {"asked": 3, "agreed": 2, "corrected": 1, "unknown": 0, "failed": 0}
        assert [(one["client"], one["believed"]) for one in found["corrections"]] == [("G@@@a", "online")]
        assert running.items("/v1/clients") == before
        assert target.seen() == []


def test_clients_of_the_inventory_that_were_never_seen_are_queried_in_every_sweep(tmp_path: Path) -> None:
    (tmp_path / "inventory.csv").write_text("client,site\nG@@@never,north\nG@@@late,north\nG@@@*,south\n")
    with StandIn() as broker, querying(tmp_path, broker, inventory="inventory.csv") as running:
        running.start()
        connect(running, broker, "G@@@a")
        broker.truth["G@@@late"] = 1
        assert tally(sweep(running)) == {"asked": 3, "agreed": 2, "corrected": 1, "unknown": 0, "failed": 0}
        assert running.statuses() == {"G@@@a": "online", "G@@@late": "online", "G@@@never": "offline"}
        assert tally(sweep(running))["agreed"] == 3


def test_a_client_without_an_answer_is_queried_in_three_passes_and_then_counts_as_unknown_or_failed(
    tmp_path: Path,
) -> None:
    with StandIn(rates={"unknown": 1.0}) as broker, querying(tmp_path, broker, {"unknown_retries": 0}) as running:
        running.start()
        connect(running, broker, "G@@@a", "G@@@b")
        assert tally(sweep(running)) == {"asked": 2, "agreed": 0, "corrected": 0, "unknown": 2, "failed": 0}
        assert len(broker.asked()) == 6
        assert set(running.statuses().values()) == {"online"}


def test_answers_that_are_unknown_late_or_broken_sometimes_end_in_the_truth_all_the_same(tmp_path: Path) -> None:
    faults = {"unknown": 0.1, "late": 0.05, "error": 0.03, "truncated": 0.03, "cut": 0.03, "html": 0.02}
    with StandIn(rates=faults) as broker, querying(tmp_path, broker, {"timeout": "1s"}) as running:
        running.start()
        names = [f"G@@@d{n}" for n in range(300)]
        connect(running, broker, *names)
        broker.truth.update(dict.fromkeys(names[::10], 0))
        found = tally(sweep(running))
        assert (found["asked"], found["corrected"]) == (300, 30)
        statuses = running.statuses()
        assert [name for name in names if statuses[name] == "offline"] == names[::10]


def test_wrong_keys_end_a_sweep_soon_and_are_logged_while_the_service_stays_ready(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        (tmp_path / "secret").write_text("another")
        running.start()
        connect(running, broker, *(f"G@@@d{n}" for n in range(200)))
        found = sweep(running)
        assert tally(found) == {"asked": 200, "agreed": 0, "corrected": 0, "unknown": 0, "failed": 200}
        (line,) = running.log_lines("asking.fails")
        assert "signature" in line["problem"]
        assert running.readiness()[0] == 200
        (said,) = running.get("/readyz")["degraded"]
        assert said.startswith("status queries get no answers: ") and "signature" in said
        assert running.metric("rollcall_status_failing") == 1
        assert len(broker.calls) < 200
        (tmp_path / "secret").write_text(broker.secret)
        eventually(lambda: sweep(running), lambda found: found["agreed"] == 200)
        assert len(running.log_lines("asking.well")) == 1
        assert running.metric("rollcall_status_failing") == 0 and running.get("/readyz")["degraded"] == []


def test_clients_without_permission_fail_and_all_others_are_queried(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n:02}" for n in range(50)))
        broker.denied = {"G@@@d07", "G@@@d31"}
        assert tally(sweep(running)) == {"asked": 50, "agreed": 48, "corrected": 0, "unknown": 0, "failed": 2}


def test_after_a_throttled_call_all_queries_pause_as_long_as_the_service_said(tmp_path: Path) -> None:
    with StandIn(retry_after="2") as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n}" for n in range(50)))
        broker.script.append("throttled")
        assert tally(sweep(running))["agreed"] == 50
        (refused,) = [call.at_s for call in broker.calls if call.said == "throttled"]
        later = sorted(call.at_s for call in broker.calls if call.at_s > refused + 0.5)
        assert later[0] - refused > 1.9
        (line,) = running.log_lines("asking.throttled")
        assert line["seconds"] == 2


@pytest.mark.long
def test_a_kill_in_the_middle_of_a_sweep_resumes_it_within_the_budget(tmp_path: Path) -> None:
    rate, names = 100, [f"G@@@d{n:03}" for n in range(400)]
    with StandIn() as broker, querying(tmp_path, broker, {"rate": rate}) as running:
        running.start()
        connect(running, broker, *names)
        number = running.send("POST", "/v1/reconciliations").json()["id"]
        eventually(lambda: running.get(f"/v1/reconciliations/{number}")["asked"], lambda asked: asked > 100)
        running.kill()
        asked = set(broker.asked())
        running.start()
        found = ended(running, number)
        assert tally(found) == {"asked": 400, "agreed": 400, "corrected": 0, "unknown": 0, "failed": 0}
        assert [one["id"] for one in running.items("/v1/reconciliations")] == [number]
        repeated = len(broker.asked()) - len(names)
        assert repeated < len(asked) / 2  # only what had not been committed yet
        assert broker.most_in_a_second() <= rate
        assert len(running.log_lines("sweep.begun")) == len(running.log_lines("sweep.resumed")) == 1
        (done,) = running.log_lines("sweep.done")
        assert (done["sweep"], done["asked"]) == (number, 400)


@pytest.mark.long
@pytest.mark.parametrize(
    "place",
    ["before_commit:12", "after_commit:12", "before_commit:25", "after_commit:40"],
)
def test_killed_around_a_commit_every_client_is_counted_once_and_corrected(tmp_path: Path, place: str) -> None:
    names = [f"G@@@d{n:02}" for n in range(60)]
    with (
        StandIn(rates={"unknown": 0.2}) as broker,
        querying(tmp_path, broker, {"unknown_retries": 0, "rate": 60}) as running,
    ):
        running.start()
        connect(running, broker, *names)
        broker.truth.update(dict.fromkeys(names[::7], 0))
        running.kill()
        process = running.start(ROLLCALL_FAILPOINT=place)
        number = running.send("POST", "/v1/reconciliations").json()["id"]
        process.wait(PATIENCE_S)
        running.start()
        found = ended(running, number)
        assert (found["asked"], found["agreed"] + found["corrected"] + found["unknown"]) == (60, 60)
        assert found["failed"] == 0
        wrong = {
            name for name, status in running.statuses().items() if (status == "online") != bool(broker.truth[name])
        }
        assert len(wrong) <= found["unknown"]
        assert sorted(one["client"] for one in found["corrections"]) == sorted(set(names[::7]) - wrong)


@pytest.mark.long
def test_a_stop_in_the_middle_of_a_sweep_is_soon_and_the_next_start_goes_on(tmp_path: Path) -> None:
    with StandIn(latency_s=0.3) as broker, querying(tmp_path, broker, {"rate": 50}) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n:03}" for n in range(150)))
        number = running.send("POST", "/v1/reconciliations").json()["id"]
        eventually(lambda: running.get(f"/v1/reconciliations/{number}")["asked"], lambda asked: asked > 20)
        assert running.terminate() == 0
        assert (found := running.printed("clients")) and len(found) == 150
        running.start()
        assert tally(ended(running, number))["agreed"] == 150
        assert broker.most_in_a_second() <= 50


def test_the_budget_is_kept_and_used(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker, {"rate": 300}) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n}" for n in range(900)))
        assert tally(sweep(running))["agreed"] == 900
        assert broker.most_in_a_second() <= 300


def test_one_sweep_goes_on_at_a_time(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker, {"rate": 20}) as running:
        running.start()
        connect(running, broker, *(f"G@@@d{n}" for n in range(30)))
        first = running.send("POST", "/v1/reconciliations")
        second = running.send("POST", "/v1/reconciliations")
        assert (first.status_code, second.status_code) == (202, 429)
        assert "already running" in second.json()["title"]
        assert tally(ended(running, first.json()["id"]))["agreed"] == 30


# On its own


def test_a_schedule_sweeps_again_and_again(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker, reconcile={"every": "500ms"}) as running:
        running.start()
        connect(running, broker, "G@@@a")
        done = eventually(
            lambda: [one for one in running.items("/v1/reconciliations") if one["finished_at"] and one["asked"]],
            lambda found: len(found) >= 3,
        )
        assert all(one["agreed"] == 1 for one in done)


def remember(running: Service, key: str, at_ms: int) -> None:
    """Change an instant that the stopped service remembers."""
    with closing(sqlite3.connect(running.folder / "data" / "rollcall.sqlite3")) as store, store:
        done = store.execute("UPDATE meta SET value = ? WHERE key = ?", (str(at_ms), key))
        assert done.rowcount == 1


@pytest.mark.long
@pytest.mark.parametrize(("catch_up", "sweeps"), [("once", 1), ("skip", 0)])
def test_a_run_that_was_missed_while_stopped_is_made_up_for_once_or_skipped(
    tmp_path: Path, catch_up: str, sweeps: int
) -> None:
    plan = {"every": "1h", "catch_up": catch_up}
    with StandIn() as broker, querying(tmp_path, broker, reconcile=plan, feed={"max_lag": "7d"}) as running:
        running.start()
        connect(running, broker, "G@@@a")
        assert running.terminate() == 0
        remember(running, "reconcile_planned", now_ms() - 24 * 3_600_000)
        running.start()
        if sweeps:
            (found,) = eventually(lambda: running.items("/v1/reconciliations"))
            assert (ended(running, found["id"])["why"], found["id"]) == ("schedule", 1)
            assert running.terminate() == 0
            running.start()
        assert sweep(running)["id"] == sweeps + 1  # asked for, and begun before it would have been


@pytest.mark.long
def test_a_start_after_a_long_stop_sweeps_all_clients_on_its_own(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a", "G@@@b")
        assert running.terminate() == 0
        broker.truth["G@@@b"] = 0
        running.start()  # at once: nothing can have been missed
        assert running.items("/v1/reconciliations") == []
        assert running.terminate() == 0
        remember(running, "alive_at", now_ms() - 120_000)
        running.start()
        (found,) = eventually(lambda: running.items("/v1/reconciliations"))
        found = ended(running, found["id"])
        assert (found["why"], found["corrected"], found["agreed"]) == ("restart", 1, 1)


def test_a_gap_of_a_source_is_swept_for_on_its_own(tmp_path: Path) -> None:
    followed = {"name": "log", "type": "file", "path": "events.jsonl", "follow": True}
    with StandIn() as broker, querying(tmp_path, broker, sources=[followed]) as running:
        log = tmp_path / "events.jsonl"
        log.write_text("".join(event(f"G@@@d{n}", "connect", "c") + "\n" for n in range(50)))
        broker.truth = {f"G@@@d{n}": 1 for n in range(1, 50)}
        running.start()
        eventually(lambda: running.metric("rollcall_events"), lambda count: count == 50)
        log.write_text(event("G@@@new", "connect", "d") + "\n")
        broker.truth["G@@@new"] = 1
        (found,) = eventually(lambda: running.items("/v1/reconciliations"))
        found = ended(running, found["id"])
        assert (found["why"], found["corrected"]) == ("gap", 1)
        assert running.statuses()["G@@@d0"] == "offline"


def test_clients_affected_by_a_gap_are_unverified_until_they_are_queried(tmp_path: Path) -> None:
    followed = {"name": "log", "type": "file", "path": "events.jsonl", "follow": True}
    with StandIn() as broker, querying(tmp_path, broker, {"unknown_retries": 0}, sources=[followed]) as running:

        def verified() -> dict[str, bool]:
            return {one["client"]: one["verified_at"] is not None for one in running.items("/v1/clients")}

        log = tmp_path / "events.jsonl"
        names = [f"G@@@d{n}" for n in range(5)]
        earlier_ms = now_ms() - 10_000
        log.write_text("".join(event(name, "connect", "c", earlier_ms) + "\n" for name in names))
        broker.truth = dict.fromkeys(names, 1)
        running.start()
        eventually(lambda: running.metric("rollcall_events"), lambda count: count == 5)
        sweep(running)
        assert verified() == dict.fromkeys(names, True)
        broker.stop()
        log.write_text(event("G@@@new", "connect", "d", earlier_ms) + "\n")
        eventually(lambda: verified(), lambda found: found == dict.fromkeys([*names, "G@@@new"], False))
        running.kill()
        running.start()
        assert not any(verified().values())
        told = running.printed("explain", names[0])
        assert told[0]["verified_at"] is None
        broker.start()
        eventually(lambda: verified(), lambda found: all(found.values()))


def test_without_a_provider_no_query_is_sent(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.start()
        assert running.send("POST", "/v1/reconciliations").status_code == 501
        assert running.items("/v1/reconciliations") == []


def test_keys_are_never_logged_or_shown(tmp_path: Path) -> None:
    with StandIn() as broker, querying(tmp_path, broker) as running:
        running.start()
        connect(running, broker, "G@@@a")
        connect(running, broker, *(f"G@@@d{n}" for n in range(10)))
        broker.script.extend(["forbidden", "error", "html", "cut"])
        sweep(running)
        assert broker.secret not in running.log_text() and broker.access_key not in running.log_text()
        assert status_section(tmp_path, broker)["secret"] == {"file": "secret"}


def test_with_batches_a_sweep_queries_ten_at_once_and_exactly_only_clients_that_disagree(tmp_path: Path) -> None:
    pytest.importorskip("alibabacloud_onsmqtt20200420")
    with StandIn() as broker, querying(tmp_path, broker, {"provider": "openapi", "rate": 20}) as running:
        running.start()
        names = [f"G@@@d{n:03}" for n in range(100)]
        connect(running, broker, *names)
        broker.truth |= {"G@@@d005": 0}
        broker.cache = broker.truth | {"G@@@d050": 0}  # behind
        assert tally(sweep(running)) == {"asked": 100, "agreed": 99, "corrected": 1, "unknown": 0, "failed": 0}
        exact = [call.clients for call in broker.calls if call.operation == "QuerySessionByClientId"]
        assert {("G@@@d005",), ("G@@@d050",)} == set(exact)
        assert len(broker.calls) < 40
        assert running.get("/v1/clients/G@@@d050/status", verify="true")["online"] is True
