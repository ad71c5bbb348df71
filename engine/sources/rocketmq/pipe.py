"""What the engine and a process of the native RocketMQ client say to each other, over the child's standard input and output.

Frames (`engine.core.frames`) of MessagePack. The first frame to the child is a `ClientSetup` (it holds the secrets: they stand on
no command line and in no environment), every other one a request with a number, which is answered by a frame with the same number.
In between the child says how it is (`Status`), also when nothing has changed: a child that says nothing for long is ended.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from engine.errors import RollcallError

FOUND: Final = 0
NO_NEW: Final = 1
NO_MATCH: Final = 2
OFFSET_ILLEGAL: Final = 3
BROKER_TIMEOUT: Final = 4
"""What a pull answers. The last one stands for everything that went wrong."""

MAX_FRAME_BYTES: Final = 96 * 2**20
"""Neither side sends longer frames: one that is longer is not a frame, and the stream cannot be read any more."""

MAX_ANSWER_BYTES: Final = 8 * 2**20
"""Bodies in one answer together; what is beyond is pulled again. One that is longer than this comes cut, alone."""

MAX_REASON_CHARS: Final = 500
"""Of a sentence that holds what a server or a library said."""

RENEW: Final = 75
"""The exit code of a child whose name servers have other addresses now: the library cannot be given new ones."""

MISSING: Final = 78
"""The exit code of a child that has no native library."""


class NativeLibraryMissing(RollcallError):
    """The RocketMQ client is not installed, or its native library does not load; the message says what to do."""


class QueueName(NamedTuple):
    """One queue of a topic on one broker; the topic as it is on the wire, with its namespace."""

    topic: str
    broker: str
    queue: int

    def __str__(self) -> str:
        """`topic@broker:3`, as people and positions name it."""
        return f"{self.topic}@{self.broker}:{self.queue}"


class Pulled(NamedTuple):
    """What pulling found. `next_offset`, `min_offset` and `max_offset` mean nothing when it timed out; then `why` says why.

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
    why: str = ""


class Listed(NamedTuple):
    """The queues of a topic, as (broker, number); when there are none, `why` says why."""

    queues: list[tuple[str, int]]
    why: str = ""


class Stored(NamedTuple):
    """Whether the server has confirmed a message; when it has not, `why` says why. `is_begun`: was it sent at all?"""

    confirmed: bool
    why: str = ""
    is_begun: bool = True


class ClusterAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a cluster: name servers or the address of a list of them, and who asks."""

    group: str
    name_servers: str = ""  # `host:port;host:port`
    name_server_domain: str = ""
    access_key: str = ""
    secret: str = ""
    log_folder: str = ""  # where the library writes its own log


class ClientSetup(msgspec.Struct, array_like=True):
    """The first frame: whom to connect to, and what to log. `send_timeout_ms`: a producer; None: a consumer."""

    connection: ClusterAccess
    send_timeout_ms: int | None = None
    log_level: str = "info"


class PullRequest(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Messages of one queue from an offset on."""

    id: int
    topic: str
    broker: str
    queue: int
    tags: bytes
    offset: int
    at_most: int


class ListRequest(msgspec.Struct, array_like=True, tag=2, gc=False):
    """The queues of a topic."""

    id: int
    topic: str


class StoreRequest(msgspec.Struct, array_like=True, tag=3, gc=False):
    """One message to be stored. `until_s`: it is not begun later than this (seconds of `engine.clock.running_ms`); None: no matter."""

    id: int
    topic: str
    tag: str
    body: bytes
    keys: str
    properties: dict[str, str]
    until_s: float | None = None


Request = PullRequest | ListRequest | StoreRequest


class PullAnswer(msgspec.Struct, array_like=True, tag=1, gc=False):
    """To a `PullRequest`."""

    id: int
    found: Pulled


class ListAnswer(msgspec.Struct, array_like=True, tag=2, gc=False):
    """To a `ListRequest`."""

    id: int
    found: Listed


class StoreAnswer(msgspec.Struct, array_like=True, tag=3, gc=False):
    """To a `StoreRequest`."""

    id: int
    found: Stored


class Status(msgspec.Struct, array_like=True, tag=0, gc=False):
    """How the child is: why it has not begun yet (empty: it has), and which names it goes on without."""

    trouble: str
    unresolved: str


Answer = PullAnswer | ListAnswer | StoreAnswer | Status
