"""A dead-man's switch: pings a URL while verdicts flow and deliveries are sent, so that something outside notices when they are not.

When the engine stops or hangs, a source is down, or a part of the service has died, the pings stop, and whoever waits for them raises
the alarm. A target that fails does not stop them: `/readyz` and the metrics show it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from engine.config.connection import DIRECT, ConnectionConfig
from engine.errors import RollcallError
from engine.telemetry import Event, logger

TIMEOUT_S = 10
"""Of one ping."""

log = logger(__name__)

Post = Callable[[str], Awaitable[None]]
"""Pings a URL; bounded in time. Raises any exception to say that the ping did not arrive."""


class Heartbeat:
    """Pings `url` every `every_ms` milliseconds as long as `is_flowing` says so. `post` makes the request."""

    def __init__(self, url: str, every_ms: int, post: Post, is_flowing: Callable[[], bool]) -> None:
        self._url = url
        self._every_ms = every_ms
        self._post = post
        self._is_flowing = is_flowing
        self._failing = False
        self.sent = 0
        self.failed = 0

    async def run_once(self) -> bool:
        """Ping if all is well; returns whether a ping arrived. Never raises for what the other side does."""
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


async def ping(deny: Sequence[str], url: str, connection: ConnectionConfig = DIRECT) -> None:
    """Request a URL, connected as webhooks are; 2xx means that the ping arrived.

    As with webhooks, no redirect is followed, `network.deny` holds, and the answer is bounded. Raises TimeoutError when the whole takes longer than `TIMEOUT_S`; the body is not read.
    """
    import aiohttp
    from yarl import URL

    from engine.actions.configured import connection_setup
    from engine.actions.webhook.connecting import OutgoingConnections
    from engine.actions.webhook.connection_setup import DEFAULT_CONNECTION
    from engine.actions.webhook.deny import DenyList

    connections = OutgoingConnections({DEFAULT_CONNECTION: connection_setup(connection)}, DenyList(deny))
    try:
        # The deadline stands outside the library, over names, connecting and every byte of the answer's head.
        async with asyncio.timeout(TIMEOUT_S):
            target = URL(url)
            way = await connections.open(DEFAULT_CONNECTION, target)
            answer = await way.session.get(
                target,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None),
                proxy=way.proxy,
                proxy_headers=way.login,
            )
            answer.close()
    finally:
        await connections.close()
    if not 200 <= answer.status < 300:
        raise RollcallError(f"the heartbeat URL answered with HTTP status {answer.status:03}")
