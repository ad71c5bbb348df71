"""What becomes of one client's instants when our own clock was set. Pure; read `moved`.

The broker's instants are not ours and stay: when channels were connected and closed, when a change occurred. Of ours,

- what waits is moved by the whole step, so that it waits as long as before: a hold, an answer that is to be confirmed, a correction
  that may be undone;
- what is past stays as it was written down, unless it would lie in the future now: then it is moved too. An answer that was asked
  for ten years ahead of its time would else be newer than all that follow.
"""

from __future__ import annotations

from engine.core.presence.client_state import NEVER, Answered, ClientState


def moved(state: ClientState, step_ms: int, now_ms: int, last: int) -> ClientState:
    """The state after our clock was set by `step_ms` and shows `now_ms`; the same object when nothing in it moves.

    `last`: the position of that in the history.
    """
    hold_since_ms = _waiting(state.hold_since_ms, step_ms)
    since_ms = _past(state.since_ms, step_ms, now_ms)
    settled_at_ms = _past(state.settled_at_ms, step_ms, now_ms)
    heard_ms = state.heard_ms
    if heard_ms > now_ms:
        heard_ms = heard_ms + step_ms
        for channel in state.channels:  # what the broker said stays as new as it is
            heard_ms = max(heard_ms, channel.connect_ms)
            heard_ms = max(heard_ms, max(channel.close_ms, channel.goodbye_ms))
        heard_ms = min(heard_ms, state.heard_ms)
    answered = state.answered
    if answered is not None:
        answered = _answered(answered, step_ms, now_ms)
    if (
        hold_since_ms == state.hold_since_ms
        and since_ms == state.since_ms
        and settled_at_ms == state.settled_at_ms
        and heard_ms == state.heard_ms
        and answered is state.answered
    ):
        return state
    return state.evolve(
        since_ms=since_ms,
        settled_at_ms=settled_at_ms,
        hold_since_ms=hold_since_ms,
        heard_ms=heard_ms,
        answered=answered,
        last=last,
    )


def _answered(answered: Answered, step_ms: int, now_ms: int) -> Answered:
    after = answered.evolve(
        asked_ms=_past(answered.asked_ms, step_ms, now_ms),
        verified_ms=_past(answered.verified_ms, step_ms, now_ms),
        void_ms=_past(answered.void_ms, step_ms, now_ms),
        anonymous_ms=_past(answered.anonymous_ms, step_ms, now_ms),
        zero_ms=_waiting(answered.zero_ms, step_ms),
        undo_since_ms=_waiting(answered.undo_since_ms, step_ms),
    )
    return answered if after == answered else after


def _waiting(instant_ms: int, step_ms: int) -> int:
    return instant_ms if instant_ms == NEVER else instant_ms + step_ms


def _past(instant_ms: int, step_ms: int, now_ms: int) -> int:
    return instant_ms + step_ms if instant_ms > now_ms else instant_ms
