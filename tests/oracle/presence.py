"""What the whole set of a client's events says, recomputed from scratch each time it is asked.

Nothing is pruned and nothing is remembered between questions, so order, duplicates and batches cannot matter by construction.
"""

from __future__ import annotations

from collections.abc import Sequence

from .reading import Told


def connects(told: Sequence[Told]) -> dict[str, int]:
    """When each channel connected."""
    return _latest(told, "connect")


def closed(told: Sequence[Told], skew: int) -> set[str]:
    """Channels whose end was seen; one dated more than the skew before its own connect is not that connection's end."""
    begun = connects(told)
    return {
        event.channel
        for event in told
        if event.kind == "tcpclean" and event.time >= begun.get(event.channel, event.time) - skew
    }


def live(told: Sequence[Told], skew: int) -> set[str]:
    """Channels that hold the client online."""
    begun = connects(told)
    newest = max(begun.values(), default=0)
    return {channel for channel, time in begun.items() if time >= newest - skew} - closed(told, skew)


def observed(told: Sequence[Told], skew: int) -> str:
    """`online`, `offline` or `unknown`, as the events say."""
    if live(told, skew):
        return "online"
    return "offline" if any(event.kind in ("connect", "tcpclean") for event in told) else "unknown"


def said_goodbye(told: Sequence[Told]) -> bool:
    """Whether a channel with the newest connect was closed on purpose; with no connect seen, one with the newest close."""
    begun = connects(told) or _latest(told, "tcpclean")
    newest = max(begun.values(), default=0)
    last = {channel for channel, time in begun.items() if time == newest}
    return any(event.kind == "disconnect" and event.channel in last for event in told)


def _latest(told: Sequence[Told], kind: str) -> dict[str, int]:
    times: dict[str, int] = {}
    for event in told:
        if event.kind == kind:
            times[event.channel] = max(event.time, times.get(event.channel, event.time))
    return times
