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
        # Nothing was learned: what waited for confirmation waits no longer.
        unanswered = known.without_undo().evolve(asked_ms=asked_ms, zero_ms=NEVER)
        return state.evolve(answered=unanswered, flags=state.flags | UNVERIFIED, last=last), UNKNOWN
    if count > 0:
        return _connected(state, known, asked_ms, count, now_ms, last)
    if state.observed == ONLINE:
        if known.undo_since_ms != NEVER:
            return _undone(state, known, asked_ms, now_ms, policy, last)
        return _none_left(state, known, asked_ms, now_ms, policy, last)
    if state.observed == NOT_KNOWN and state.heard_ms == NEVER and not answer.is_listed:
        return state, IGNORED
    return _agreed_offline(state, known, asked_ms, now_ms, policy, last), AGREED


def _connected(
    state: ClientState, known: Answered, asked_ms: int, count: int, now_ms: int, last: int
) -> tuple[ClientState, str]:
    """It has connections: that is what was believed, or an anonymous channel is live from now on."""
    flags = state.flags & ~UNVERIFIED
    after = known.evolve(asked_ms=asked_ms, connections=count, zero_ms=NEVER)
    if state.observed == ONLINE:
        verdict = CORRECTED if known.undo_since_ms != NEVER else AGREED
        confirmed = after.without_undo().evolve(verified_ms=asked_ms)
        return state.evolve(answered=confirmed, flags=flags, last=last), verdict
    if state.observed == NOT_KNOWN:
        undo_since, undo_occurred = asked_ms, asked_ms
    elif state.on_hold:
        undo_since, undo_occurred = state.hold_since_ms, state.hold_occurred_at_ms
    else:
        undo_since, undo_occurred = state.since_ms, state.occurred_at_ms
    after = after.evolve(
        anonymous_ms=asked_ms,
        undo_since_ms=undo_since,
        undo_occurred_ms=undo_occurred,
        undo_flaps=state.flaps,
        undo_observed=state.observed,
    )
    corrected = state.evolve(answered=after, flags=flags & ~CONFIRMED, last=last)
    return _observed(corrected, ONLINE, asked_ms, now_ms), UNCONFIRMED


def _undone(
    state: ClientState, known: Answered, asked_ms: int, now_ms: int, policy: Policy, last: int
) -> tuple[ClientState, str]:
    """A zero follows the count that made it online: as if that had not been, the old hold or status counts."""
    observed = observed_status(state.channels, known.undo_observed, policy.clock_skew_ms)
    since, occurred = known.undo_since_ms, known.undo_occurred_ms
    if observed == NOT_KNOWN:  # no event and no answer had ever spoken of it: now it is known to be offline
        observed, since, occurred = OFFLINE, now_ms, asked_ms
    if observed == state.settled:
        since = occurred = NEVER
    after = known.without_undo().evolve(
        asked_ms=asked_ms,
        verified_ms=asked_ms,
        connections=0,
        zero_ms=asked_ms if since != NEVER else NEVER,
        anonymous_ms=NEVER,
    )
    undone = state.evolve(
        observed=observed,
        hold_since_ms=since,
        hold_occurred_at_ms=occurred,
        flaps=known.undo_flaps,
        flags=state.flags & ~UNVERIFIED,
        answered=after,
        last=last,
    )
    return undone, AGREED


def _none_left(
    state: ClientState, known: Answered, asked_ms: int, now_ms: int, policy: Policy, last: int
) -> tuple[ClientState, str]:
    """No connection where one was believed: the first such answer waits for the second, which closes what is open."""
    flags, skew_ms = state.flags & ~UNVERIFIED, policy.clock_skew_ms
    zero = known.without_undo().evolve(asked_ms=asked_ms, connections=0)
    if known.zero_ms == NEVER or asked_ms < known.zero_ms + policy.confirm_after_ms:
        first = zero if known.zero_ms != NEVER else zero.evolve(zero_ms=asked_ms)
        return state.evolve(answered=first, flags=flags, last=last), UNCONFIRMED
    void_ms = max(known.void_ms, asked_ms - skew_ms)
    channels = closed_until(state.channels, void_ms, skew_ms)
    anonymous_ms = known.anonymous_ms if known.anonymous_ms > void_ms else NEVER
    after = zero.evolve(void_ms=void_ms, anonymous_ms=anonymous_ms)
    observed = status_beside(after, channels, state.observed, skew_ms)
    if observed == ONLINE:  # what is left connected so lately that the clocks may differ: asked once more
        again = after.evolve(zero_ms=asked_ms)
        return state.evolve(answered=again, channels=channels, flags=flags, last=last), UNCONFIRMED
    final = after.evolve(verified_ms=asked_ms, zero_ms=NEVER)
    closed = state.evolve(answered=final, channels=channels, flags=flags | CONFIRMED, last=last)
    return _observed(closed, observed, asked_ms, now_ms), CORRECTED


def _agreed_offline(
    state: ClientState, known: Answered, asked_ms: int, now_ms: int, policy: Policy, last: int
) -> ClientState:
    """It is offline: that was believed, or nothing was known."""
    flags = state.flags & ~UNVERIFIED
    zero_ms = NEVER
    if state.on_hold:
        zero_ms = asked_ms if known.zero_ms == NEVER else known.zero_ms
        if asked_ms >= zero_ms + policy.confirm_after_ms:
            flags |= CONFIRMED
    agreed = known.without_undo().evolve(
        asked_ms=asked_ms, verified_ms=asked_ms, connections=0, zero_ms=zero_ms, anonymous_ms=NEVER
    )
    after = state.evolve(answered=agreed, flags=flags, last=last)
    return _observed(after, OFFLINE, asked_ms, now_ms) if state.observed == NOT_KNOWN else after


def _observed(state: ClientState, observed: int, occurred_at_ms: int, now_ms: int) -> ClientState:
    """Another observed status: a hold begins, or one is reverted. Corrections do not count as changes for flapping."""
    if observed == state.settled:
        return state.evolve(
            observed=observed, hold_since_ms=NEVER, hold_occurred_at_ms=NEVER, flaps=state.flaps + 1, last=state.last
        )
    return state.evolve(observed=observed, hold_since_ms=now_ms, hold_occurred_at_ms=occurred_at_ms, last=state.last)
