"""What we believe about one client, as compact frozen values.

A fleet has a million of these in memory, so a state is one flat tuple, and its channels are one flat tuple of four slots a
channel (see `CHANNEL_SLOTS`). Read `ClientState` first. Everything is a value: a change makes a new state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

UNKNOWN, OFFLINE, ONLINE = 0, 1, 2
STATUS_NAMES = ("unknown", "offline", "online")

FLAPPING = 1
"""Flag: the client is flapping."""
GRACEFUL = 2
"""Flag: the last settled transition was graceful."""

CHANNEL_SLOTS = 4
"""Slots of one channel in `ClientState.channels`: id, connect time, newest tcpclean time, newest disconnect time (or None)."""

MAX_CHANNELS = 32
"""Channel entries kept for one client; the oldest are dropped first."""


class Hold(NamedTuple):
    """A change of observed status that has not settled yet."""

    since_ms: int  # when the engine learned of it: the hold counts from here
    occurred_at_ms: int  # the broker's time of the event that changed it


class ClientState(NamedTuple):
    """Everything kept about one client. `since`, `occurred_at` and `settled_at` belong to the settled status."""

    channels: tuple[object, ...] = ()  # flat, CHANNEL_SLOTS a channel
    observed: int = UNKNOWN  # what the events say right now
    settled: int = UNKNOWN  # what rules see
    since_ms: int = 0
    occurred_at_ms: int = 0
    settled_at_ms: int = 0
    hold: Hold | None = None  # present exactly while observed != settled
    flaps: int = 0  # changes reverted during their hold since the last transition
    changes: tuple[int, ...] = ()  # times of the newest observed changes, ascending, bounded
    flags: int = 0
    takeovers: tuple[int, ...] = ()  # connects while another channel was live, ascending, bounded
    ip: str = ""  # ip:port of the newest connect (of any event while no connect was seen)
    last: int = 0  # history position of the newest entry about this client, 0: none

    def is_quiet_since(self, instant_ms: int) -> bool:
        """Is it settled offline, with nothing heard that is dated after `instant_ms`?"""
        if self.settled != OFFLINE or self.hold is not None or self.settled_at_ms > instant_ms:
            return False
        return all(time is None or time <= instant_ms for channel in channels_of(self) for time in channel[1:])


NEW_CLIENT = ClientState()


class Channel(NamedTuple):
    """One TCP connection, unpacked for reading."""

    id: str
    connect_ms: int | None
    close_ms: int | None
    goodbye_ms: int | None


class Transition(NamedTuple):
    """A change of settled status."""

    client: str
    status: int
    previous: int
    occurred_at_ms: int
    since_ms: int
    settled_at_ms: int
    graceful: bool
    flaps: int
    first_seen: bool


def channels_of(state: ClientState) -> Iterator[Channel]:
    """The channels of a state, unpacked, in the order in which they are kept."""
    flat = state.channels
    for at in range(0, len(flat), CHANNEL_SLOTS):
        yield Channel(*flat[at : at + CHANNEL_SLOTS])  # type: ignore[arg-type]


def split_id(client: str) -> tuple[str, str]:
    """`<GroupID>@@@<DeviceID>` as (group, device); an id without `@@@` has an empty group."""
    group, at, device = client.partition("@@@")
    return (group, device) if at else ("", client)


def address(ip_port: str) -> str:
    """The address without the port: `10.0.0.1:4711` -> `10.0.0.1`, `[::1]:5` -> `::1`; other text stays as it is."""
    if ip_port.startswith("["):
        return ip_port[1:].partition("]")[0]
    return ip_port.partition(":")[0] if ip_port.count(":") == 1 else ip_port
