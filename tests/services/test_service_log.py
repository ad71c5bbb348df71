"""The log lines of the parts of a service that go wrong seldom, each written by the code that meets the problem."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI

from engine.clock import SystemClock
from engine.config.loader import load_config
from engine.core.fleet import Fleet
from engine.runtime.heartbeat import Heartbeat
from engine.runtime.source_runner import SourceRunner
from engine.runtime.supervision import Supervisor
from engine.sources.base import Offer, SourceHealth
from engine.telemetry import Event
from engine.web.problems import answer_errors
from engine.web.refusals import Refusals
from tests.written_log import WrittenLog


def test_a_heartbeat_that_fails_is_logged_once_and_again_when_it_arrives(log: WrittenLog) -> None:
    answers: list[Exception | None] = [None, OSError("https://beat.test/token"), OSError(), None, None]

    async def post(url: str) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    async def go() -> None:
        beat = Heartbeat("https://beat.test/token", 1_000, post, lambda: True)
        assert [await beat.run_once() for _ in range(5)] == [True, False, False, True, True]

    asyncio.run(go())
    assert log.line(Event.HEARTBEAT_FAILED)["error"] == "OSError"
    assert log.line(Event.HEARTBEAT_RECOVERED)["level"] == "info"
    assert "token" not in log.text


class Broken:
    """A source with an error in it."""

    name, type = "broken", "file"

    async def run(self, offer: Offer, position: str | None) -> None:
        raise ZeroDivisionError("oh")

    def caught_up_to(self, now_ms: int) -> int | None:
        return None

    def health(self, now_ms: int) -> SourceHealth:
        raise NotImplementedError


def test_a_source_that_raises_is_logged_with_where_it_did(tmp_path: Path, log: WrittenLog) -> None:
    (tmp_path / "rules.yaml").write_text("version: 1\nrules: []\n")
    (tmp_path / "config.yaml").write_text("version: 1\nsources: []\nrules: [rules.yaml]\n")
    runner = SourceRunner(load_config(tmp_path / "config.yaml"), SystemClock(), cast(Fleet, None))
    runner.sources["broken"] = Broken()

    async def position_of(name: str) -> str | None:
        return None

    async def go() -> None:
        work = partial(runner.run_by_name, "broken", position_of, lambda batch: None, lambda gap: None)
        supervisor = Supervisor(SystemClock())
        task = supervisor.keep("source broken", work, event=Event.SOURCE_FAILED)
        while not supervisor.troubles():
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(go())
    line = log.line(Event.SOURCE_FAILED)
    assert (line["source"], line["error"]) == ("broken", "ZeroDivisionError: oh")
    assert line["where"].startswith("test_service_log.py:")


def test_a_background_task_that_fails_is_logged_and_started_again(
    log: WrittenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.supervision.RETRY_AFTER_S", 0.0)
    started = 0

    async def work() -> None:
        nonlocal started
        started += 1
        if started == 1:
            raise ZeroDivisionError("oh")
        await asyncio.Event().wait()

    async def go() -> None:
        task = Supervisor(SystemClock()).keep("rules", work)
        while started < 2:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(go())
    line = log.line(Event.TASK_FAILED)
    assert (line["task"], line["error"]) == ("rules", "ZeroDivisionError: oh")


LOGS_AT_ITS_END = """
import logging
from engine.telemetry import setup_logging
setup_logging("info", "json")
class Logs:
    def __del__(self):
        logging.getLogger("a.library").error("this is left open")
left = Logs()
left.itself = left
"""


def test_a_process_ends_although_something_logs_while_it_does() -> None:
    # A thread that writes the log cannot be started any more by then: waiting for it kept such processes for ever.
    done = subprocess.run([sys.executable, "-c", LOGS_AT_ITS_END], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0


def test_a_request_that_fails_is_logged_with_its_path(log: WrittenLog) -> None:
    app = FastAPI()
    answer_errors(app, Refusals())

    @app.get("/broken")
    async def broken() -> Any:
        raise ZeroDivisionError("oh")

    sent: list[Any] = []

    async def go() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/broken", "query_string": b"", "headers": []}
        with contextlib.suppress(ZeroDivisionError):  # it is raised again after the answer, for the server
            await app(scope, receive, send)

    asyncio.run(go())
    assert sent[0]["status"] == 500
    line = log.line(Event.REQUEST_FAILED)
    assert (line["path"], line["error"]) == ("/broken", "ZeroDivisionError('oh')")
