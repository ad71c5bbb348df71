"""What the engine and the process that sends webhooks say to each other, over the child's standard input and output.

Frames (`engine.core.frames`) of MessagePack. The first frame is a `SenderSetup` (it holds the secrets: they stand on no
command line and in no environment), every other frame to the child is a list of `Job` or a number, and every frame back a list of `Result`. An empty list of jobs is a ping, which the
child answers with the results that it has, perhaps none. A number is the instant (seconds of `engine.clock.running_ms`) from which on nothing
more may be sent: the lease of a replica that shares its store with others.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from engine.actions.base import Answer, Delivered, Outcome, Rejected, RetryLater, Untried
from engine.actions.receiver_setup import ReceiverSetup
from engine.actions.webhook.connection_setup import ConnectionSetup
from engine.core.delivery import LONGEST_RETRY_AFTER_MS

USER_AGENT: Final = "rollcall/0.1.0"
"""What webhooks say of who sends them."""

MAX_FRAME_BYTES: Final = 256 * 2**20
"""Neither side sends longer frames: one that is longer is not a frame, and the stream cannot be read any more."""

DELIVERED, RETRY_LATER, REJECTED, UNTRIED = 0, 1, 2, 3

WEBHOOK, NOTIFY = "webhook", "notify"
"""The kinds of action that the child carries out."""


class SenderSetup(msgspec.Struct, array_like=True):
    """The first frame: how to send, and what to log."""

    secrets: dict[str, str]
    deny: list[str]
    user_agent: str
    per_target: int
    log_level: str = "info"
    connections: dict[str, ConnectionSetup] = {}  # by name; see `connecting`
    receivers: dict[str, ReceiverSetup] = {}  # by name


class Job(msgspec.Struct, array_like=True, gc=False):
    """One item, as much of it as sending needs."""

    id: int
    key: str
    target: str
    request: dict[str, Any]
    action: str = WEBHOOK


class Result(msgspec.Struct, array_like=True, gc=False):
    """The result of one job. `kind` is DELIVERED, RETRY_LATER, REJECTED or UNTRIED."""

    id: int
    kind: int
    attempted_at_ms: int
    reason: str = ""
    retry_after_ms: int | None = None
    may_have_arrived: bool = False
    our_fault: bool = False
    duration_ms: int | None = None


def to_result(id_: int, answer: Answer, at_ms: int, duration_ms: int | None = None) -> Result:
    """An answer in the form that is sent through the pipe, which holds no halves of surrogate pairs."""
    if isinstance(answer, Delivered):
        return Result(id_, DELIVERED, at_ms, answer.detail, duration_ms=duration_ms)
    reason = answer.reason.encode("utf-8", "backslashreplace").decode()
    if isinstance(answer, Rejected):
        return Result(id_, REJECTED, at_ms, reason, duration_ms=duration_ms)
    after_ms = None if answer.retry_after_ms is None else min(answer.retry_after_ms, LONGEST_RETRY_AFTER_MS)
    return Result(id_, RETRY_LATER, at_ms, reason, after_ms, answer.may_have_arrived, answer.our_fault, duration_ms)


_TAKEN, _UNTRIED = Delivered(), Untried()


def to_outcome(result: Result) -> Outcome:
    """The outcome that a result stands for: the reverse of `to_result`."""
    answer: Answer | Untried = _TAKEN if not result.reason else Delivered(detail=result.reason)
    if result.kind == UNTRIED:
        answer = _UNTRIED
    elif result.kind == REJECTED:
        answer = Rejected(reason=result.reason)
    elif result.kind == RETRY_LATER:
        answer = RetryLater(
            reason=result.reason,
            retry_after_ms=result.retry_after_ms,
            may_have_arrived=result.may_have_arrived,
            our_fault=result.our_fault,
        )
    return Outcome(id=result.id, answer=answer, attempted_at_ms=result.attempted_at_ms, duration_ms=result.duration_ms)
