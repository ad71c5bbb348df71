"""Lifecycle events published to a RocketMQ topic the way the MQTT broker does it: one message each, tagged by its type.

For synthetic fleets and tests. Every message is sent by itself and answered: the library's batches are stored as one
message, and what it sends without an answer may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from engine.errors import RollcallError
from engine.sources.rocketmq.client import require_library
from engine.sources.rocketmq.producer import Producer

GIVE_UP_S: Final = 10.0
AGAIN_S: Final = 0.02
"""How long one message is tried, and the pause between two tries."""

THREADS: Final = 8
"""Requests under way at a time: a server answers each, and the waiting is most of it."""


class CannotPublish(RollcallError):
    """The broker did not take the messages; the message says why. How many of them it has is not known."""


class Publisher:
    """Sends messages to one topic, until `close`."""

    def __init__(
        self, name_servers: str, topic: str, group: str = "PID_rollcall", access_key: str = "", secret: str = ""
    ) -> None:
        """`name_servers` is `host:port;host:port`. NativeLibraryMissing when there is no library."""
        self._topic = topic
        require_library()
        self._producer = Producer(name_servers, group, access_key, secret, owner="publisher")
        self._threads = ThreadPoolExecutor(THREADS, "publishing")

    def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """(tag, body) each; returns when the server has stored all of them. Their order is not kept.

        Raises:
            CannotPublish: it has not, or not all.
        """
        share = max(1, -(-len(messages) // THREADS))
        shares = [messages[start : start + share] for start in range(0, len(messages), share)]
        for sent in [self._threads.submit(self._send, share) for share in shares]:
            sent.result()

    def _send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for tag, body in messages:
            self._store(tag, body)

    def _store(self, tag: str, body: bytes) -> None:
        """Send until the server has it. The library gives up at once when another thread is using the connection."""
        deadline = time.monotonic() + GIVE_UP_S
        while not self._producer.store(self._topic, tag, body):
            if time.monotonic() > deadline:
                raise CannotPublish(f"cannot publish to {self._topic}: {self._producer.why()}")
            time.sleep(AGAIN_S)

    def close(self) -> None:
        """Leave."""
        self._threads.shutdown()
        self._producer.close()
