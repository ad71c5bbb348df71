"""Pulling from RocketMQ through the native library that `rocketmq-client-python` 2.0.0 loads.

The Python package wraps the push consumer only; the pull functions of the same library are bound here. Read
`PullConsumer`. Everything in it that asks a server blocks, and lets other threads run meanwhile; one consumer may be
used by several threads at once. What a failed pull was about stands only in the library's own log
(`engine.sources.rocketmq.native_log`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from engine.errors import RollcallError
from engine.sources.rocketmq.native_log import writing_to

FOUND: Final = 0
NO_NEW: Final = 1
NO_MATCH: Final = 2
OFFSET_ILLEGAL: Final = 3
BROKER_TIMEOUT: Final = 4
"""What a pull answers. The last one stands for everything that went wrong."""

LOG_FILES: Final = 2
LOG_FILE_MB: Final = 4
_LOG_WARN: Final = 3

_CHANNEL: Final = b"ALIYUN"  # what the vendor's own clients say; other servers ignore it

NOT_INSTALLED: Final = "the Python package `rocketmq-client-python` is not installed: pip install 'rollcall-presence[rocketmq]', and see docs/sources.md"
NO_LIBRARY: Final = (
    "the native RocketMQ library does not load: run `make rocketmq-native` (`python -m engine.sources.rocketmq.native`) "
    "on Linux x86-64, or install Apache's rocketmq-client-cpp 2.x"
)


class NativeLibraryMissing(RollcallError):
    """The RocketMQ client is not installed, or its native library does not load; the message says what to do."""


class _Queue(ctypes.Structure):
    _fields_ = (("topic", ctypes.c_char * 512), ("broker", ctypes.c_char * 256), ("queue", ctypes.c_int))


class _Result(ctypes.Structure):
    _fields_ = (
        ("status", ctypes.c_int),
        ("next", ctypes.c_longlong),
        ("min", ctypes.c_longlong),
        ("max", ctypes.c_longlong),
        ("messages", ctypes.POINTER(ctypes.c_void_p)),
        ("size", ctypes.c_int),
        ("data", ctypes.c_void_p),
    )


class QueueName(NamedTuple):
    """One queue of a topic on one broker; the topic as it is on the wire, with its namespace."""

    topic: str
    broker: str
    queue: int

    def __str__(self) -> str:
        """`topic@broker:3`, as people and positions name it."""
        return f"{self.topic}@{self.broker}:{self.queue}"


class Pulled(NamedTuple):
    """What one pull found. `next_offset`, `min_offset` and `max_offset` mean nothing when it timed out.

    `bodies` and `tags` are parallel. `last_offset` and `last_stored_at_ms` (the broker's clock) are those of the last
    message, −1 without one.
    """

    status: int
    next_offset: int
    min_offset: int
    max_offset: int
    bodies: list[bytes]
    tags: list[bytes]
    last_offset: int
    last_stored_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a cluster: name servers or the address of a list of them, and who asks."""

    group: str
    name_servers: str = ""  # `host:port;host:port`
    name_server_domain: str = ""
    access_key: str = ""
    secret: str = ""
    log_folder: str = ""  # where the library writes its own log


class Library:
    """The functions of the loaded library, typed. One a process."""

    def __init__(self) -> None:
        """Load it.

        Raises:
            NativeLibraryMissing: it cannot be loaded; says what to do.
        """
        dll = _load()
        consumer, text, number, wide = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_longlong
        queues = ctypes.POINTER(_Queue)

        def bind(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
            function = getattr(dll, name)
            function.restype, function.argtypes = result, arguments
            return function  # type: ignore[no-any-return]

        self.create = bind("CreatePullConsumer", consumer, text)
        self.set_name_servers = bind("SetPullConsumerNameServerAddress", number, consumer, text)
        self.set_name_server_domain = bind("SetPullConsumerNameServerDomain", number, consumer, text)
        self.set_credentials = bind("SetPullConsumerSessionCredentials", number, consumer, text, text, text)
        self.set_log_size = bind("SetPullConsumerLogFileNumAndSize", number, consumer, number, ctypes.c_long)
        self.set_log_level = bind("SetPullConsumerLogLevel", number, consumer, number)
        self.start = bind("StartPullConsumer", number, consumer)
        self.queues = bind(
            "FetchSubscriptionMessageQueues", number, consumer, text, ctypes.POINTER(queues), ctypes.POINTER(number)
        )
        self.release_queues = bind("ReleaseSubscriptionMessageQueue", number, queues)
        self.pull = bind("Pull", _Result, consumer, queues, text, wide, number)
        self.shutdown = bind("ShutdownPullConsumer", number, consumer)
        self.destroy = bind("DestroyPullConsumer", number, consumer)
        # Called for every message and done at once: these keep the interpreter's lock, which giving back and taking
        # again would cost more than they do.
        quick = ctypes.PyDLL(dll._name)  # noqa: SLF001  # ctypes has no other word for it
        self.body = _quick(quick, "GetMessageBody", text)
        self.tag = _quick(quick, "GetMessageTags", text)
        self.offset = _quick(quick, "GetMessageQueueOffset", wide)
        self.stored_at = _quick(quick, "GetMessageStoreTimestamp", wide)
        self.release = _quick(quick, "ReleasePullResult", number, _Result)


def _load() -> Any:
    try:
        import rocketmq
    except ImportError as error:
        raise NativeLibraryMissing(NOT_INSTALLED) from error
    try:
        from rocketmq.ffi import dll
    except (ImportError, AttributeError, OSError, NotImplementedError) as error:
        raise NativeLibraryMissing(f"{NO_LIBRARY} ({error})") from error
    if not hasattr(dll, "CreatePullConsumer"):
        raise NativeLibraryMissing(f"{NO_LIBRARY} ({rocketmq.__file__} has loaded one without the pull consumer)")
    return dll


def _quick(library: ctypes.PyDLL, name: str, result: Any, argument: Any = ctypes.c_void_p) -> Callable[..., Any]:
    function = getattr(library, name)
    function.restype, function.argtypes = result, [argument]
    return function  # type: ignore[no-any-return]


_library: Library | None = None


def library() -> Library:
    """The library, loaded when it is first asked for. NativeLibraryMissing says what to do."""
    global _library
    if _library is None:
        _library = Library()
    return _library


class PullConsumer:
    """One consumer: `start`, then ask for `queues` and `pull`; `close` in the end."""

    def __init__(self, connection: Connection) -> None:
        """Make it; nothing is asked of a server yet. NativeLibraryMissing when there is no library."""
        self._library = lib = library()
        self._handle = lib.create(connection.group.encode())
        if connection.name_server_domain:
            lib.set_name_server_domain(self._handle, connection.name_server_domain.encode())
        else:
            lib.set_name_servers(self._handle, connection.name_servers.encode())
        if connection.access_key:
            lib.set_credentials(self._handle, connection.access_key.encode(), connection.secret.encode(), _CHANNEL)
        self._log_folder = connection.log_folder
        with self._home():
            lib.set_log_level(self._handle, _LOG_WARN)  # the first to be called opens the log
            lib.set_log_size(self._handle, LOG_FILES, LOG_FILE_MB)

    def start(self) -> bool:
        """Begin; whether it could. A server that is not there is no reason why not."""
        return bool(self._library.start(self._handle) == 0)

    def _home(self) -> AbstractContextManager[None]:
        return writing_to(self._log_folder) if self._log_folder else nullcontext()

    def queues(self, topic: str) -> list[QueueName]:
        """The queues that a topic has now; none also when no name server can be reached, or none knows the topic."""
        found, size = ctypes.POINTER(_Queue)(), ctypes.c_int(0)
        self._library.queues(self._handle, topic.encode(), ctypes.byref(found), ctypes.byref(size))
        try:
            return [QueueName(topic, found[i].broker.decode(), found[i].queue) for i in range(size.value)]
        finally:
            if found:
                self._library.release_queues(found)

    def pull(self, name: QueueName, tags: bytes, offset: int, at_most: int) -> Pulled:
        """Messages from `offset` on whose tag is in the expression `tags`; returns at once when there are none."""
        lib = self._library
        queue = _Queue(name.topic.encode(), name.broker.encode(), name.queue)
        result = lib.pull(self._handle, ctypes.byref(queue), tags, offset, at_most)
        try:
            handles = result.messages[: result.size] if result.size > 0 else []
            return Pulled(
                result.status,
                result.next,
                result.min,
                result.max,
                list(map(lib.body, handles)),
                list(map(lib.tag, handles)),
                lib.offset(handles[-1]) if handles else -1,
                lib.stored_at(handles[-1]) if handles else -1,
            )
        finally:
            lib.release(result)

    def close(self) -> None:
        """Leave. Nothing may be asked any more, by any thread."""
        self._library.shutdown(self._handle)
        self._library.destroy(self._handle)
