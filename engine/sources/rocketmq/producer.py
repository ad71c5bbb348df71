"""A producer of the native RocketMQ library: one message at a time, each answered by the server before the call returns.

What publishes events (`engine.sources.rocketmq.publisher`) and what sends commands to devices (`engine.actions`, which is
given this by the one that puts the parts together) have in common. Everything here blocks, and lets other threads run.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping
from typing import Final

from engine.errors import RollcallError
from engine.sources.rocketmq.binding import LOG_FILE_MB, LOG_FILES, library
from engine.sources.rocketmq.native_log import reason, writing_to

SEND_TIMEOUT_MS: Final = 3_000
"""How long one request may take when nothing else is said; the library repeats one that fails."""

_LOG_WARN: Final = 3


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
    ) -> None:
        """`name_servers` is `host:port;host:port`, or with `is_domain` the address of a list of them.

        `log_folder` is where the library writes its log; a process has one, so that of its source, if it has one.

        Raises:
            NativeLibraryMissing: there is no library; says what to do.
        """
        library()
        from rocketmq import ffi
        from rocketmq.client import Producer as Wrapped

        self._ffi = ffi
        self._own = None if log_folder else tempfile.TemporaryDirectory(prefix="rollcall-rocketmq-")
        self._log = log_folder or (self._own.name if self._own else "")
        with writing_to(self._log):
            self._producer = Wrapped(group, timeout=timeout_ms)
            self._handle = ctypes.c_void_p(self._producer._handle)  # noqa: SLF001  # the messages are made here, for speed
            ffi.dll.SetProducerLogLevel(self._handle, _LOG_WARN)
            ffi.dll.SetProducerLogFileNumAndSize(self._handle, LOG_FILES, LOG_FILE_MB)
        if is_domain:
            self._producer.set_name_server_domain(name_servers)
        else:
            self._producer.set_name_server_address(name_servers)
        if access_key:
            self._producer.set_session_credentials(access_key, secret, "ALIYUN")
        self._producer.start()

    def store(
        self, topic: str, tag: str, body: bytes, *, keys: str = "", properties: Mapping[str, str] | None = None
    ) -> bool:
        """Whether the server has it now. The library also gives up at once when another thread is using the connection."""
        dll = self._ffi.dll
        message = ctypes.c_void_p(dll.CreateMessage(topic.encode()))
        try:
            dll.SetMessageTags(message, tag.encode())
            dll.SetByteMessageBody(message, body, len(body))
            if keys:
                dll.SetMessageKeys(message, keys.encode())
            for name, value in (properties or {}).items():
                dll.SetMessageProperty(message, name.encode(), value.encode())
            result = self._ffi._CSendResult()  # noqa: SLF001  # the binding has no other name for it
            return int(dll.SendMessageSync(self._handle, message, ctypes.byref(result))) == 0
        finally:
            dll.DestroyMessage(message)

    def send(self, topic: str, tag: str, body: bytes, *, keys: str, properties: Mapping[str, str]) -> None:
        """As `store`. Raises NotStored with the reason when the server has not confirmed it."""
        if not self.store(topic, tag, body, keys=keys, properties=properties):
            raise NotStored(self.why())

    def why(self) -> str:
        """Why the last message was not stored, by the library's own log."""
        return reason(self._log)

    def close(self) -> None:
        """Leave."""
        self._producer.shutdown()
        if self._own is not None:
            self._own.cleanup()
