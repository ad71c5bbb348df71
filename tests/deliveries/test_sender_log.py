"""What the process that sends webhooks logs, and what is logged about it, both in the log of the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.actions.base import OutboxItem, Outcome, RetryLater
from engine.actions.webhook import sender
from engine.actions.webhook.sender import SenderProcess
from engine.telemetry import Event
from tests.written_log import WrittenLog

WITHIN_S = 30.0


def item(number: int = 1, **request: object) -> OutboxItem:
    url = "http://127.0.0.1:9/"  # nothing listens there
    return OutboxItem(id=number, key=str(number), rule="dark", lane="l", action="webhook", target="http://127.0.0.1:9",
                      request={"url": url, "json": {}} | request, attempts=0, decided_at_ms=0, phase="firing",
                      alert="a")  # fmt: skip


async def sent(process: SenderProcess, one: OutboxItem) -> Outcome:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    process.submit([one], lambda outcomes: done.set_result(outcomes[0]))
    async with asyncio.timeout(WITHIN_S):
        return await done


async def until(log: WrittenLog, event: Event) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not log.lines(event):
            await asyncio.sleep(0.005)  # only how often we look


def test_an_unexpected_error_in_the_process_is_in_the_log_of_the_engine_without_its_text(log: WrittenLog) -> None:
    async def go() -> None:
        process = SenderProcess({"key": "hidden"})
        await process.start()
        outcome = await sent(process, item(7, headers=["no mapping"]))
        assert isinstance(outcome.answer, RetryLater) and outcome.answer.may_have_arrived
        await until(log, Event.SENDER_FAILED)
        await process.close()

    asyncio.run(go())
    line = log.line(Event.SENDER_FAILED)
    assert list(line)[:4] == ["at", "level", "event", "sentence"]
    assert (line["level"], line["action"], line["delivery"], line["error"]) == ("error", "webhook", 7, "AttributeError")
    assert "request.py:" in line["where"] and line["sentence"] == Event.SENDER_FAILED.sentence


def test_a_process_that_ends_is_logged_with_its_exit_code_and_a_stop_is_not(log: WrittenLog) -> None:
    async def go() -> None:
        process = SenderProcess({})
        await process.start()
        await process.ready()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await until(log, Event.WEBHOOK_PROCESS_ENDED)
        await process.ready()
        await process.close()

    asyncio.run(go())
    assert log.line(Event.WEBHOOK_PROCESS_ENDED)["exit_code"] == -signal.SIGKILL


def program(folder: Path, text: str) -> str:
    """A program that ignores its arguments."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "event", "fact"),
    [
        ("head -c 64 /dev/zero | tr '\\0' '\\377'; sleep 60", Event.WEBHOOK_PROCESS_GARBLED, "is longer than"),
        ("echo 'Fatal Python error: oh' >&2; sleep 60", Event.WEBHOOK_PROCESS_OUTPUT, "Fatal Python error: oh"),
    ],
)
def test_what_no_such_process_says_is_logged(
    text: str, event: Event, fact: str, tmp_path: Path, log: WrittenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"exec 3<&0; {text}"))

    async def go() -> None:
        process = SenderProcess({})
        await process.start()
        await until(log, event)
        if process._process is not None:
            process._process.kill()
        await process.close()

    asyncio.run(go())
    line = log.lines(event)[0]
    assert fact in line.get("error", line.get("message", ""))


def test_a_process_that_cannot_be_started_again_is_logged_and_tried_again(
    log: WrittenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "RESTART_AFTER_S", 0.0)
    python = sys.executable

    async def go() -> None:
        process = SenderProcess({})
        await process.start()
        await process.ready()
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await until(log, Event.WEBHOOK_PROCESS_UNSTARTABLE)
        monkeypatch.setattr(sys, "executable", python)
        assert isinstance((await sent(process, item())).answer, RetryLater)
        await process.close()

    asyncio.run(go())
    assert "No such file" in log.lines(Event.WEBHOOK_PROCESS_UNSTARTABLE)[0]["error"]


def test_results_that_cannot_be_processed_are_logged_and_others_are_not_lost(log: WrittenLog) -> None:
    def broken(outcomes: Sequence[Outcome]) -> None:
        raise ZeroDivisionError("oh")

    async def go() -> None:
        process = SenderProcess({})
        await process.start()
        process.submit([item(1)], broken)
        await until(log, Event.WEBHOOK_RESULTS_LOST)
        assert isinstance((await sent(process, item(2))).answer, RetryLater)
        await process.close()

    asyncio.run(go())
    line = log.line(Event.WEBHOOK_RESULTS_LOST)
    assert (line["webhooks"], line["error"]) == (1, "ZeroDivisionError('oh')")
