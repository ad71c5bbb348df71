"""The condition of feeds through the running service: `/metrics`, `/readyz`, `rollcall sources` and the trigger `feed`."""

from __future__ import annotations

import os
from pathlib import Path

import requests

from tests.acceptance.service import Service, event, eventually, service, sink, webhook

FOLLOWED = {"name": "log", "type": "file", "path": "events.jsonl", "follow": True}


def feed_rule(url: str) -> dict[str, object]:
    told = {"name": "feed", "trigger": "feed", "actions": [webhook(url, "firing", "feed")]}
    return told | {"on_recovery": [webhook(url, "recovery", "feed")]}


def number(running: Service, name: str, labels: str) -> float | None:
    """One sample of `/metrics`, None: there is none."""
    text = requests.get(f"{running.url}/metrics", timeout=10).text
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{name}{{{labels}}}")]
    return float(found[0]) if found else None


def test_a_gap_is_told_everywhere_and_outlives_a_restart(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, sources=[FOLLOWED]) as running:
        running.rules(feed_rule(target.url))
        log = tmp_path / "events.jsonl"
        log.write_text("".join(event(f"G@@@d{n}", "connect", "c") + "\n" for n in range(50)))
        running.start()
        eventually(lambda: running.metric("rollcall_events"), lambda count: count == 50)
        log.write_text(event("G@@@d0", "connect", "d") + "\n")
        eventually(lambda: target.told("source", "phase"), lambda found: found == [("log", "firing")])
        assert number(running, "rollcall_source_gaps_total", 'source="log"') == 1
        (gap,) = running.log_lines("source_gap")
        assert gap["source"] == "log" and "was truncated or rewritten" in gap["reason"]
        assert number(running, "rollcall_source_trouble", 'source="log"') == 1
        (found,) = running.printed("sources")
        assert len(found["gaps"]) == 1 and found["trouble"].startswith("gap: ")
        (shown,) = running.get("/readyz")["sources"]  # ready: what is gone does not keep new events out
        assert shown["trouble"].startswith("gap: ")
        running.kill()
        running.start()
        eventually(lambda: (running.get("/readyz")["sources"][0]["behind"] or 99) < 5)
        assert target.told("source", "phase") == [("log", "firing")]
        assert running.get("/readyz")["sources"][0]["trouble"].startswith("gap: ")
        assert number(running, "rollcall_source_gaps_total", 'source="log"') == 0


def test_a_feed_that_falls_silent_is_an_alert_that_a_restart_does_not_end_and_an_event_does(tmp_path: Path) -> None:
    feed = {"max_silence": "1s"}
    with sink() as target, service(tmp_path, sources=[FOLLOWED], feed=feed) as running:
        running.rules(feed_rule(target.url))
        log = tmp_path / "events.jsonl"
        log.write_text(event("G@@@d", "connect", "c") + "\n")
        running.start()
        eventually(lambda: target.told("source", "phase"), lambda found: found == [("log", "firing")])
        (line,) = running.log_lines("feed.trouble")
        assert line["trouble"].startswith("silent: no event for")
        assert running.readiness()[0] == 200
        running.kill()
        running.start()
        eventually(lambda: (running.get("/readyz")["sources"][0]["behind"] or 99) < 5)
        assert target.told("source", "phase") == [("log", "firing")]
        with log.open("a") as out:
            out.write(event("G@@@d", "tcpclean", "c") + "\n")
        eventually(
            lambda: target.told("source", "phase")[:2], lambda found: found == [("log", "firing"), ("log", "recovery")]
        )
        eventually(lambda: [line["source"] for line in running.log_lines("feed.well")], lambda found: found == ["log"])


def test_lag_and_ages_are_told_in_numbers_and_on_one_line(tmp_path: Path) -> None:
    with service(tmp_path, sources=[FOLLOWED, {"name": "push", "type": "http"}], debounce={"offline": "0s"}) as running:
        (tmp_path / "events.jsonl").touch()
        running.start()
        running.tell(event("G@@@d", "connect", "c"))
        eventually(
            lambda: number(running, "rollcall_source_last_event_age_seconds", 'source="push"'),
            lambda age: age is not None,
        )
        assert number(running, "rollcall_source_last_event_age_seconds", 'source="log"') is None
        eventually(lambda: number(running, "rollcall_source_lag", 'source="log",unit="bytes"'), lambda lag: lag == 0)
        assert number(running, "rollcall_source_lag", 'source="push",unit="messages"') == 0
        heading, *rows = running.command("sources").stdout.splitlines()
        assert heading.split() == [
            "name",
            "type",
            "connected",
            "behind",
            "lag",
            "last_event_at",
            "gaps",
            "trouble",
            "detail",
        ]
        assert [row.split()[0] for row in rows] == ["log", "push"]
        assert " 0 bytes " in rows[0] and " 0 messages " in rows[1]


def test_a_disconnected_feed_makes_the_service_not_ready_and_says_why(tmp_path: Path) -> None:
    with service(tmp_path, sources=[FOLLOWED]) as running:
        running.start(ready=False)
        eventually(running.readiness, lambda found: found[0] == 503 and "does not exist" in found[1])
        eventually(lambda: number(running, "rollcall_source_connected", 'source="log"'), lambda up: up == 0)
        eventually(lambda: number(running, "rollcall_source_trouble", 'source="log"'), lambda trouble: trouble == 1)
        (tmp_path / "events.jsonl").touch()
        eventually(lambda: running.readiness()[0] == 200)
        eventually(lambda: number(running, "rollcall_source_trouble", 'source="log"'), lambda trouble: trouble == 0)


def test_a_fifo_as_the_file_of_a_source_is_said_and_stops_nothing_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.jsonl")
    with service(tmp_path, sources=[FOLLOWED, {"name": "push", "type": "http"}]) as running:
        running.start(ready=False)
        eventually(running.readiness, lambda found: found[0] == 503 and "is a FIFO, not a regular file" in found[1])
        running.tell(event("G@@@d", "connect", "c"))
        eventually(running.readiness, lambda found: '"disconnected: ' in found[1])
        (tmp_path / "events.jsonl").unlink()
        (tmp_path / "events.jsonl").write_text(event("G@@@e", "connect", "c") + "\n")
        eventually(lambda: running.readiness()[0] == 200)
        (tmp_path / "events.jsonl").unlink()
        os.mkfifo(tmp_path / "events.jsonl")
        eventually(running.readiness, lambda found: found[0] == 503 and "is a FIFO" in found[1])
        assert running.terminate() == 0
