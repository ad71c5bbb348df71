"""Internal errors, put in on purpose: one event that cannot be applied stops nothing else, and no thread dies unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.load import SOURCES, journal_lines
from tests.acceptance.service import event, eventually, offline_rule, service, sink

POISON = "G@@@poison"


def test_an_event_that_cannot_be_applied_is_quarantined_and_the_others_are_applied(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, sources=SOURCES) as running:
        running.rules(offline_rule(target.url))
        file = tmp_path / "events.jsonl"
        clients = [f"G@@@d{number}" for number in range(40)]
        clients.insert(17, POISON)
        file.write_text("".join(event(client, "connect", "1") + "\n" for client in clients))
        process = running.start(ROLLCALL_FAULT=f"apply:{POISON}")
        eventually(running.statuses, lambda found: len(found) == len(clients) - 1)
        lines = file.read_text().splitlines()
        closes = [event(client, "tcpclean", "1") for client in clients]
        # Through both sources at once: the pushed ones are answered, the read ones are passed.
        with file.open("a") as out:
            out.write("".join(close + "\n" for close in closes[:20]))
        answer = running.post(*closes[17:])
        assert answer.status_code == 202
        wanted = {client: "offline" for client in clients if client != POISON}
        eventually(running.statuses, lambda found: found == wanted)
        kept = eventually(lambda: running.items("/v1/quarantine"), lambda found: len(found) == 3)
        assert sorted(row["source"] for row in kept) == ["log", "log", "push"]
        for row in kept:
            assert json.loads(row["raw"])["clientId"] == POISON and "internal error" in row["reason"]
        assert len(running.log_lines("writer.poisoned")) == 3
        assert process.poll() is None
        lines += closes[:20]
        assert journal_lines(tmp_path, "log") == [line for line in lines if POISON not in line]

        # With the error fixed they are taken like any other.
        assert running.terminate() == 0
        running.start()
        assert running.command("quarantine", "retry").returncode == 0
        eventually(running.statuses, lambda found: set(found.values()) == {"offline"})
        eventually(lambda: {client for (client,) in target.told("client")}, lambda found: found == set(clients))
        assert len(target.first_seen()) == len(clients)


def test_an_error_that_no_event_causes_ends_the_service_with_a_log_line_and_nothing_is_lost(tmp_path: Path) -> None:
    """The hold of one client comes due and cannot be acted upon."""
    with sink() as target, service(tmp_path, debounce={"offline": "1s", "online": "0s"}) as running:
        running.rules(offline_rule(target.url))
        process = running.start(ROLLCALL_FAULT=f"settle:{POISON}")
        running.tell(event(POISON, "connect", "1"), event("G@@@a", "connect", "1"))
        running.tell(event(POISON, "tcpclean", "1"), event("G@@@a", "tcpclean", "1"))
        assert process.wait(60) == 1
        (line,) = running.log_lines("writer.failed")
        assert "RuntimeError" in line["error"] and "failpoints.py" in line["where"]
        assert "stopped by an internal error; no accepted event is lost" in running.log_text()
        assert not running.log_lines("service.stopped")
        running.start()
        eventually(running.statuses, lambda found: found == {POISON: "offline", "G@@@a": "offline"})
        eventually(lambda: {client for (client,) in target.told("client")}, lambda found: found == {POISON, "G@@@a"})
        assert len(target.first_seen()) == 2
    assert "Traceback" not in running.log_text()


def test_a_delivery_that_cannot_be_rendered_is_dead_with_the_reason_and_stops_nothing(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        running.start(ROLLCALL_FAULT=f"render:{POISON}")
        running.tell(event(POISON, "connect", "1"), event("G@@@a", "connect", "1"))
        running.tell(event(POISON, "tcpclean", "1"), event("G@@@a", "tcpclean", "1"))
        eventually(running.statuses, lambda found: found == {POISON: "offline", "G@@@a": "offline"})
        eventually(lambda: target.told("client"), lambda found: found == [("G@@@a",)])
        (dead,) = running.items("/v1/deliveries", state="dead")
        assert dead["client"] == POISON and "internal error" in dead["last_error"]
        assert running.log_lines("internal.fault")


def test_a_flood_of_malformed_events_is_counted_and_kept_within_bounds(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.start()
        running.tell(event("G@@@a", "connect", "1"))
        for number in range(12):
            answer = running.post(
                *(f'{{"broken": {number}}}' for _ in range(1000)), event(f"G@@@d{number}", "connect", "1")
            )
            assert answer.status_code == 202 and answer.json()["accepted"] == 1
            assert len(answer.json()["rejected"]) == 1000
        assert running.metric("rollcall_rejected") == 12_000
        assert len(running.statuses()) == 13
        # Ten thousand are kept, and what came in with the last trim.
        assert 10_000 <= len(running.items("/v1/quarantine")) <= 11_000
