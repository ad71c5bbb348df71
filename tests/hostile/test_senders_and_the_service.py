"""The whole service under bad senders: it keeps what it needs for itself, goes on, and stops when it is told to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.acceptance.service import Service, event, eventually, now_ms, offline_rule, service, sink
from tests.hostile.senders import LARGE, Sender, misbehave

FILES = 256
FEW_FILES = ("sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh")
TOKEN = {"Authorization": "Bearer s3cret"}


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[Service]:
    """A service that needs a token and may open few files; not started."""
    with service(tmp_path) as found:
        (tmp_path / "token").write_text("s3cret\n")
        config = json.loads((tmp_path / "config.yaml").read_text())
        config["http"]["token"] = {"file": "token"}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        yield found


def posted(running: Service, *events: str) -> int:
    headers = {"Content-Type": "application/x-ndjson", **TOKEN}
    return requests.post(f"{running.url}/v1/events", "\n".join(events), headers=headers, timeout=60).status_code


def is_ready(running: Service) -> bool:
    try:
        return requests.get(f"{running.url}/readyz", headers=TOKEN, timeout=60).status_code == 200
    except requests.RequestException:
        return False


def test_half_sent_requests_without_a_token_take_nothing_that_the_service_needs(protected: Service) -> None:
    with sink() as target:
        protected.rules(offline_rule(target.url))
        protected.start(ready=False, under=FEW_FILES)
        eventually(lambda: is_ready(protected))
        assert posted(protected, event("G@@@d", "connect", "c", now_ms() - 5_000)) == 202
        senders = [misbehave(protected.port, "half_head") for _ in range(FILES + 50)]
        assert posted(protected, event("G@@@d", "tcpclean", "c")) == 202
        eventually(target.seen)
        assert len(os.listdir(f"/proc/{protected.pid}/fd")) < FILES * 3 // 4
        assert sum(sender.is_open() for sender in senders) < FILES // 2
        assert is_ready(protected)
        assert protected.log_lines("http.refused")
        assert not any(json.loads(line)["level"] == "error" for line in protected.log_text().splitlines())


def test_the_service_stops_although_nobody_finishes_a_request(protected: Service) -> None:
    protected.rules()
    protected.start(ready=False)
    eventually(lambda: is_ready(protected))
    senders = [misbehave(protected.port, "half_head"), misbehave(protected.port, "silent")]
    senders.append(Sender(protected.port, b"Authorization: Bearer s3cret\r\n").post(LARGE, b"x\n"))
    assert is_ready(protected)
    assert protected.terminate() == 0
    assert [sender.is_open() for sender in senders] == [False] * 3
    assert not any(json.loads(line)["level"] == "error" for line in protected.log_text().splitlines())


def test_a_flood_of_requests_without_a_token_is_one_line_of_the_log(protected: Service) -> None:
    protected.rules()
    protected.start(ready=False)
    eventually(lambda: is_ready(protected))
    before = len(protected.log_text().splitlines())
    with requests.Session() as session:
        for _ in range(150):
            assert session.get(f"{protected.url}/v1/clients", timeout=60).status_code == 401
            assert session.get(f"{protected.url}/", headers={"Host": "evil.example"}, timeout=60).status_code == 403
    for _ in range(50):
        misbehave(protected.port, "not_http").answer()
    eventually(lambda: protected.log_lines("http.refused"))
    assert len(protected.log_text().splitlines()) <= before + 2
