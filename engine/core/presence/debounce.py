"""Holds, settling and flapping: from observed status to settled status.

A change of observed status starts a hold at the instant the engine learned of it. When the hold has lasted its time the
change settles and is a transition, the thing rules see; when the status reverts first, it was one suppressed flap.

Flapping counts observed changes by the broker's time, while they are younger than a window: it starts at `flapping_start`
of them and lasts until only `flapping_stop` are left, so its end is a deadline and not an event. Takeovers (a connect
while another channel is live) are counted the same way for the trigger `duplicate`.

Read `learn` (an event) and `settle` (a hold that is over) first.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engine.core.events import CONNECT
from engine.core.presence import resolver
from engine.core.presence.client_state import (
    CONFIRMED,
    FIRST_HEARD,
    FLAPPING,
    GRACEFUL,
    LAST_FLAPS,
    NEVER,
    OFFLINE,
    UNHEARD,
    UNKNOWN,
    ClientState,
    Transition,
)
from engine.core.presence.resolver import newest_connect, observe, observe_beside

MAX_TIMES: Final = 64
"""Times kept for one client at most, whatever `flapping.start` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The configuration of resolving and settling. `holds_of` answers (offline, online) hold of one client where overrides exist."""

    clock_skew_ms: int = 1_000
    offline_ms: int = 30_000
    online_ms: int = 0
    holds_of: Callable[[str], tuple[int, int]] | None = None
    flapping_start: int = 6
    flapping_stop: int = 2
    flapping_window_ms: int = 600_000
    asks: bool = False  # is a status provider configured, so that clients can be queried?
    confirm_after_ms: int = 5_000
    max_hold_ms: int = (
        300_000  # a client whose hold lasts this much longer than its time, because a source is behind, is queried
    )

    def hold_ms(self, client: str, target: int) -> int:
        """How long a change of this client to `target` must last before it settles."""
        offline, online = self.holds_of(client) if self.holds_of else (self.offline_ms, self.online_ms)
        return offline if target == OFFLINE else online


def learn(
    state: ClientState, kind: str, occurred_at_ms: int, channel: str, ip: str, now_ms: int, policy: Policy, last: int
) -> ClientState:
    """The state after one event, learned of at `now_ms`; `last` is the event's position in the history.

    Steps: resolve the channels, derive the observed status, then start, keep or revert the hold.
    """
    channels, was, answered = state.channels, state.observed, state.answered
    if answered is not None and answered.meddles:
        merged, observed, takeover, answered = observe_beside(
            answered, channels, kind, occurred_at_ms, channel, was, policy.clock_skew_ms
        )
    else:
        merged, observed, takeover = observe(channels, kind, occurred_at_ms, channel, was, policy.clock_skew_ms)
    hold_since, hold_occurred, flaps = state.hold_since_ms, state.hold_occurred_at_ms, state.flaps
    changes, flags, takeovers, known_ip = state.changes, state.flags, state.takeovers, state.ip
    if merged is not channels:
        if takeover:
            takeovers = with_time(takeovers, occurred_at_ms, now_ms, policy)
        if ip and (not known_ip or (kind == CONNECT and occurred_at_ms == newest_connect(merged))):
            known_ip = ip
        if observed != was:
            flags &= ~CONFIRMED
            changes = with_time(changes, occurred_at_ms, now_ms, policy)
            if len(changes) >= policy.flapping_start:
                flags |= FLAPPING
            if observed == state.settled:
                hold_since = hold_occurred = NEVER
                flaps += 1
            else:
                hold_since, hold_occurred = now_ms, occurred_at_ms
    heard_ms = max(state.heard_ms, occurred_at_ms)
    heard_ms = max(heard_ms, now_ms)
    return state.evolve(
        channels=merged,
        observed=observed,
        hold_since_ms=hold_since,
        hold_occurred_at_ms=hold_occurred,
        flaps=flaps,
        changes=changes,
        flags=flags,
        takeovers=takeovers,
        ip=known_ip,
        last=last,
        heard_ms=heard_ms,
        answered=answered,
    )


def with_time(times: tuple[int, ...], time_ms: int, now_ms: int, policy: Policy) -> tuple[int, ...]:
    """Ascending times younger than the window at `now_ms`, with one more, only as many of the newest as can matter."""
    if not times:
        return (time_ms,) if now_ms - time_ms < policy.flapping_window_ms else times
    oldest = now_ms - policy.flapping_window_ms
    if time_ms >= times[-1] and times[0] > oldest and len(times) < policy.flapping_start:
        return (*times, time_ms)
    kept = [time for time in times if time > oldest]
    if time_ms > oldest:
        insort(kept, time_ms)
    return tuple(kept[-min(MAX_TIMES, max(policy.flapping_start, policy.flapping_stop + 1)) :])


def younger(times: tuple[int, ...], now_ms: int, policy: Policy) -> tuple[int, ...]:
    """Those of `times` that are younger than the flapping window at `now_ms`."""
    oldest = now_ms - policy.flapping_window_ms
    return tuple(time for time in times if time > oldest)


def calm_at(times: tuple[int, ...], policy: Policy) -> int | None:
    """When only `flapping_stop` of `times` will be left inside the window; None when that is so already."""
    if len(times) <= policy.flapping_stop:
        return None
    return times[-policy.flapping_stop - 1] + policy.flapping_window_ms


def calm(state: ClientState, last: int) -> ClientState:
    """The state after flapping has stopped."""
    return state.evolve(flags=state.flags & ~FLAPPING, last=last)


def restless(state: ClientState) -> ClientState:
    """The same state, flapping."""
    return state.evolve(flags=state.flags | FLAPPING, last=state.last)


def settle(state: ClientState, client: str, settled_at_ms: int, last: int) -> tuple[ClientState, Transition]:
    """The hold is over: the observed status becomes the settled one. Raises ValueError for a state without a hold."""
    since, occurred, observed = state.hold_since_ms, state.hold_occurred_at_ms, state.observed
    if since == NEVER:
        raise ValueError(f"nothing to settle for {client}")
    graceful = observed == OFFLINE and resolver.graceful(state.channels)
    flags = (state.flags | GRACEFUL if graceful else state.flags & ~GRACEFUL) & ~(CONFIRMED | FIRST_HEARD)
    if state.heard_ms == NEVER:
        flags |= UNHEARD
    elif state.settled == UNKNOWN or flags & UNHEARD:
        flags = (flags | FIRST_HEARD) & ~UNHEARD
    flags = flags & ((1 << LAST_FLAPS) - 1) | state.flaps << LAST_FLAPS
    after = state.evolve(
        settled=observed,
        since_ms=since,
        occurred_at_ms=occurred,
        settled_at_ms=settled_at_ms,
        hold_since_ms=NEVER,
        hold_occurred_at_ms=NEVER,
        flaps=0,
        flags=flags,
        last=last,
    )
    transition = Transition(
        client=client,
        status=observed,
        previous=state.settled,
        occurred_at_ms=occurred,
        since_ms=since,
        settled_at_ms=settled_at_ms,
        graceful=graceful,
        flaps=state.flaps,
        first_seen=state.settled == UNKNOWN,
        channels=state.channels,
    )
    return after, transition
