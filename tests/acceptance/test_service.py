"""The service as a process: what it accepts over HTTP is durable, and a kill loses nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(folder: Path, port: int) -> None:
    """A service with an HTTP source and one rule, holds of nothing."""
    (folder / "rules").mkdir()
    (folder / "rules" / "r.yaml").write_text(
        "version: 1\nrules: [{name: gone, trigger: offline, actions: [{log: {message: '{{ client.id }}'}}]}]\n"
    )
    (folder / "config.yaml").write_text(
        f"version: 1\nhttp: {{listen: '127.0.0.1:{port}'}}\nsources: [{{name: push, type: http}}]\n"
        "rules: rules/\ndebounce: {offline: 0s, online: 0s}\n"
    )


@contextmanager
def running(folder: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`rollcall run`, ready; killed at the end if it still runs."""
    process = subprocess.Popen(
        [ROLLCALL, "run", "-c", "config.yaml"],
        cwd=folder,
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if requests.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                    break
            except requests.RequestException:
                time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def event(number: int, kind: str = "connect") -> str:
    """One event of a client of its own."""
    now_ms = time.time_ns() // 1_000_000
    return json.dumps({"clientId": f"G@@@d{number}", "time": now_ms, "eventType": kind, "channelId": f"c{number}"})


def post(port: int, body: str) -> requests.Response:
    """Send events to the service."""
    url = f"http://127.0.0.1:{port}/v1/events"
    return requests.post(url, body, headers={"Content-Type": "application/x-ndjson"}, timeout=10)


def known(folder: Path) -> set[str]:
    """The clients that the store knows, as `rollcall clients` prints them."""
    done = subprocess.run(
        [ROLLCALL, "clients", "--format", "jsonl"], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return {json.loads(line)["client"] for line in done.stdout.splitlines()}


def test_what_was_accepted_survives_kills_around_every_commit(tmp_path: Path) -> None:
    port = free_port()
    write_config(tmp_path, port)
    accepted: set[str] = set()
    number = 0
    for failpoint in ("before_commit:6", "after_commit:6", "before_commit:9", "after_commit:11"):
        with running(tmp_path, port, ROLLCALL_FAILPOINT=failpoint) as process:
            while process.poll() is None and number < 400:
                number += 1
                try:
                    if post(port, event(number)).status_code == 202:
                        accepted.add(f"G@@@d{number}")
                except requests.RequestException:
                    break
            process.wait(10)
            assert process.returncode == -signal.SIGKILL
    assert accepted
    assert accepted <= known(tmp_path)


def test_a_second_instance_on_the_same_data_is_refused_with_a_sentence(tmp_path: Path) -> None:
    port = free_port()
    write_config(tmp_path, port)
    with running(tmp_path, port):
        other = (tmp_path / "config.yaml").read_text().replace(str(port), str(free_port()))
        (tmp_path / "other.yaml").write_text(other)
        done = subprocess.run(
            [ROLLCALL, "run", "-c", "other.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert "in use by another rollcall" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_ends_it_well(tmp_path: Path) -> None:
    port = free_port()
    write_config(tmp_path, port)
    with running(tmp_path, port) as process:
        assert post(port, event(1) + "\n" + "{broken").json()["accepted"] == 1
        process.terminate()
        assert process.wait(20) == 0
    assert known(tmp_path) == {"G@@@d1"}
