"""Lifecycle events published to a RocketMQ topic the way the MQTT broker does it: one message each, tagged by its type.

For synthetic fleets and tests. Every message is sent by itself and answered: the library's batches are stored as one
message, and what it sends without an answer may be lost.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from engine.errors import RollcallError
from engine.sources.rocketmq_binding import LOG_FILE_MB, LOG_FILES, library
from engine.sources.rocketmq_log import reason, writing_to

SEND_TIMEOUT_MS: Final = 3_000
GIVE_UP_S: Final = 10.0
AGAIN_S: Final = 0.02
"""How long one request may take, how long one message is tried, and the pause between two tries."""

THREADS: Final = 8
"""Requests under way at a time: a server answers each, and the waiting is most of it."""

_LOG_WARN: Final = 3


class CannotPublish(RollcallError):
    """The broker did not take the messages; the message says why. How many of them it has is not known."""


class Publisher:
    """Sends messages to one topic, until `close`."""

    def __init__(
        self, name_servers: str, topic: str, group: str = "PID_rollcall", access_key: str = "", secret: str = ""
    ) -> None:
        """`name_servers` is `host:port;host:port`. NativeLibraryMissing when there is no library."""
        library()
        from rocketmq import ffi
        from rocketmq.client import Producer

        self._ffi, self._topic = ffi, topic.encode()
        self._log = tempfile.TemporaryDirectory(prefix="rollcall-rocketmq-")
        with writing_to(self._log.name):
            self._producer = Producer(group, timeout=SEND_TIMEOUT_MS)
            self._handle = ctypes.c_void_p(self._producer._handle)  # noqa: SLF001  # the messages are made here, for speed
            ffi.dll.SetProducerLogLevel(self._handle, _LOG_WARN)
            ffi.dll.SetProducerLogFileNumAndSize(self._handle, LOG_FILES, LOG_FILE_MB)
        self._producer.set_name_server_address(name_servers)
        if access_key:
            self._producer.set_session_credentials(access_key, secret, "ALIYUN")
        self._producer.start()
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
        dll = self._ffi.dll
        for tag, body in messages:
            message = ctypes.c_void_p(dll.CreateMessage(self._topic))
            dll.SetMessageTags(message, tag.encode())
            dll.SetByteMessageBody(message, body, len(body))
            try:
                self._store(message)
            finally:
                dll.DestroyMessage(message)

    def _store(self, message: ctypes.c_void_p) -> None:
        """Send until the server has it. The library gives up at once when another thread is using the connection."""
        result = self._ffi._CSendResult()  # noqa: SLF001  # the binding has no other name for it
        deadline = time.monotonic() + GIVE_UP_S
        while int(self._ffi.dll.SendMessageSync(self._handle, message, ctypes.byref(result))) != 0:
            if time.monotonic() > deadline:
                raise CannotPublish(f"cannot publish to {self._topic.decode()}: {reason(self._log.name)}")
            time.sleep(AGAIN_S)

    def close(self) -> None:
        """Leave."""
        self._threads.shutdown()
        self._producer.shutdown()
        self._log.cleanup()
