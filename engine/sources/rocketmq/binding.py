"""Pulling from RocketMQ through the native library that `rocketmq-client-python` 2.0.0 loads. Only a process of its own loads it.

The library ends its process when a name does not resolve, among other things, so the engine never loads it
(`engine.sources.rocketmq.process` does). The Python package wraps the push consumer only; the pull functions of the same library are bound here. Read
`PullConsumer`. Everything in it that asks a server blocks, and lets other threads run meanwhile; one consumer may be
used by several threads at once. What a failed pull was about stands only in the library's own log
(`engine.sources.rocketmq.native_log`).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from engine.core.foreign_text import foreign_text
from engine.sources.rocketmq.native_log import reason, writing_to
from engine.sources.rocketmq.pipe import (
    BROKER_TIMEOUT,
    FOUND,
    MAX_ANSWER_BYTES,
    MAX_REASON_CHARS,
    NO_MATCH,
    ClusterAccess,
    Listed,
    NativeLibraryMissing,
    Pulled,
    QueueName,
)

LOG_FILES: Final = 2
LOG_FILE_MB: Final = 4
_LOG_WARN: Final = 3

GATHER_S: Final = 0.01
"""How long pulls of one queue are joined into one answer: brokers give 32 messages a pull, and each answer has a cost of its own."""

MAX_BROKER_BYTES: Final = 127
"""In the name of a broker. A queue whose broker has a longer name, or one that is not printable text, is not read."""

MAX_LISTED: Final = 1024
"""Queues of one topic that are looked at, however many a name server lists."""

_CHANNEL: Final = b"ALIYUN"  # what the vendor's own clients say; other servers ignore it

NOT_INSTALLED: Final = "the Python package `rocketmq-client-python` is not installed: pip install 'rollcall-presence[rocketmq]', and see docs/sources.md"
NO_LIBRARY: Final = (
    "the native RocketMQ library does not load: run `make rocketmq-native` (`python -m engine.sources.rocketmq.native`) "
    "on Linux x86-64, or install Apache's rocketmq-client-cpp 2.x"
)


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
    """The library, loaded into this process when it is first asked for. NativeLibraryMissing says what to do."""
    global _library
    if _library is None:
        _library = Library()
    return _library


class PullConsumer:
    """One consumer: `start`, then ask for `queues` and `pull`; `close` in the end."""

    def __init__(self, connection: ClusterAccess) -> None:
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

    def queues(self, topic: str) -> Listed:
        """The queues that a topic has now; none also when no name server can be reached, or none knows the topic."""
        found, size = ctypes.POINTER(_Queue)(), ctypes.c_int(0)
        self._library.queues(self._handle, topic.encode(), ctypes.byref(found), ctypes.byref(size))
        try:
            listed = [(bytes(found[i].broker), int(found[i].queue)) for i in range(min(size.value, MAX_LISTED))]
        finally:
            if found:
                self._library.release_queues(found)
        if not listed:
            return Listed([], self.why())
        usable = [(name, queue) for broker, queue in listed if queue >= 0 and (name := _usable(broker))]
        return Listed(
            usable, "" if usable else f"a name server lists only brokers with unusable names: {listed[0][0]!r:.150}"
        )

    def pull(self, name: QueueName, tags: bytes, offset: int, at_most: int) -> Pulled:
        """Messages from `offset` on whose tag is in the expression `tags`; returns at once when there are none."""
        lib = self._library
        queue = _Queue(name.topic.encode(), name.broker.encode(), name.queue)
        result = lib.pull(self._handle, ctypes.byref(queue), tags, offset, at_most)
        try:
            handles = result.messages[: min(result.size, at_most)] if result.size > 0 else []
            bodies = list(map(lib.body, handles))
            following = result.next
            if sum(map(len, bodies)) > MAX_ANSWER_BYTES:
                bodies = _as_fit(bodies)
                handles = handles[: len(bodies)]
                following = lib.offset(handles[-1]) + 1
            return Pulled(
                result.status,
                following,
                result.min,
                result.max,
                bodies,
                list(map(lib.tag, handles)),
                lib.offset(handles[-1]) if handles else -1,
                lib.stored_at(handles[-1]) if handles else -1,
            )
        finally:
            lib.release(result)

    def pull_on(self, name: QueueName, tags: bytes, offset: int, at_most: int) -> Pulled:
        """As `pull`, over several pulls, each from where the one before ended, as long as they find more and for at most `GATHER_S`."""
        until_s = time.monotonic() + GATHER_S
        found = self.pull(name, tags, offset, at_most)
        if found.status == BROKER_TIMEOUT:
            return found._replace(why=self.why())
        size = sum(map(len, found.bodies))
        after = max(offset, found.next_offset, found.last_offset + 1)
        while found.status in (FOUND, NO_MATCH) and after < found.max_offset and time.monotonic() < until_s:
            left = at_most - len(found.bodies)
            if left <= 0 or size >= MAX_ANSWER_BYTES // 2:
                break
            more = self.pull(name, tags, after, left)
            following = max(after, more.next_offset, more.last_offset + 1)
            if more.status not in (FOUND, NO_MATCH) or following == after:
                break  # whatever it is, the next request finds it
            size += sum(map(len, more.bodies))
            after = following
            found = _joined(found, more, after)
        return found

    def why(self) -> str:
        """Why the latest request failed, by the library's own log."""
        return foreign_text(reason(self._log_folder), MAX_REASON_CHARS)

    def close(self) -> None:
        """Leave. Nothing may be asked any more, by any thread."""
        self._library.shutdown(self._handle)
        self._library.destroy(self._handle)


def _usable(broker: bytes) -> str:
    """The name of a broker as text; empty when it cannot be one."""
    name = broker.decode("utf-8", "replace")
    return name if len(broker) <= MAX_BROKER_BYTES and name.isprintable() and "\ufffd" not in name else ""


def _as_fit(bodies: list[bytes]) -> list[bytes]:
    """The first bodies that fit into an answer; at least one, which is cut."""
    size, fitting = 0, []
    for body in bodies:
        size += len(body)
        if size > MAX_ANSWER_BYTES:
            break
        fitting.append(body)
    return fitting or [bodies[0][:MAX_ANSWER_BYTES]]


def _joined(found: Pulled, more: Pulled, after: int) -> Pulled:
    """Two pulls as one."""
    last = more if more.bodies else found
    return Pulled(
        FOUND if found.bodies or more.bodies else NO_MATCH,
        after,
        more.min_offset,
        more.max_offset,
        found.bodies + more.bodies,
        found.tags + more.tags,
        last.last_offset,
        last.last_stored_at_ms,
    )
