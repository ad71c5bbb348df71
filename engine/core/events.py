"""Lifecycle events, as values.

`occurred_at_ms` is the broker's clock, `received_at_ms` the engine's; they never mix.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CONNECT: Final = "connect"
DISCONNECT: Final = "disconnect"
TCPCLEAN: Final = "tcpclean"
EVENT_TYPES: Final = frozenset({CONNECT, DISCONNECT, TCPCLEAN})


class LifecycleEvent(NamedTuple):
    """One announcement of the broker about one channel of one client, checked and normalized."""

    client: str
    type: str  # connect, disconnect or tcpclean
    occurred_at_ms: int
    channel: str
    ip: str  # `ip:port` as the broker wrote it, empty when it did not


EventFields = tuple[str, str, int, str, str]
"""The fields of a `LifecycleEvent`, in their order."""


class Rejection(NamedTuple):
    """An event that cannot be accepted. `line` counts from 1 inside what was handed over."""

    line: int
    reason: str
    raw: bytes
