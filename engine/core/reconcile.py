"""Whom to ask next: the order of a sweep, and whom a gap in a feed concerns. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from engine.core.presence import NEVER, NEW_CLIENT, ClientState
from engine.core.resolver import is_doubtful


def sweep_order(
    states: Mapping[str, ClientState],
    roll: Iterable[str],
    alerting: Collection[str],
    skew_ms: int,
) -> list[str]:
    """Every client once, those first about whom a wrong belief does most harm.

    The order: an alert about it is about to fire or firing; doubtful and not verified since it was heard of; never verified;
    then the longest unverified. `roll`: clients that ought to exist, known or not.
    """
    ranked: list[tuple[int, int, str]] = []
    for client, state in states.items():
        if state is not NEW_CLIENT:
            ranked.append((_rank(state, client in alerting, skew_ms), state.verified_ms, client))
    for client in roll:
        if client not in states or states[client] is NEW_CLIENT:
            ranked.append((2, NEVER, client))
    ranked.sort()
    return [client for _, _, client in ranked]


def _rank(state: ClientState, is_alerting: bool, skew_ms: int) -> int:
    if is_alerting:
        return 0
    if state.verified_ms < state.heard_ms and is_doubtful(state, skew_ms):
        return 1
    return 2 if state.verified_ms == NEVER else 3


def is_concerned(state: ClientState, gap_to_ms: int, noted_ms: int) -> bool:
    """May the belief about a client rest on what a gap has swallowed? Nothing newer than the gap was heard or asked.

    `gap_to_ms`: when the newest of the lost messages occurred at the latest; `noted_ms`: when the gap was found.
    """
    return state.verified_ms < noted_ms and not any(
        channel.connect_ms > gap_to_ms or channel.close_ms > gap_to_ms for channel in state.channels
    )
