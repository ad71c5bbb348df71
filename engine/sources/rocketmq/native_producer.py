"""A producer of the native RocketMQ library: one message at a time, each answered by the server before the call returns.

Only a process of its own uses it, see `engine.sources.rocketmq.binding`; the rest of the engine has
`engine.sources.rocketmq.producer`. Everything here blocks, and lets other threads run.
"""

from __future__ import annotations

import ctypes
from typing import Final

from engine.clock import running_ms
from engine.core.foreign_text import foreign_text
from engine.sources.rocketmq.binding import LOG_FILE_MB, LOG_FILES, library
from engine.sources.rocketmq.native_log import reason, writing_to
from engine.sources.rocketmq.pipe import MAX_REASON_CHARS, ClusterAccess, Stored, StoreRequest

_LOG_WARN: Final = 3


class NativeProducer:
    """Stores messages. May be used by several threads, one call at a time each."""

    def __init__(self, connection: ClusterAccess, timeout_ms: int) -> None:
        """`timeout_ms`: how long one request may take; the library repeats one that fails.

        Raises:
            NativeLibraryMissing: there is no library; says what to do.
        """
        library()
        from rocketmq import ffi
        from rocketmq.client import Producer as Wrapped

        self._ffi = ffi
        self._log = connection.log_folder
        with writing_to(self._log):
            self._producer = Wrapped(connection.group, timeout=timeout_ms)
            self._handle = ctypes.c_void_p(self._producer._handle)  # noqa: SLF001  # the messages are made here, for speed
            ffi.dll.SetProducerLogLevel(self._handle, _LOG_WARN)
            ffi.dll.SetProducerLogFileNumAndSize(self._handle, LOG_FILES, LOG_FILE_MB)
        self._producer.set_name_server_address(connection.name_servers)
        if connection.access_key:
            self._producer.set_session_credentials(connection.access_key, connection.secret, "ALIYUN")
        self._producer.start()

    def store(self, asked: StoreRequest) -> Stored:
        """Whether the server has it now. The library also gives up at once when another thread is using the connection."""
        dll = self._ffi.dll
        message = ctypes.c_void_p(dll.CreateMessage(asked.topic.encode()))
        try:
            dll.SetMessageTags(message, asked.tag.encode())
            dll.SetByteMessageBody(message, asked.body, len(asked.body))
            if asked.keys:
                dll.SetMessageKeys(message, asked.keys.encode())
            for name, value in asked.properties.items():
                dll.SetMessageProperty(message, name.encode(), value.encode())
            if asked.until_s is not None and running_ms() / 1000 >= asked.until_s:
                return Stored(False, "another replica may be the one that sends", is_begun=False)
            result = self._ffi._CSendResult()  # noqa: SLF001  # the binding has no other name for it
            done = int(dll.SendMessageSync(self._handle, message, ctypes.byref(result))) == 0
        finally:
            dll.DestroyMessage(message)
        return Stored(True) if done else Stored(False, foreign_text(reason(self._log), MAX_REASON_CHARS))
