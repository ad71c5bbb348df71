"""The stand-in itself, queried with nothing but `requests`: what it verifies, how it misbehaves, what it counts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.status.standin import ACCESS_KEY, INSTANCE, SECRET, StandIn, most_within, truth_of


def ask(standin: StandIn, client: str, *, secret: str = SECRET, off_ms: int = 0, **more: str) -> Any:
    given = {
        "accessKey": ACCESS_KEY,
        "instanceId": INSTANCE,
        "resource": client,
        "timestamp": str(time.time_ns() // 1_000_000 + off_ms),
    } | more
    text = "&".join(f"{name}={given[name]}" for name in sorted(given))
    given["signature"] = base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return requests.get(f"{standin.url}/route/clientId/get", given, timeout=30).json()


def test_it_answers_signed_requests_truthfully() -> None:
    with StandIn(truth={"G@@@a": 2}) as standin:
        assert ask(standin, "G@@@a") == {"code": 0, "success": True, "message": "", "online": 2}
        assert ask(standin, "G@@@b")["online"] == 0
        assert standin.asked() == ["G@@@a", "G@@@b"]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"accessKey": ""}, 1),
        ({"secret": "another"}, 2),
        ({"instanceId": "mqtt-cn-other"}, 3),
        ({"off_ms": 301_000}, 4),
        ({"off_ms": -301_000}, 4),
    ],
)
def test_it_refuses_what_is_signed_or_dated_wrongly(wrong: dict[str, Any], code: int) -> None:
    with StandIn() as standin:
        assert ask(standin, "G@@@a", **wrong)["code"] == code


def test_its_faults_come_from_a_seed_and_a_script() -> None:
    def said(seed: int) -> list[int]:
        with StandIn(rates={"unknown": 0.3}, seed=seed, truth={"G@@@a": 1}) as standin:
            return [ask(standin, "G@@@a")["online"] for _ in range(40)]

    assert said(7) == said(7) != said(8)
    assert {*said(7)} == {1, -1}
    with StandIn() as standin:
        standin.script.extend(["unknown", "ok"])
        assert [ask(standin, "G@@@a")["online"] for _ in range(2)] == [-1, 0]


def test_calls_are_counted_in_any_sliding_second() -> None:
    assert most_within([0.0, 0.5, 0.999, 1.0, 1.4, 2.6]) == 4
    assert most_within([]) == 0


def test_the_truth_is_read_from_events(tmp_path: Path) -> None:
    told = tmp_path / "events.jsonl"
    told.write_text(
        '{"clientId":"G@@@a","eventType":"connect","channelId":"1"}\n'
        '{"clientId":"G@@@a","eventType":"connect","channelId":"2"}\n'
        '{"clientId":"G@@@a","eventType":"tcpclean","channelId":"1"}\n'
        '{"clientId":"G@@@b","eventType":"tcpclean","channelId":"9"}\n'
    )
    assert truth_of(told) == {"G@@@a": 1, "G@@@b": 0}
    told.write_text('{"G@@@a": 3}')
    assert truth_of(told) == {"G@@@a": 3}


def test_it_runs_from_a_shell(tmp_path: Path) -> None:
    told = tmp_path / "truth.json"
    told.write_text('{"G@@@a": 3}')
    with subprocess.Popen(
        [sys.executable, "-m", "tests.status.standin", "--port", "0", "--truth", str(told)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().partition("http://127.0.0.1:")[2].partition(",")[0])
        assert process.stdout.readline() == "truth: 1 clients\n"
        assert ask(StandIn(port=port), "G@@@a")["online"] == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_an_address_that_exceeds_the_rate_is_blocked() -> None:
    with StandIn(block_above=5) as standin:
        found = []
        for _ in range(8):
            given = requests.get(f"{standin.url}/route/clientId/get", timeout=30)
            found.append(given.status_code)
        assert found[:5] == [200] * 5
        assert standin.blocked == (403 in found) == (standin.most_in_a_second() > 5)
