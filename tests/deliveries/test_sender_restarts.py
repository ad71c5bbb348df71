"""A sending process that is killed as soon as it is born: the engine's side never gives up on having one."""

from __future__ import annotations

import asyncio
import os
import signal
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
