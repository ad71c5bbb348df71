"""A log that cannot be written stops nothing: rules with a `log` action wait for it, and everything else goes on."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import Service, event, eventually, service, sink, webhook
from tests.hostile.log_readers import READERS, start


def two_actions(url: str) -> dict[str, Any]:
    log = {"log": {"message": "{{ client.id }} is gone"}}
    return {"name": "gone", "trigger": "offline", "actions": [log, webhook(url, "firing")]}


def gone(running: Service, client: str) -> None:
    running.tell(event(client, "connect", "1"))
    running.tell(event(client, "tcpclean", "1"))


def of_action(running: Service, action: str) -> list[dict[str, Any]]:
    return [row for row in running.items("/v1/deliveries") if row["action"] == action]


@pytest.mark.parametrize("how", READERS)
def test_webhooks_go_on_and_the_message_of_the_log_is_tried_again(how: str, tmp_path: Path) -> None:
    with READERS[how]() as stderr, sink() as target, sink() as outside:
        with service(tmp_path, heartbeat={"url": outside.url, "every": "1s"}) as running:
            running.rules(two_actions(target.url))
            process = start(running, stderr)
            gone(running, "G@@@a")
            eventually(lambda: target.told("client"), lambda found: found == [("G@@@a",)])
            (failed,) = eventually(
                lambda: of_action(running, "log"),
                lambda rows: rows and rows[0]["attempts"] > 0 and rows[0]["last_error"],
            )
            assert failed["state"] == "due" and "the log" in failed["last_error"]
            gone(running, "G@@@b")
            eventually(lambda: target.told("client"), lambda found: found == [("G@@@a",), ("G@@@b",)])
            status, text = eventually(running.readiness, lambda found: "log: " in found[1])
            assert status == 200 and json.loads(text)["ready"]  # degraded, with the reason
            assert any(one.startswith("log: ") for one in json.loads(text)["degraded"])
            assert [part["working"] for part in json.loads(text)["parts"] if part["name"] == "log"] == [False]
            assert running.metric('rollcall_part_working{part="log"}') == 0
            beats = len(outside.seen())
            eventually(outside.seen, lambda found: len(found) > beats)
            assert running.terminate() == 0
            assert process.poll() == 0

        # With a log again, the message is written.
        with service(tmp_path) as running:
            running.rules(two_actions(target.url))
            running.start()
            lines = eventually(lambda: running.log_lines("action.log"), lambda found: len(found) >= 2)
            assert {line["message"] for line in lines} == {"G@@@a is gone", "G@@@b is gone"}


def test_a_log_that_is_read_again_says_how_many_lines_were_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    first_reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    stderr = os.open(tmp_path / "log", os.O_WRONLY)
    with service(tmp_path) as running:
        running.rules(two_actions("http://127.0.0.1:9/"))
        start(running, stderr)
        os.close(first_reader)
        gone(running, "G@@@a")
        eventually(lambda: running.metric("rollcall_log_lines_lost"), lambda lost: lost > 0)
        reader, text = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK), b""

        def lines(name: str) -> list[dict[str, Any]]:
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                text += os.read(reader, 2**20)
            whole = text.decode().splitlines() if text.endswith(b"\n") else []
            return [line for line in map(json.loads, whole) if line["event"] == name]

        (lost, *_) = eventually(lambda: lines("log.lines_lost"))
        assert lost["lines"] > 0
        eventually(running.readiness, lambda found: "log: " not in found[1])
        (message, *_) = eventually(lambda: lines("action.log"))
        assert message["message"] == "G@@@a is gone"
        assert running.terminate() == 0
        os.close(reader)
    os.close(stderr)


def test_a_service_without_a_standard_error_works(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running, open(os.devnull, "wb") as unused:
        running.rules(two_actions(target.url))
        start(running, unused.fileno(), closed=True)
        gone(running, "G@@@a")
        eventually(lambda: target.told("client"), lambda found: found == [("G@@@a",)])
        eventually(lambda: of_action(running, "log"), lambda rows: rows and "closed" in (rows[0]["last_error"] or ""))
        assert running.terminate() == 0
