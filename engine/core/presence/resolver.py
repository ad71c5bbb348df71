"""Observed status as a function of the SET of events of one client, whatever their order.

The theory, with `skew` the allowed difference between broker clocks and `newest` the largest connect time seen:

- a channel is *closed* when a tcpclean of it was seen that is dated no more than `skew` before its own connect;
- a channel is *live* when its connect was seen, it is not closed, and its connect time is at least `newest - skew`;
- the client is online when a channel is live, else offline when any connect or tcpclean was seen, else unknown;
- a disconnect never changes the status: it marks its channel as closed on purpose, which makes an offline graceful.

Because each rule asks only for maxima and membership, any order, duplication or batching of the same events ends alike.
What is kept is bounded by two facts. A channel that connected before `newest - skew` can never be live again, so once
closed it is forgotten; while its close is missing it is remembered, never live, as a reason for doubt. A close or mark
whose connect is unknown matters only if that connect is live when it comes, so below `newest - 2 * skew` it never can.

Answers of the synchronous query stand beside the events. Two zeros close every channel connected until then, those whose
connect comes later included. A count where none was believed is an anonymous channel, connected at the instant of the query:
live until the connect or the close that it stands for is seen. `observe_beside` keeps both; `answering` makes them.

Read `observe` first: it is the only function that changes anything, and the hottest one of the product.
"""

from __future__ import annotations

from engine.core.events import CONNECT, DISCONNECT, TCPCLEAN
from engine.core.presence.client_state import (
    MAX_CHANNELS,
    NEVER,
    OFFLINE,
    ONLINE,
    Answered,
    Channel,
    Channels,
    ClientState,
)


def observe(
    channels: Channels, kind: str, occurred_at_ms: int, channel: str, observed: int, skew_ms: int
) -> tuple[Channels, int, bool]:
    """One more event: (channels, observed status, was it a connect while another channel was live).

    The channels are the same object when the event says nothing new. The histories that make up almost all traffic are
    answered without a loop; `observe_any` gives the same answer to each of them, which is a property test.
    """
    count = len(channels)
    if count == 1:
        only = channels[0]
        if only.id == channel:
            if kind == TCPCLEAN:
                if only.close_ms >= occurred_at_ms:
                    return channels, observed, False
                live = occurred_at_ms < only.connect_ms - skew_ms
                closed = Channel(only.id, only.connect_ms, occurred_at_ms, only.goodbye_ms)
                return (closed,), ONLINE if live else OFFLINE, False
            if kind == DISCONNECT:
                if only.goodbye_ms >= occurred_at_ms:
                    return channels, observed, False
                return (Channel(only.id, only.connect_ms, only.close_ms, occurred_at_ms),), observed, False
        elif kind == CONNECT and only.connect_ms != NEVER and occurred_at_ms - skew_ms > only.connect_ms:
            newcomer = Channel(channel, occurred_at_ms, NEVER, NEVER)
            if is_closed(only, skew_ms):
                return (newcomer,), ONLINE, False  # the closed one is superseded: forgotten
            return (only, newcomer), ONLINE, True
    elif count == 0:
        if kind == CONNECT:
            return (Channel(channel, occurred_at_ms, NEVER, NEVER),), ONLINE, False
    elif count == 2 and kind == TCPCLEAN:
        old, newer = channels
        if (
            old.id == channel
            and old.connect_ms != NEVER
            and old.connect_ms - skew_ms <= occurred_at_ms
            and old.connect_ms < newer.connect_ms - skew_ms
        ):
            # The superseded one's close: forgotten.
            return (newer,), OFFLINE if is_closed(newer, skew_ms) else ONLINE, False
    return observe_any(channels, kind, occurred_at_ms, channel, observed, skew_ms)


def observe_any(
    channels: Channels, kind: str, occurred_at_ms: int, channel: str, observed: int, skew_ms: int
) -> tuple[Channels, int, bool]:
    """What `observe` answers, by the theory above and for any history."""
    merged: list[Channel] = []
    is_new = True
    for known in channels:
        if known.id == channel:
            is_new = False
            changed = _told(known, kind, occurred_at_ms)
            if changed is known:
                return channels, observed, False
            merged.append(changed)
        else:
            merged.append(known)
    if is_new:
        merged.append(_told(Channel(channel, NEVER, NEVER, NEVER), kind, occurred_at_ms))
    # One that comes too late to be live takes nothing over, and a redelivered one that was forgotten is always such.
    takeover = (
        kind == CONNECT
        and occurred_at_ms >= newest_connect(channels) - skew_ms
        and live_elsewhere(channels, channel, skew_ms)
    )
    kept = capped(_pruned(merged, skew_ms))
    return kept, observed_status(kept, observed, skew_ms), takeover


def observe_beside(
    answered: Answered, channels: Channels, kind: str, occurred_at_ms: int, channel: str, observed: int, skew_ms: int
) -> tuple[Channels, int, bool, Answered]:
    """One more event of a client whose answers bear on it: what `observe_any` says, and what is left of the answers.

    Steps: merge the event; a connect that two zeros have voided is closed; the anonymous channel gives way to the connect
    or the close that it stood for; what was asked and is now older than an event counts no more.
    """
    anonymous_ms, void_ms = answered.anonymous_ms, answered.void_ms
    seen_ms = _connect_of(channels, channel)
    newest = newest_connect(channels)
    merged, _, takeover = observe_any(channels, kind, occurred_at_ms, channel, observed, skew_ms)
    if kind == CONNECT and occurred_at_ms <= void_ms:
        merged, _, _ = observe_any(merged, TCPCLEAN, void_ms + skew_ms, channel, observed, skew_ms)
        takeover = False
    if merged == channels:
        return channels, observed, False, answered
    connections = answered.connections
    if anonymous_ms != NEVER and kind == CONNECT and seen_ms == NEVER and occurred_at_ms >= newest - skew_ms:
        if occurred_at_ms > anonymous_ms + skew_ms:
            takeover, anonymous_ms = True, NEVER  # a newer one supersedes it
        elif _close_of(merged, channel) == NEVER or _close_of(merged, channel) > anonymous_ms:
            anonymous_ms = NEVER  # this is the one that the answer spoke of
    elif kind == TCPCLEAN:
        connections = 0
        if anonymous_ms != NEVER and seen_ms == NEVER and occurred_at_ms > anonymous_ms:
            # This was it; and as it was connected then, a goodbye of an older channel says nothing about it.
            merged, _, _ = observe_any(merged, CONNECT, anonymous_ms, channel, observed, skew_ms)
            anonymous_ms = NEVER
    left = answered.evolve(connections=connections, zero_ms=NEVER, anonymous_ms=anonymous_ms)
    if anonymous_ms == NEVER:
        left = left.without_undo()
    return merged, status_beside(left, merged, observed, skew_ms), takeover, left


def status_beside(answered: Answered, channels: Channels, before: int, skew_ms: int) -> int:
    """What events and answers say together: ONLINE, OFFLINE or UNKNOWN."""
    return ONLINE if answered.anonymous_ms != NEVER else observed_status(channels, before, skew_ms)


def closed_until(channels: Channels, void_ms: int, skew_ms: int) -> Channels:
    """The channels after two zeros: every one connected at or before `void_ms` is closed."""
    return tuple(
        [
            Channel(channel.id, channel.connect_ms, max(channel.close_ms, void_ms + skew_ms), channel.goodbye_ms)
            if channel.connect_ms != NEVER and channel.connect_ms <= void_ms and not is_closed(channel, skew_ms)
            else channel
            for channel in channels
        ]
    )


def _connect_of(channels: Channels, channel: str) -> int:
    for known in channels:
        if known.id == channel:
            return known.connect_ms
    return NEVER


def _close_of(channels: Channels, channel: str) -> int:
    for known in channels:
        if known.id == channel:
            return known.close_ms
    return NEVER


def _told(channel: Channel, kind: str, occurred_at_ms: int) -> Channel:
    """A channel after one more event about it: the largest time of each kind is kept; itself when that is no news."""
    if kind == CONNECT:
        if channel.connect_ms >= occurred_at_ms:
            return channel
        return Channel(channel.id, occurred_at_ms, channel.close_ms, channel.goodbye_ms)
    if kind == TCPCLEAN:
        if channel.close_ms >= occurred_at_ms:
            return channel
        return Channel(channel.id, channel.connect_ms, occurred_at_ms, channel.goodbye_ms)
    if channel.goodbye_ms >= occurred_at_ms:
        return channel
    return Channel(channel.id, channel.connect_ms, channel.close_ms, occurred_at_ms)


def _pruned(channels: list[Channel], skew_ms: int) -> list[Channel]:
    """Without what can never matter again (see the module's theory)."""
    newest = NEVER
    for channel in channels:
        newest = max(newest, channel.connect_ms)
    if newest == NEVER:
        return channels
    alive_from = newest - skew_ms
    keep_from = alive_from - skew_ms
    kept = []
    for channel in channels:
        if channel.connect_ms == NEVER:
            matters = channel.close_ms >= keep_from or channel.goodbye_ms >= keep_from
        else:
            matters = channel.connect_ms >= alive_from or not is_closed(channel, skew_ms)
        if matters:
            kept.append(channel)
    return kept


def is_closed(channel: Channel, skew_ms: int) -> bool:
    """Was a tcpclean of it seen, dated no more than `skew_ms` before its connect?"""
    return channel.close_ms != NEVER and channel.close_ms >= channel.connect_ms - skew_ms


def newest_connect(channels: Channels) -> int:
    """The largest connect time over all channels, NEVER when no connect was seen."""
    newest = NEVER
    for channel in channels:
        newest = max(newest, channel.connect_ms)
    return newest


def _is_live(channel: Channel, newest: int, skew_ms: int) -> bool:
    return channel.connect_ms != NEVER and channel.connect_ms >= newest - skew_ms and not is_closed(channel, skew_ms)


def live_count(channels: Channels, skew_ms: int) -> int:
    """How many channels are live."""
    newest = newest_connect(channels)
    live = 0
    for channel in channels:
        if _is_live(channel, newest, skew_ms):
            live += 1
    return live


def connection_count(state: ClientState, skew_ms: int) -> int:
    """How many connections it has, by the events or, where it says more, by the newest answer."""
    live = live_count(state.channels, skew_ms)
    return live if state.answered is None else max(live, state.answered.connections)


def live_elsewhere(channels: Channels, channel: str, skew_ms: int) -> bool:
    """Is a channel other than `channel` live?"""
    newest = newest_connect(channels)
    for other in channels:
        if other.id != channel and _is_live(other, newest, skew_ms):
            return True
    return False


def observed_status(channels: Channels, before: int, skew_ms: int) -> int:
    """What the events say: ONLINE, OFFLINE or UNKNOWN. `before`: a status once known never becomes unknown again."""
    if live_count(channels, skew_ms):
        return ONLINE
    for channel in channels:
        if channel.connect_ms != NEVER or channel.close_ms != NEVER:
            return OFFLINE
    return OFFLINE if before else before


def capped(channels: list[Channel]) -> Channels:
    """At most `MAX_CHANNELS` of them, the oldest dropped first."""
    if len(channels) > MAX_CHANNELS:
        oldest = min(channels, key=_dated)
        channels = [channel for channel in channels if channel is not oldest]
    return tuple(channels)


def _dated(channel: Channel) -> int:
    """A channel's own time: its connect, else the newest thing said about it."""
    if channel.connect_ms != NEVER:
        return channel.connect_ms
    return max(channel.close_ms, channel.goodbye_ms)


def graceful(channels: Channels) -> bool:
    """Was a goodbye accepted for a channel with the newest connect (with no connect seen: with the newest close)?"""
    newest = newest_connect(channels)
    if newest != NEVER:
        for channel in channels:
            if channel.connect_ms == newest and channel.goodbye_ms != NEVER:
                return True
        return False
    for channel in channels:
        newest = max(newest, channel.close_ms)
    if newest == NEVER:
        return False
    return any(channel.close_ms == newest and channel.goodbye_ms != NEVER for channel in channels)
