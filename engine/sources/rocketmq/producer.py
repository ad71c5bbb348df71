"""A producer of RocketMQ messages: one at a time, each answered by the server before the call returns.

What publishes events (`engine.sources.rocketmq.publisher`) and what sends commands to devices (`engine.actions`, which is
given this by the one that puts the parts together) have in common. The native client is in a process of its own
(`engine.sources.rocketmq.client`). Everything here blocks, and lets other threads run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Final

from engine.errors import RollcallError
from engine.sources.rocketmq.client import ClientGone, ClientProcess
from engine.sources.rocketmq.pipe import ClientSetup, ClusterAccess, Stored, StoreRequest
from engine.telemetry import log_level

SEND_TIMEOUT_MS: Final = 3_000
"""How long one request may take when nothing else is said; the library repeats one that fails."""

START_S: Final = 10.0
"""How long making a producer waits for its process to begin, or to say why it cannot. Later than that, messages are not stored."""

TRIES: Final = 3
SLACK_S: Final = 5.0
"""How often the library sends a message that is not confirmed, and the time beside that after which its process counts as hanging."""


class NotStored(RollcallError):
    """The server has not confirmed a message; the message says why. Whether it has it is not known."""


class Producer:
    """Stores messages, until `close`. May be used by several threads, one call at a time each."""

    def __init__(
        self,
        name_servers: str,
        group: str,
        access_key: str = "",
        secret: str = "",
        *,
        is_domain: bool = False,
        timeout_ms: int = SEND_TIMEOUT_MS,
        log_folder: str = "",
        owner: str = "commands",
    ) -> None:
        """`name_servers` is `host:port;host:port`, or with `is_domain` the address of a list of them.

        `log_folder` is where the library writes its log, and `owner` what the process is called in ours.
        """
        self._own = None if log_folder else tempfile.TemporaryDirectory(prefix="rollcall-rocketmq-")
        connection = ClusterAccess(
            group=group,
            name_servers="" if is_domain else name_servers,
            name_server_domain=name_servers if is_domain else "",
            access_key=access_key,
            secret=secret,
            log_folder=log_folder or (self._own.name if self._own else ""),
        )
        self._why = ""
        self._client = ClientProcess(ClientSetup(connection, timeout_ms, log_level()), owner)
        self._client.begin()
        self._within_s = TRIES * timeout_ms / 1000 + SLACK_S
        self._client.wait_until_known(START_S)

    def store(
        self, topic: str, tag: str, body: bytes, *, keys: str = "", properties: Mapping[str, str] | None = None
    ) -> bool:
        """Whether the server has it now. The library also gives up at once when another thread is using the connection."""
        return self._ask(StoreRequest(0, topic, tag, body, keys, dict(properties or {}))).confirmed

    def send(
        self,
        topic: str,
        tag: str,
        body: bytes,
        *,
        keys: str,
        properties: Mapping[str, str],
        until_s: float | None = None,
    ) -> bool:
        """As `store`. False: it was not begun by `until_s` (seconds of `engine.clock.running_ms`). Once it is begun, the library's tries go on.

        Raises NotStored with the reason when the server has not confirmed it.
        """
        stored = self._ask(StoreRequest(0, topic, tag, body, keys, dict(properties), until_s))
        if stored.is_begun and not stored.confirmed:
            raise NotStored(self.why())
        return stored.is_begun

    def _ask(self, asked: StoreRequest) -> Stored:
        try:
            stored: Stored = self._client.ask(asked, self._within_s)
        except ClientGone as gone:
            stored = Stored(False, str(gone))
        if not stored.confirmed:
            self._why = stored.why
        return stored

    def why(self) -> str:
        """Why the last message was not stored."""
        return self._why

    def close(self) -> None:
        """Leave."""
        self._client.close()
        if self._own is not None:
            self._own.cleanup()
