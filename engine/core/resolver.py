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

Read `observe` first: it is the only function that changes anything, and the hottest one of the product.
"""

from __future__ import annotations

from typing import Any

from engine.core.events import CONNECT, DISCONNECT, TCPCLEAN
from engine.core.presence import CHANNEL_SLOTS, MAX_CHANNELS, OFFLINE, ONLINE, ClientState, channels_of

Flat = tuple[Any, ...]


def observe(
    channels: Flat, kind: str, occurred_at_ms: int, channel: str, observed: int, skew_ms: int
) -> tuple[Flat, int, bool]:
    """One more event: (channels, observed status, was it a connect while another channel was live).

    The channels are the same object when the event says nothing new. The histories that make up almost all traffic are
    answered without a loop; `observe_any` gives the same answer to each of them, which is a property test.
    """
    slots = len(channels)
    if slots == CHANNEL_SLOTS:
        known, connect, close, goodbye = channels
        if known == channel:
            if kind == TCPCLEAN:
                if close is not None and close >= occurred_at_ms:
                    return channels, observed, False
                live = connect is not None and occurred_at_ms < connect - skew_ms
                return (known, connect, occurred_at_ms, goodbye), ONLINE if live else OFFLINE, False
            if kind == DISCONNECT:
                if goodbye is not None and goodbye >= occurred_at_ms:
                    return channels, observed, False
                return (known, connect, close, occurred_at_ms), observed, False
        elif kind == CONNECT and connect is not None and occurred_at_ms - skew_ms > connect:
            if close is not None and close >= connect - skew_ms:
                return (channel, occurred_at_ms, None, None), ONLINE, False  # the closed one is superseded: forgotten
            return (*channels, channel, occurred_at_ms, None, None), ONLINE, True
    elif not slots:
        if kind == CONNECT:
            return (channel, occurred_at_ms, None, None), ONLINE, False
    elif slots == 2 * CHANNEL_SLOTS and kind == TCPCLEAN and channels[0] == channel:
        connect, newer, close = channels[1], channels[5], channels[6]
        if connect is not None and newer is not None and connect - skew_ms <= occurred_at_ms and connect < newer - skew_ms:
            live = close is None or close < newer - skew_ms
            return channels[4:], ONLINE if live else OFFLINE, False  # the superseded one's close: forgotten
    return observe_any(channels, kind, occurred_at_ms, channel, observed, skew_ms)


def observe_any(
    channels: Flat, kind: str, occurred_at_ms: int, channel: str, observed: int, skew_ms: int
) -> tuple[Flat, int, bool]:
    """What `observe` answers, by the theory above and for any history."""
    merged = channels + _entry(kind, occurred_at_ms, channel)
    for at in range(0, len(channels), CHANNEL_SLOTS):
        if channels[at] == channel:
            entry = channels[at : at + CHANNEL_SLOTS]
            changed = _merged(entry, kind, occurred_at_ms)
            if changed == entry:
                return channels, observed, False
            merged = channels[:at] + changed + channels[at + CHANNEL_SLOTS :]
            break
    # One that comes too late to be live takes nothing over, and a redelivered one that was forgotten is always such.
    newest = newest_connect(channels) if kind == CONNECT else None
    takeover = (
        newest is not None
        and occurred_at_ms >= newest - skew_ms
        and live_elsewhere(channels, channel, skew_ms)
    )
    merged = capped(_pruned(merged, skew_ms))
    return merged, observed_status(merged, observed, skew_ms), takeover


def _entry(kind: str, occurred_at_ms: int, channel: str) -> Flat:
    if kind == CONNECT:
        return (channel, occurred_at_ms, None, None)
    if kind == TCPCLEAN:
        return (channel, None, occurred_at_ms, None)
    return (channel, None, None, occurred_at_ms)


def _merged(entry: Flat, kind: str, occurred_at_ms: int) -> Flat:
    """One channel's entry after one more event about it: the largest time of each kind is kept."""
    channel, connect, close, goodbye = entry
    if kind == CONNECT:
        if connect is not None and connect >= occurred_at_ms:
            return entry
        return (channel, occurred_at_ms, close, goodbye)
    if kind == TCPCLEAN:
        if close is not None and close >= occurred_at_ms:
            return entry
        return (channel, connect, occurred_at_ms, goodbye)
    if goodbye is not None and goodbye >= occurred_at_ms:
        return entry
    return (channel, connect, close, occurred_at_ms)


def _pruned(channels: Flat, skew_ms: int) -> Flat:
    """Without what can never matter again (see the module's theory)."""
    newest = newest_connect(channels)
    if newest is None:
        return channels
    alive_from = newest - skew_ms
    keep_from = alive_from - skew_ms
    kept: Flat = ()
    for at in range(0, len(channels), CHANNEL_SLOTS):
        connect, close, goodbye = channels[at + 1 : at + CHANNEL_SLOTS]
        if connect is None:
            matters = (close is not None and close >= keep_from) or (goodbye is not None and goodbye >= keep_from)
        else:
            matters = connect >= alive_from or close is None or close < connect - skew_ms
        if matters:
            kept += channels[at : at + CHANNEL_SLOTS]
    return kept


def newest_connect(channels: Flat) -> int | None:
    """The largest connect time over all channels, None when no connect was seen."""
    times = [connect for connect in channels[1::CHANNEL_SLOTS] if connect is not None]
    return max(times) if times else None


def live_count(channels: Flat, skew_ms: int) -> int:
    """How many channels are live."""
    if len(channels) == CHANNEL_SLOTS:
        _, connect, close, _ = channels
        return 1 if connect is not None and (close is None or close < connect - skew_ms) else 0
    newest = newest_connect(channels)
    if newest is None:
        return 0
    live = 0
    for at in range(1, len(channels), CHANNEL_SLOTS):
        connect, close = channels[at], channels[at + 1]
        if connect is not None and connect >= newest - skew_ms and (close is None or close < connect - skew_ms):
            live += 1
    return live


def live_elsewhere(channels: Flat, channel: str, skew_ms: int) -> bool:
    """Is a channel other than `channel` live?"""
    newest = newest_connect(channels)
    if newest is None:
        return False
    for at in range(0, len(channels), CHANNEL_SLOTS):
        other, connect, close, _ = channels[at : at + CHANNEL_SLOTS]
        if other != channel and connect is not None and connect >= newest - skew_ms:
            if close is None or close < connect - skew_ms:
                return True
    return False


def observed_status(channels: Flat, before: int, skew_ms: int) -> int:
    """What the events say: ONLINE, OFFLINE or UNKNOWN. `before`: a status once known never becomes unknown again."""
    if live_count(channels, skew_ms):
        return ONLINE
    for at in range(1, len(channels), CHANNEL_SLOTS):
        if channels[at] is not None or channels[at + 1] is not None:
            return OFFLINE
    return OFFLINE if before else before


def capped(channels: Flat) -> Flat:
    """At most `MAX_CHANNELS` entries, the oldest dropped first."""
    if len(channels) <= MAX_CHANNELS * CHANNEL_SLOTS:
        return channels
    entries = [channels[at : at + CHANNEL_SLOTS] for at in range(0, len(channels), CHANNEL_SLOTS)]
    oldest = min(entries, key=_dated)
    entries.remove(oldest)
    return tuple(slot for entry in entries for slot in entry)


def _dated(entry: Flat) -> int:
    """An entry's own time: its connect, else the newest thing said about it."""
    _, connect, close, goodbye = entry
    if connect is not None:
        return int(connect)
    return int(max(time for time in (close, goodbye) if time is not None))


def graceful(channels: Flat) -> bool:
    """Was a goodbye accepted for a channel with the newest connect (with no connect seen: with the newest close)?"""
    newest = newest_connect(channels)
    slot = 1
    if newest is None:
        slot = 2
        closes = [close for close in channels[2::CHANNEL_SLOTS] if close is not None]
        if not closes:
            return False
        newest = max(closes)
    return any(
        channels[at + slot] == newest and channels[at + 3] is not None for at in range(0, len(channels), CHANNEL_SLOTS)
    )


def doubts(state: ClientState, skew_ms: int) -> list[str]:
    """Why the belief about this client may be wrong, in words; empty when there is no reason. A hint, never a verdict."""
    found = []
    channels = state.channels
    live = live_count(channels, skew_ms)
    newest = newest_connect(channels)
    if live > 1:
        found.append(f"{live} channels are live")
    if newest is None:
        found.append("no connect was ever seen")
    else:
        for channel in channels_of(state):
            if channel.connect_ms is None or _is_closed(channel.connect_ms, channel.close_ms, skew_ms):
                continue
            if channel.connect_ms < newest - skew_ms:
                found.append(f"superseded channel {channel.id} was never closed")
            elif live == 1 and channel.goodbye_ms is not None:
                found.append(f"the only live channel {channel.id} said goodbye")
    if len(channels) >= MAX_CHANNELS * CHANNEL_SLOTS:
        found.append("more channels than are kept")
    return found


def _is_closed(connect: int, close: int | None, skew_ms: int) -> bool:
    return close is not None and close >= connect - skew_ms


def evidence(state: ClientState, skew_ms: int) -> list[dict[str, object]]:
    """What the verdict rests on: one entry an event kept, `{type, time_ms, channel, used, why}`, oldest first."""
    newest = newest_connect(state.channels)
    found: list[dict[str, object]] = []
    for channel in channels_of(state):
        for kind, time, used, why in _readings(channel, newest, skew_ms):
            found.append({"type": kind, "time_ms": time, "channel": channel.id, "used": used, "why": why})
    return sorted(found, key=lambda entry: (entry["time_ms"], entry["type"]))


def _readings(channel: Any, newest: int | None, skew_ms: int) -> list[tuple[str, int, bool, str]]:
    """How each event about one channel was read."""
    readings = []
    connect, close = channel.connect_ms, channel.close_ms
    if connect is not None:
        if _is_closed(connect, close, skew_ms):
            readings.append(("connect", connect, True, "the channel was closed later"))
        elif newest is not None and connect < newest - skew_ms:
            readings.append(("connect", connect, False, "superseded by a newer connect"))
        else:
            readings.append(("connect", connect, True, "the channel is live"))
    if close is not None:
        if connect is None:
            readings.append(("tcpclean", close, True, "closes a channel whose connect was not seen"))
        elif _is_closed(connect, close, skew_ms):
            readings.append(("tcpclean", close, True, "closes its channel"))
        else:
            readings.append(("tcpclean", close, False, "dated too long before its own connect"))
    if channel.goodbye_ms is not None:
        decides = connect is None or connect == newest
        why = "the client said goodbye" if decides else "a goodbye of a channel that is not the newest"
        readings.append(("disconnect", channel.goodbye_ms, decides, why))
    return readings
