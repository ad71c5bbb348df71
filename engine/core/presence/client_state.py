"""What we believe about one client, as compact immutable values.

A fleet has a million of these in memory, and an event makes a new one of each. So instants are plain numbers with `NEVER`
for what has not happened, and there is no object for each small thing. Read `ClientState` first. Nothing here is changed
after it was made: a change makes a new value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mypy_extensions import mypyc_attr

UNKNOWN: Final = 0
OFFLINE: Final = 1
ONLINE: Final = 2
STATUS_NAMES: Final = ("unknown", "offline", "online")

FLAPPING: Final = 1
"""Flag: the client is flapping."""
GRACEFUL: Final = 2
"""Flag: the last settled transition was graceful."""
UNVERIFIED: Final = 4
"""Flag: the last question about the client failed or stayed unknown."""
CONFIRMED: Final = 8
"""Flag: two answers of zero say that it is offline, whatever the feed may still hold."""

UNHEARD: Final = 16
"""Flag: the settled status rests on an answer alone, no event ever named the client."""
FIRST_HEARD: Final = 32
"""Flag: the settled status is the first that an event brought about."""

LAST_FLAPS: Final = 8
"""From this bit of the flags on: how many flaps the last settled transition had."""

NEVER: Final = -(1 << 60)
"""The instant of what has not happened: before every other, by more than any duration."""

KEEP: Final = -(1 << 61)
"""In `evolve`: this field stays as it is. A number of its own, because a compiled call with numbers makes no objects."""

MAX_CHANNELS: Final = 32
"""Channels kept for one client; the oldest are dropped first."""


@mypyc_attr(acyclic=True)
class Channel:
    """One TCP connection of a client: when it was connected and closed, and when it said goodbye (epoch ms, or NEVER)."""

    __slots__ = ("close_ms", "connect_ms", "goodbye_ms", "id")

    def __init__(self, id: str, connect_ms: int, close_ms: int, goodbye_ms: int) -> None:
        self.id: Final = id
        self.connect_ms: Final = connect_ms
        self.close_ms: Final = close_ms  # the newest tcpclean
        self.goodbye_ms: Final = goodbye_ms  # the newest disconnect

    def as_row(self) -> tuple[Any, ...]:
        """Its fields in order, None for NEVER: as they are stored, compared and shown."""
        return (self.id, _known(self.connect_ms), _known(self.close_ms), _known(self.goodbye_ms))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.as_row() == other.as_row()

    def __hash__(self) -> int:
        return hash(self.as_row())

    def __repr__(self) -> str:
        return f"Channel{self.as_row()}"


Channels = tuple[Channel, ...]


@mypyc_attr(acyclic=True)
class Answered:
    """What the synchronous query has said about a client so far. Instants are epoch ms, NEVER for what has not happened.

    `undo_*` is what a correction to online, not confirmed yet, took the place of: the observed status, its hold or its
    settled instants, and the flaps.
    """

    __slots__ = (
        "anonymous_ms",
        "asked_ms",
        "connections",
        "undo_flaps",
        "undo_observed",
        "undo_occurred_ms",
        "undo_since_ms",
        "verified_ms",
        "void_ms",
        "zero_ms",
    )

    def __init__(
        self,
        asked_ms: int = NEVER,
        verified_ms: int = NEVER,
        connections: int = 0,
        void_ms: int = NEVER,
        zero_ms: int = NEVER,
        anonymous_ms: int = NEVER,
        undo_since_ms: int = NEVER,
        undo_occurred_ms: int = NEVER,
        undo_flaps: int = 0,
        undo_observed: int = UNKNOWN,
    ) -> None:
        self.asked_ms: Final = asked_ms  # the newest question that was answered in any way
        self.verified_ms: Final = verified_ms  # the newest whose answer is what is believed
        self.connections: Final = connections  # how many there were then; 0 also when events have changed it since
        self.void_ms: Final = void_ms  # channels connected at or before are closed: two answers of zero said so
        self.zero_ms: Final = zero_ms  # a first zero that waits for a second
        self.anonymous_ms: Final = anonymous_ms  # a channel is live that no event named, connected at this instant
        self.undo_since_ms: Final = undo_since_ms
        self.undo_occurred_ms: Final = undo_occurred_ms
        self.undo_flaps: Final = undo_flaps
        self.undo_observed: Final = undo_observed

    def evolve(
        self,
        *,
        asked_ms: int = KEEP,
        verified_ms: int = KEEP,
        connections: int = KEEP,
        void_ms: int = KEEP,
        zero_ms: int = KEEP,
        anonymous_ms: int = KEEP,
        undo_since_ms: int = KEEP,
        undo_occurred_ms: int = KEEP,
        undo_flaps: int = KEEP,
        undo_observed: int = KEEP,
    ) -> Answered:
        """The same with other values of the fields that are named."""
        return Answered(
            asked_ms=self.asked_ms if asked_ms == KEEP else asked_ms,
            verified_ms=self.verified_ms if verified_ms == KEEP else verified_ms,
            connections=self.connections if connections == KEEP else connections,
            void_ms=self.void_ms if void_ms == KEEP else void_ms,
            zero_ms=self.zero_ms if zero_ms == KEEP else zero_ms,
            anonymous_ms=self.anonymous_ms if anonymous_ms == KEEP else anonymous_ms,
            undo_since_ms=self.undo_since_ms if undo_since_ms == KEEP else undo_since_ms,
            undo_occurred_ms=self.undo_occurred_ms if undo_occurred_ms == KEEP else undo_occurred_ms,
            undo_flaps=self.undo_flaps if undo_flaps == KEEP else undo_flaps,
            undo_observed=self.undo_observed if undo_observed == KEEP else undo_observed,
        )

    def without_undo(self) -> Answered:
        """The same, with nothing that a correction took the place of: it is confirmed, undone or overtaken by events."""
        return self.evolve(undo_since_ms=NEVER, undo_occurred_ms=NEVER, undo_flaps=0, undo_observed=UNKNOWN)

    @property
    def meddles(self) -> bool:
        """Does it bear on how events are read?"""
        return self.void_ms != NEVER or self.zero_ms != NEVER or self.anonymous_ms != NEVER or self.connections > 1

    @property
    def is_unconfirmed(self) -> bool:
        """Is it to be asked again what it said last?"""
        return self.zero_ms != NEVER or self.undo_since_ms != NEVER

    def as_row(self) -> tuple[Any, ...]:
        """Its fields in order, as they are stored and compared."""
        return (
            self.asked_ms, self.verified_ms, self.connections, self.void_ms, self.zero_ms, self.anonymous_ms,
            self.undo_since_ms, self.undo_occurred_ms, self.undo_flaps, self.undo_observed,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answered) and self.as_row() == other.as_row()

    def __hash__(self) -> int:
        return hash(self.as_row())

    def __repr__(self) -> str:
        return f"Answered{self.as_row()}"


NOT_ASKED: Final = Answered()
KEEP_ANSWER: Final = Answered()
"""`KEEP` for the field `answered`, where None is a value."""


@mypyc_attr(acyclic=True)
class ClientState:
    """Everything kept about one client. `since`, `occurred_at` and `settled_at` belong to the settled status."""

    __slots__ = (
        "answered",
        "changes",
        "channels",
        "client",
        "flags",
        "flaps",
        "heard_ms",
        "hold_occurred_at_ms",
        "hold_since_ms",
        "ip",
        "last",
        "observed",
        "occurred_at_ms",
        "settled",
        "settled_at_ms",
        "since_ms",
        "takeovers",
    )

    def __init__(
        self,
        channels: Channels = (),
        observed: int = UNKNOWN,
        settled: int = UNKNOWN,
        since_ms: int = 0,
        occurred_at_ms: int = 0,
        settled_at_ms: int = 0,
        hold_since_ms: int = NEVER,
        hold_occurred_at_ms: int = NEVER,
        flaps: int = 0,
        changes: tuple[int, ...] = (),
        flags: int = 0,
        takeovers: tuple[int, ...] = (),
        ip: str = "",
        last: int = 0,
        client: str = "",
        heard_ms: int = NEVER,
        answered: Answered | None = None,
    ) -> None:
        self.channels: Final = channels
        self.observed: Final = observed  # what the events say right now
        self.settled: Final = settled  # what rules see
        self.since_ms: Final = since_ms
        self.occurred_at_ms: Final = occurred_at_ms
        self.settled_at_ms: Final = settled_at_ms
        # A change of observed status that has not settled yet: when the engine learned of it (the hold counts from
        # here), and the broker's time of the event. NEVER exactly while observed == settled.
        self.hold_since_ms: Final = hold_since_ms
        self.hold_occurred_at_ms: Final = hold_occurred_at_ms
        self.flaps: Final = flaps  # changes reverted during their hold since the last transition
        self.changes: Final = changes  # times of the newest observed changes, ascending, bounded
        self.flags: Final = flags
        self.takeovers: Final = takeovers  # connects while another channel was live, ascending, bounded
        self.ip: Final = ip  # ip:port of the newest connect (of any event while no connect was seen)
        self.last: Final = last  # history position of the newest entry about this client, 0: none
        self.client: Final = client  # its id: one text for everything that is kept about it
        self.heard_ms: Final = heard_ms  # the latest instant at which an event about it occurred or was learned of
        self.answered: Final = answered  # what was asked and answered, None: nothing ever was

    def evolve(
        self,
        *,
        last: int,
        channels: Channels | None = None,
        observed: int = KEEP,
        settled: int = KEEP,
        since_ms: int = KEEP,
        occurred_at_ms: int = KEEP,
        settled_at_ms: int = KEEP,
        hold_since_ms: int = KEEP,
        hold_occurred_at_ms: int = KEEP,
        flaps: int = KEEP,
        changes: tuple[int, ...] | None = None,
        flags: int = KEEP,
        takeovers: tuple[int, ...] | None = None,
        ip: str | None = None,
        heard_ms: int = KEEP,
        answered: Answered | None = KEEP_ANSWER,
    ) -> ClientState:
        """The same client with other values of the fields that are named; `last`: see the field."""
        return ClientState(
            channels=self.channels if channels is None else channels,
            observed=self.observed if observed == KEEP else observed,
            settled=self.settled if settled == KEEP else settled,
            since_ms=self.since_ms if since_ms == KEEP else since_ms,
            occurred_at_ms=self.occurred_at_ms if occurred_at_ms == KEEP else occurred_at_ms,
            settled_at_ms=self.settled_at_ms if settled_at_ms == KEEP else settled_at_ms,
            hold_since_ms=self.hold_since_ms if hold_since_ms == KEEP else hold_since_ms,
            hold_occurred_at_ms=self.hold_occurred_at_ms if hold_occurred_at_ms == KEEP else hold_occurred_at_ms,
            flaps=self.flaps if flaps == KEEP else flaps,
            changes=self.changes if changes is None else changes,
            flags=self.flags if flags == KEEP else flags,
            takeovers=self.takeovers if takeovers is None else takeovers,
            ip=self.ip if ip is None else ip,
            last=last,
            client=self.client,
            heard_ms=self.heard_ms if heard_ms == KEEP else heard_ms,
            answered=self.answered if answered is KEEP_ANSWER else answered,
        )

    @property
    def verified_ms(self) -> int:
        """When the newest question was asked whose answer is what is believed; NEVER: there was none."""
        return NEVER if self.answered is None else self.answered.verified_ms

    @property
    def last_flaps(self) -> int:
        """How many changes were reverted during their hold before the last settled transition."""
        return self.flags >> LAST_FLAPS

    @property
    def on_hold(self) -> bool:
        """Has the observed status changed without having settled yet?"""
        return self.hold_since_ms != NEVER

    def is_quiet_since(self, instant_ms: int) -> bool:
        """Is it settled offline, with nothing heard that is dated after `instant_ms`?"""
        if self.settled != OFFLINE or self.on_hold or self.settled_at_ms > instant_ms:
            return False
        return all(
            channel.connect_ms <= instant_ms and channel.close_ms <= instant_ms and channel.goodbye_ms <= instant_ms
            for channel in self.channels
        )

    def as_row(self) -> tuple[Any, ...]:
        """Its fields but the client's id as plain values, as they are stored; `state_of_row` is the way back."""
        hold = (self.hold_since_ms, self.hold_occurred_at_ms) if self.on_hold else None
        return (
            [value for channel in self.channels for value in channel.as_row()],
            self.observed,
            self.settled,
            self.since_ms,
            self.occurred_at_ms,
            self.settled_at_ms,
            hold,
            self.flaps,
            self.changes,
            self.flags,
            self.takeovers,
            self.ip,
            self.last,
            _known(self.heard_ms),
            None if self.answered is None else self.answered.as_row(),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientState) and self.as_row() == other.as_row()

    def __hash__(self) -> int:
        return hash((self.channels, self.last))

    def __repr__(self) -> str:
        return f"ClientState{self.as_row()}"


NEW_CLIENT: Final = ClientState()


def state_of_row(row: Sequence[Any], client: str = "") -> ClientState:
    """The state of `client` whose `as_row` this is."""
    flat, observed, settled, since, occurred, settled_at, hold, flaps, changes, flags, takeovers, ip, last = row[:13]
    # A row of an earlier version has no time of the last event: its channels have.
    heard, answered = row[13:] or (max([value for value in flat if isinstance(value, int)], default=0), None)
    hold_since, hold_occurred = (NEVER, NEVER) if hold is None else hold
    channels = tuple(
        [
            Channel(flat[at], _instant(flat[at + 1]), _instant(flat[at + 2]), _instant(flat[at + 3]))
            for at in range(0, len(flat), 4)
        ]
    )
    return ClientState(
        channels=channels,
        observed=observed,
        settled=settled,
        since_ms=since,
        occurred_at_ms=occurred,
        settled_at_ms=settled_at,
        hold_since_ms=hold_since,
        hold_occurred_at_ms=hold_occurred,
        flaps=flaps,
        changes=tuple(changes),
        flags=flags,
        takeovers=tuple(takeovers),
        ip=ip,
        last=last,
        client=client,
        heard_ms=_instant(heard),
        answered=None if answered is None else Answered(*answered),
    )


def _known(instant_ms: int) -> int | None:
    return None if instant_ms == NEVER else instant_ms


def _instant(known_ms: int | None) -> int:
    return NEVER if known_ms is None else known_ms


@mypyc_attr(acyclic=True)
class Transition:
    """A change of settled status."""

    __slots__ = (
        "channels",
        "client",
        "first_seen",
        "flaps",
        "graceful",
        "occurred_at_ms",
        "previous",
        "settled_at_ms",
        "since_ms",
        "status",
    )

    def __init__(
        self,
        *,
        client: str,
        status: int,
        previous: int,
        occurred_at_ms: int,
        since_ms: int,
        settled_at_ms: int,
        graceful: bool,
        flaps: int,
        first_seen: bool,
        channels: Channels = (),
    ) -> None:
        self.channels: Final = channels  # what was known when it settled; not stored with it
        self.client: Final = client
        self.status: Final = status
        self.previous: Final = previous
        self.occurred_at_ms: Final = occurred_at_ms
        self.since_ms: Final = since_ms
        self.settled_at_ms: Final = settled_at_ms
        self.graceful: Final = graceful
        self.flaps: Final = flaps
        self.first_seen: Final = first_seen

    def as_row(self) -> tuple[Any, ...]:
        """Its fields in order, as they are stored with an alert."""
        return (
            self.client, self.status, self.previous, self.occurred_at_ms, self.since_ms, self.settled_at_ms,
            self.graceful, self.flaps, self.first_seen,
        )  # fmt: skip

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Transition:
        """The transition whose `as_row` this is."""
        client, status, previous, occurred, since, settled_at, graceful, flaps, first_seen = row
        return Transition(
            client=client,
            status=status,
            previous=previous,
            occurred_at_ms=occurred,
            since_ms=since,
            settled_at_ms=settled_at,
            graceful=graceful,
            flaps=flaps,
            first_seen=first_seen,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transition) and self.as_row() == other.as_row()

    def __hash__(self) -> int:
        return hash(self.as_row())

    def __repr__(self) -> str:
        return f"Transition{self.as_row()}"


def settled_just_now(state: ClientState) -> Transition:
    """`last_transition` of a client that has settled in this very step, with what was known then."""
    return last_transition(state, state.channels)


def last_transition(state: ClientState, channels: Channels = ()) -> Transition:
    """The transition to a client's settled status, as its state still shows it; what was before is not kept."""
    return Transition(
        client=state.client,
        status=state.settled,
        previous=UNKNOWN,
        occurred_at_ms=state.occurred_at_ms,
        since_ms=state.since_ms,
        settled_at_ms=state.settled_at_ms,
        graceful=bool(state.flags & GRACEFUL),
        flaps=state.flaps,
        first_seen=False,
        channels=channels,
    )


def split_id(client: str) -> tuple[str, str]:
    """`<GroupID>@@@<DeviceID>` as (group, device); an id without `@@@` has an empty group."""
    group, at, device = client.partition("@@@")
    return (group, device) if at else ("", client)
