"""A dead-man's switch: pings a URL while verdicts flow, so that something outside can watch the watcher.

When the engine stops, hangs, or its feed is down, the pings stop, and whoever waits for them raises the alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.telemetry import Event, logger

log = logger(__name__)

Post = Callable[[str], Awaitable[None]]
"""Pings a URL; bounded in time. Raises any exception to say that it did not arrive."""


class Heartbeat:
    """Pings `url` every `every_ms` milliseconds as long as `is_flowing` says so. `post` does the asking."""

    def __init__(self, url: str, every_ms: int, post: Post, is_flowing: Callable[[], bool]) -> None:
        self._url = url
        self._every_ms = every_ms
        self._post = post
        self._is_flowing = is_flowing
        self._failing = False
        self.sent = 0
        self.failed = 0

    async def run_once(self) -> bool:
        """Ping if verdicts flow; returns whether a ping arrived. Never raises for what the other side does."""
        if not self._is_flowing():
            return False
        try:
            await self._post(self._url)
        except Exception as error:  # noqa: BLE001  # whatever is wrong over there must not stop anything here
            self.failed += 1
            if not self._failing:
                # The URL may hold a token, and the error's text may hold the URL: only its kind is logged.
                log.warning(Event.HEARTBEAT_FAILED, error=type(error).__name__)
            self._failing = True
            return False
        if self._failing:
            log.info(Event.HEARTBEAT_RECOVERED)
        self._failing = False
        self.sent += 1
        return True

    async def run(self) -> None:
        """Ping until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(self._every_ms / 1000)
