"""`rollcall simulate --to rocketmq://…`, and what the metrics say about each queue."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import requests

from tests.acceptance.service import ROLLCALL, eventually, service
from tests.mq.broker import Broker


def test_a_simulated_fleet_travels_through_the_broker_with_its_tags(
    tmp_path: Path, broker: Broker, topic: str, source: Callable[..., dict[str, object]]
) -> None:
    broker.topic(topic, queues=2)
    with service(tmp_path, sources=[source()]) as running:
        running.start()
        command = [ROLLCALL, "simulate", "--to", f"rocketmq://{broker.address}/{topic}", "--clients", "40"]
        command += ["--events", "300", "--speed", "60", "--spread", "1s"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and "300 synthetic events published" in done.stderr, done.stderr
        eventually(lambda: running.metric("rollcall_events"), lambda events: events == 300)
        assert len(running.statuses()) == 40 and running.metric("rollcall_rejected") == 0
        text = requests.get(f"{running.url}/metrics", timeout=10).text
        lags = re.findall(r'^rollcall_queue_lag\{queue="([^"]+)",source="mq"\} 0\.0$', text, re.MULTILINE)
        assert sorted(lags) == [f"{topic}@broker-a:{queue}" for queue in range(2)]
        assert re.search(r'^rollcall_queue_behind_seconds\{queue="[^"]+:0",source="mq"\} ', text, re.MULTILINE)
        (told,) = running.printed("sources")
        assert [queue["lag"] for queue in told["queues"]] == [0, 0]


def test_an_address_that_is_none_and_a_server_that_is_not_there_are_told(rocketmq: None) -> None:
    for target, words in (
        ("rocketmq://x", "is not rocketmq://HOST:PORT/TOPIC"),
        ("rocketmq://127.0.0.1:1/T", "cannot connect to"),
    ):
        done = subprocess.run(
            [ROLLCALL, "simulate", "--to", target, "--events", "1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
