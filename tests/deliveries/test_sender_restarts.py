"""A sending process that is killed as soon as it is born: the engine's side never gives up on having one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from engine.actions.webhook import sender
from engine.actions.webhook.sender import SenderProcess

KILLS = 120


def children() -> set[int]:
    """The processes that this one has started."""
    pid = os.getpid()
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_child_killed_at_birth_is_replaced_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "RESTART_AFTER_S", 0.0)

    async def go() -> int:
        others = children()
        process = SenderProcess({})
        await process.start()
        async with asyncio.timeout(60):
            while process.restarts < KILLS:
                for child in children() - others:
                    others.add(child)
                    os.kill(child, signal.SIGKILL)
                await asyncio.sleep(0)
            await process.ready()
        await process.close()
        return process.restarts

    assert uvloop.run(go()) >= KILLS


def test_a_child_that_does_not_answer_is_shown_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PING_EVERY_S", 0.02)
    monkeypatch.setattr(sender, "PINGS_UNANSWERED", 10**6)  # a start may take as long as it likes

    async def go() -> None:
        process = SenderProcess({})
        await process.start()
        await process.ready()
        stopped = process.pid
        assert stopped is not None and process.trouble() is None
        os.kill(stopped, signal.SIGSTOP)
        monkeypatch.setattr(sender, "PINGS_UNANSWERED", 6)
        async with asyncio.timeout(60):
            while process.trouble() is None:
                await asyncio.sleep(0.005)
            assert "has not answered" in (process.trouble() or "")
            while process.pid == stopped:
                await asyncio.sleep(0.005)
            monkeypatch.setattr(sender, "PINGS_UNANSWERED", 10**6)
            while process.pid is None or process.trouble() is not None:
                await asyncio.sleep(0.005)
        assert process.restarts >= 1
        await process.close()

    uvloop.run(go())


def test_the_process_that_sends_may_open_as_many_connections_as_the_system_allows() -> None:
    code = (
        "import resource as r; from engine.actions.webhook.process import allow_connections;"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, 1_000)); allow_connections(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "(1000, 1000)"
