"""Keeps background tasks of the service going when one look of theirs fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.errors import StoreError
from engine.telemetry import Event, logger

RETRY_AFTER_S = 1.0
"""Before a task that failed goes on."""

log = logger(__name__)


async def supervised(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until cancelled, again whenever it ends or raises. Internal errors are logged."""
    while True:
        try:
            await work()
        except StoreError:
            pass  # the writer has logged it, and tries again
        except Exception as error:  # the next look may go well
            log.error(Event.TASK_FAILED, task=name, exc_info=error)
        await asyncio.sleep(RETRY_AFTER_S)
