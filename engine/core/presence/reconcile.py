"""Which client to query next: the order of a sweep, and which clients a gap in a feed affects. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from engine.core.presence.client_state import NEVER, NEW_CLIENT, ClientState
from engine.core.presence.evidence import is_doubtful

Gaps = tuple[tuple[int, int], ...]
"""Gaps in feeds, each the two instants that `is_concerned` wants."""


def sweep_order(
    states: Mapping[str, ClientState],
    roll: Iterable[str],
    alerting: Collection[str],
    skew_ms: int,
    gaps: Gaps = (),
) -> list[str]:
    """Every client once, those first for which a wrong belief does most harm.

    The order: an alert about it is about to fire or firing; doubtful and not verified since its last event; never verified;
    then the longest unverified. `roll`: clients that ought to exist, known or not; `gaps`: see `is_unsure`.
    """
    ranked: list[tuple[int, int, str]] = []
    for client, state in states.items():
        if state is not NEW_CLIENT:
            verified_ms = NEVER if gaps and is_unsure(state, gaps) else state.verified_ms
            ranked.append((_rank(state, verified_ms, client in alerting, skew_ms), verified_ms, client))
    for client in roll:
        if client not in states or states[client] is NEW_CLIENT:
            ranked.append((2, NEVER, client))
    ranked.sort()
    return [client for _, _, client in ranked]


def _rank(state: ClientState, verified_ms: int, is_alerting: bool, skew_ms: int) -> int:
    if is_alerting:
        return 0
    if verified_ms < state.heard_ms and is_doubtful(state, skew_ms):
        return 1
    return 2 if verified_ms == NEVER else 3


def is_concerned(state: ClientState, gap_to_ms: int, noted_ms: int) -> bool:
    """Could the messages that a gap lost change the belief about a client? No event and no answer is newer than the gap.

    `gap_to_ms`: when the newest of the lost messages occurred at the latest; `noted_ms`: when the gap was found.
    """
    return state.verified_ms < noted_ms and not any(
        channel.connect_ms > gap_to_ms or channel.close_ms > gap_to_ms for channel in state.channels
    )


def is_unsure(state: ClientState, gaps: Gaps) -> bool:
    """Does any gap affect the client, so that it counts as unverified?"""
    for to_ms, noted_ms in gaps:
        if is_concerned(state, to_ms, noted_ms):
            return True
    return False


def with_gap(gaps: Gaps, to_ms: int, noted_ms: int) -> Gaps:
    """The gaps with one more, without those that affect only clients that another one affects as well."""
    if any(to >= to_ms and noted >= noted_ms for to, noted in gaps):
        return gaps
    return (*[gap for gap in gaps if gap[0] > to_ms or gap[1] > noted_ms], (to_ms, noted_ms))


def stepped_gaps(gaps: Gaps, step_ms: int, now_ms: int) -> Gaps:
    """The gaps after our clock was set by `step_ms` and shows `now_ms`: none was found in the future."""
    return tuple(
        [(to + step_ms if to > now_ms else to, noted + step_ms if noted > now_ms else noted) for to, noted in gaps]
    )
