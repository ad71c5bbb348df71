"""The attempts of a delivery as its row keeps them: JSON text, the newest `MAX_ATTEMPTS_KEPT`, oldest first."""

from __future__ import annotations

import msgspec

from engine.core.delivery import (
    MAX_ANSWER_CHARS,
    MAX_ATTEMPTS_KEPT,
    Delivered,
    Expired,
    Outcome,
    RetryLater,
    Untried,
    kept_text,
)
from engine.stores.rows import Attempt

_decode = msgspec.json.Decoder(list[tuple[int, int | None, str, str | None]]).decode


def one(outcome: Outcome) -> str | None:
    """One attempt as JSON; None for what was no attempt."""
    answer = outcome.answer
    if isinstance(answer, Expired | Untried):
        return None
    if isinstance(answer, Delivered):
        kind, said = "delivered", answer.detail
    else:
        kind, said = ("retry later" if isinstance(answer, RetryLater) else "rejected"), answer.reason
    kept = kept_text(said, MAX_ANSWER_CHARS) if said else None
    return msgspec.json.encode((outcome.attempted_at_ms, outcome.duration_ms, kind, kept)).decode()


def with_one_more(tries: str | None, attempt: str | None) -> str | None:
    """The kept text with an attempt added at its end."""
    if attempt is None:
        return tries
    try:
        kept = msgspec.json.decode(tries, type=list[msgspec.Raw]) if tries else []
    except msgspec.MsgspecError:
        kept = []
    return msgspec.json.encode([*kept, msgspec.Raw(attempt.encode())][-MAX_ATTEMPTS_KEPT:]).decode()


def attempts_of(tries: str | None) -> tuple[Attempt, ...]:
    """The attempts that a row keeps; none when they cannot be read."""
    if not tries:
        return ()
    try:
        return tuple(Attempt(*entry) for entry in _decode(tries))
    except msgspec.MsgspecError:
        return ()
