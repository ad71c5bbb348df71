"""What the answer of a synchronous query does to the belief about one client.

| believed | answer | what follows                                                                                   |
|----------|--------|------------------------------------------------------------------------------------------------|
| any      | older than the newest event, or than the newest answer | nothing: stale                                    |
| any      | unknown | the belief stands, the client is unverified                                                   |
| online   | > 0    | agreed                                                                                         |
| offline  | 0      | agreed; the second one during a hold lets it settle whatever the feed may still hold           |
| offline  | > 0    | online by an anonymous channel, connected when it was asked; asked again                       |
| online   | 0      | nothing yet, asked again; a second zero closes every channel connected `skew` before or earlier |
| online by an answer not confirmed yet | 0 | the correction is undone as if it had not been                          |
| unknown  | 0      | offline                                                                                        |

A second answer counts when it was asked at least `confirm_after` after the first and no news came between: a close or a
connect may have been on its way. What events say afterwards is `resolver.observe_beside`. Pure; read `take` first.
"""

from __future__ import annotations

from engine.core.presence.client_state import (
    CONFIRMED,
    NEVER,
    NOT_ASKED,
    OFFLINE,
    ONLINE,
    UNVERIFIED,
    Answered,
    Channels,
    ClientState,
)
from engine.core.presence.client_state import UNKNOWN as NOT_KNOWN
from engine.core.presence.debounce import Policy
from engine.core.presence.query import AGREED, CORRECTED, IGNORED, STALE, UNCONFIRMED, UNKNOWN, StatusAnswer
from engine.core.presence.resolver import closed_until, observed_status, status_beside


def take(state: ClientState, answer: StatusAnswer, now_ms: int, policy: Policy, last: int) -> tuple[ClientState, str]:
    """The state after an answer, learned of at `now_ms`, and the verdict; `last` is its position in the history.

    The state is the same object when the answer changes nothing (STALE, IGNORED).
    """
    known = state.answered or NOT_ASKED
    asked_ms, count = answer.asked_at_ms, answer.connections
    if asked_ms < state.heard_ms or asked_ms < known.asked_ms:
        return state, STALE
    if count is None or count < 0:
        return _changed(state, _still(known, asked_ms), last, flags=state.flags | UNVERIFIED), UNKNOWN
    if count > 0:
        return _connected(state, known, asked_ms, count, now_ms, last)
    if state.observed == ONLINE:
        if known.undo_since_ms != NEVER:
            return _undone(state, known, asked_ms, now_ms, policy, last)
        return _none_left(state, known, asked_ms, now_ms, policy, last)
    if state.observed == NOT_KNOWN and state.heard_ms == NEVER and not answer.is_listed:
        return state, IGNORED
    return _agreed_offline(state, known, asked_ms, now_ms, policy, last), AGREED


def _still(known: Answered, asked_ms: int) -> Answered:
    """Asked in vain: what waited for confirmation waits no longer."""
    return Answered(asked_ms, known.verified_ms, known.connections, known.void_ms, NEVER, known.anonymous_ms)


def _connected(
    state: ClientState, known: Answered, asked_ms: int, count: int, now_ms: int, last: int
) -> tuple[ClientState, str]:
    """It has connections: that is what was believed, or an anonymous channel is live from now on."""
    flags = state.flags & ~UNVERIFIED
    if state.observed == ONLINE:
        verdict = CORRECTED if known.undo_since_ms != NEVER else AGREED
        after = Answered(asked_ms, asked_ms, count, known.void_ms, NEVER, known.anonymous_ms)
        return _changed(state, after, last, flags=flags), verdict
    if state.observed == NOT_KNOWN:
        undo_since, undo_occurred = asked_ms, asked_ms
    elif state.on_hold:
        undo_since, undo_occurred = state.hold_since_ms, state.hold_occurred_at_ms
    else:
        undo_since, undo_occurred = state.since_ms, state.occurred_at_ms
    after = Answered(
        asked_ms, known.verified_ms, count, known.void_ms, NEVER, asked_ms,
        undo_since, undo_occurred, state.flaps, state.observed,
    )  # fmt: skip
    return _observed(state, after, state.channels, ONLINE, asked_ms, now_ms, last, flags & ~CONFIRMED), UNCONFIRMED


def _undone(
    state: ClientState, known: Answered, asked_ms: int, now_ms: int, policy: Policy, last: int
) -> tuple[ClientState, str]:
    """A zero follows the count that made it online: as if that had not been, the old hold or status counts."""
    observed = observed_status(state.channels, known.undo_observed, policy.clock_skew_ms)
    since, occurred = known.undo_since_ms, known.undo_occurred_ms
    if observed == NOT_KNOWN:  # nobody had ever heard of it: now it is known to be offline
        observed, since, occurred = OFFLINE, now_ms, asked_ms
    flags = state.flags & ~UNVERIFIED
    if observed == state.settled:
        since = occurred = NEVER
    zero_ms = asked_ms if since != NEVER else NEVER
    after = Answered(asked_ms, asked_ms, 0, known.void_ms, zero_ms, NEVER)
    return (
        ClientState(
            state.channels, observed, state.settled, state.since_ms, state.occurred_at_ms, state.settled_at_ms, since,
            occurred, known.undo_flaps, state.changes, flags, state.takeovers, state.ip, last, state.client,
            state.heard_ms, after,
        ),
        AGREED,
    )  # fmt: skip


def _none_left(
    state: ClientState, known: Answered, asked_ms: int, now_ms: int, policy: Policy, last: int
) -> tuple[ClientState, str]:
    """No connection where one was believed: the first such answer waits for the second, which closes what is open."""
    flags = state.flags & ~UNVERIFIED
    if known.zero_ms == NEVER or asked_ms < known.zero_ms + policy.confirm_after_ms:
        zero_ms = asked_ms if known.zero_ms == NEVER else known.zero_ms
        after = Answered(asked_ms, known.verified_ms, 0, known.void_ms, zero_ms, known.anonymous_ms)
        return _changed(state, after, last, flags=flags), UNCONFIRMED
    void_ms = max(known.void_ms, asked_ms - policy.clock_skew_ms)
    channels = closed_until(state.channels, void_ms, policy.clock_skew_ms)
    anonymous_ms = known.anonymous_ms if known.anonymous_ms > void_ms else NEVER
    after = Answered(asked_ms, asked_ms, 0, void_ms, NEVER, anonymous_ms)
    observed = status_beside(after, channels, state.observed, policy.clock_skew_ms)
    if observed == ONLINE:  # what is left connected so lately that the clocks may differ: asked once more
        again = Answered(asked_ms, known.verified_ms, 0, void_ms, asked_ms, anonymous_ms)
        return _with_channels(state, again, channels, last, flags), UNCONFIRMED
    return _observed(state, after, channels, observed, asked_ms, now_ms, last, flags | CONFIRMED), CORRECTED


def _agreed_offline(
    state: ClientState, known: Answered, asked_ms: int, now_ms: int, policy: Policy, last: int
) -> ClientState:
    """It is offline, as was believed, or as nobody knew."""
    flags = state.flags & ~UNVERIFIED
    zero_ms = NEVER
    if state.on_hold:
        zero_ms = asked_ms if known.zero_ms == NEVER else known.zero_ms
        if asked_ms >= zero_ms + policy.confirm_after_ms:
            flags |= CONFIRMED
    after = Answered(asked_ms, asked_ms, 0, known.void_ms, zero_ms, NEVER)
    if state.observed == NOT_KNOWN:
        return _observed(state, after, state.channels, OFFLINE, asked_ms, now_ms, last, flags)
    return _changed(state, after, last, flags=flags)


def _changed(state: ClientState, answered: Answered, last: int, *, flags: int) -> ClientState:
    """The same belief, with another record of what was asked."""
    return _with_channels(state, answered, state.channels, last, flags)


def _with_channels(state: ClientState, answered: Answered, channels: Channels, last: int, flags: int) -> ClientState:
    return ClientState(
        channels, state.observed, state.settled, state.since_ms, state.occurred_at_ms, state.settled_at_ms,
        state.hold_since_ms, state.hold_occurred_at_ms, state.flaps, state.changes, flags, state.takeovers, state.ip,
        last, state.client, state.heard_ms, answered,
    )  # fmt: skip


def _observed(
    state: ClientState,
    answered: Answered,
    channels: Channels,
    observed: int,
    occurred_at_ms: int,
    now_ms: int,
    last: int,
    flags: int,
) -> ClientState:
    """Another observed status: a hold begins, or one is reverted. Corrections do not count as changes for flapping."""
    if observed == state.settled:
        since = occurred = NEVER
        flaps = state.flaps + 1
    else:
        since, occurred, flaps = now_ms, occurred_at_ms, state.flaps
    return ClientState(
        channels, observed, state.settled, state.since_ms, state.occurred_at_ms, state.settled_at_ms, since, occurred,
        flaps, state.changes, flags, state.takeovers, state.ip, last, state.client, state.heard_ms, answered,
    )  # fmt: skip
