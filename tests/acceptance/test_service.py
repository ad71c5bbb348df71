"""The service as a process: one instance, a good end, and an answer when it is full."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from tests.acceptance.service import event, eventually, free_port, offline_rule, service, sink

BUSY = 12_000
"""Events in one body: two of them are more than may wait."""


def test_a_second_instance_on_the_same_data_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.start()
        other = (tmp_path / "config.yaml").read_text().replace(str(running.port), str(free_port()))
        (tmp_path / "other.yaml").write_text(other)
        done = running.command("run", "-c", "other.yaml")
        assert done.returncode == 1
        assert "in use by another Rollcall process" in done.stderr and str(running.pid) in done.stderr
        assert "Traceback" not in done.stderr
        running.tell(event("G@@@a", "connect", "1"))  # the first one never noticed


def test_sigterm_ends_it_well(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.start()
        assert running.post(event("G@@@d1", "connect", "1"), "{broken").json()["accepted"] == 1
        assert running.terminate() == 0
        assert [entry["client"] for entry in running.printed("clients")] == ["G@@@d1"]
    assert "Traceback" not in running.log_text()


def test_a_full_engine_says_when_to_come_back_and_loses_nothing(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.start()
        turned_away = threading.Event()

        def push(side: int) -> None:
            """Repeat a body until it is accepted."""
            body = [event(f"G{side}@@@d{number}", "connect", "1") for number in range(BUSY)]

            def ask() -> requests.Response:
                answer = running.post(*body)
                if answer.status_code == 429:
                    assert int(answer.headers["Retry-After"]) > 0
                    turned_away.set()
                return answer

            answer = eventually(ask, lambda answer: answer.status_code == 202)
            assert answer.json() == {"accepted": BUSY, "rejected": []}

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(push, range(4)))
        assert turned_away.is_set()
        assert running.metric("rollcall_clients") == 4 * BUSY
        assert running.terminate() == 0


def test_the_heartbeat_comes_while_verdicts_flow_and_stops_when_a_feed_is_down(tmp_path: Path) -> None:
    followed = {"name": "log", "type": "file", "path": "events.jsonl", "follow": True}
    with (
        sink() as target,
        service(tmp_path, sources=[followed], heartbeat={"url": target.url, "every": "1s"}) as running,
    ):
        running.rules(offline_rule("http://127.0.0.1:9"))
        (tmp_path / "events.jsonl").touch()
        running.start()
        eventually(target.seen, lambda found: len(found) >= 2)
        (tmp_path / "events.jsonl").unlink()
        eventually(running.readiness, lambda found: found[0] == 503)
        eventually(lambda: running.log_lines("feed.trouble"))
        heard = len(target.seen())
        (tmp_path / "events.jsonl").touch()
        eventually(running.readiness, lambda found: found[0] == 200)
        eventually(target.seen, lambda found: len(found) > heard)
