"""A delivery's life: what each answer, deadline and operator's act makes of it.

    held ──release──► due ──Delivered───► delivered
      │                │ ──RetryLater──► due, later; dead when that would be past the deadline
      │                └── Rejected ───► dead ──retry──► due
      └──discard──► discarded ◄──discard── due, dead           shadow: computed and recorded, never sent

A `delivered`, `shadow` or `discarded` delivery never changes again. Read `TABLE` first, then `next_state` and `backoff_ms`.

Deliveries of one lane (rule, client or key, target) leave in the order of their ids: those that are `due` or `held` make
later ones wait. The recovery of a firing that is dead is dead too: its recipients never got the firing;
unless an attempt of the firing may have arrived (it timed out after it was written): then the recovery goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.foreign_text import foreign_text
from engine.errors import RollcallError

DUE, DELIVERED, DEAD, HELD, SHADOW, DISCARDED = ("due", "delivered", "dead", "held", "shadow", "discarded")
STATES = (DUE, DELIVERED, DEAD, HELD, SHADOW, DISCARDED)

RELEASE, DISCARD, RETRY = "release", "discard", "retry"
TABLE: dict[tuple[str, str], str] = {
    (HELD, RELEASE): DUE,
    (HELD, DISCARD): DISCARDED,
    (DUE, DISCARD): DISCARDED,
    (DEAD, RETRY): DUE,
    (DEAD, DISCARD): DISCARDED,
}
"""What an operator may do: (state, act) -> state. Every other pair is an `IllegalTransition`."""

FIRST_RETRY_MS = 1_000
"""About how long the first retry waits: most trouble is a restart of the target."""

LONGEST_RETRY_MS = 15 * 60_000
"""The longest wait between two attempts: a target that is back is noticed within a quarter of an hour."""

LONGEST_RETRY_AFTER_MS = 60 * 60_000
"""A target may ask for an hour of quiet, not more."""

MAX_AGE_MS = 24 * 3_600_000
assert FIRST_RETRY_MS < LONGEST_RETRY_MS < LONGEST_RETRY_AFTER_MS < MAX_AGE_MS

LIFE = "expires_ms"
"""The key of a request that may only be sent for so long after its decision (milliseconds): a command to a device."""

TRIES_IN_A_LIFE = 8
"""A request with a life of its own waits at most this part of it between two attempts, so that it is used for trying."""

LONGEST_RETRY_IN_A_LIFE_MS = 15_000
"""And never longer than this: what cannot wait for ever is not forgotten for minutes either."""

MAX_ERROR_CHARS = 500
"""Of an error kept with a delivery: enough to see what the target said."""

MAX_ATTEMPTS_KEPT = 20
"""Attempts that are kept of one delivery: the newest. Their number is not limited."""

MAX_ANSWER_CHARS = 200
"""Of the answer kept with an attempt."""


class IllegalTransition(RollcallError):
    """An act that this state of a delivery does not allow; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The target took it. `detail`: what is worth knowing all the same, such as one recipient that was refused."""

    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLater:
    """Not now: network trouble, 408, 425, 429, 5xx. `may_have_arrived` when an attempt may have been taken (a timeout)."""

    reason: str
    retry_after_ms: int | None = None
    may_have_arrived: bool = False
    our_fault: bool = False  # a missing secret, a sender that died: it says nothing about the target


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Never: the target, or our own policy, refuses this delivery for good."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """No attempt was made: its deadline passed before it could be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untried:
    """No attempt was made and nothing changes: its target is in trouble, or another replica may be the one that sends now."""


Answer = Delivered | RetryLater | Rejected
"""What one attempt came to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxItem:
    """One rendered delivery, due. `request` is what the renderer wrote, secrets still as markers."""

    id: int
    key: str  # deterministic; sent as Idempotency-Key
    rule: str
    lane: str  # deliveries of one lane leave in the order of their ids
    action: str  # notify, webhook, email, command or log
    target: str  # scheme://host:port/literal/path (smtp: of an e-mail), or "log"
    request: Mapping[str, Any]
    attempts: int  # made before this one, since `decided_at_ms`
    decided_at_ms: int  # its age counts from here: the decision, or an operator's newest retry or release
    phase: str  # firing, recovery, reminder or summary
    alert: str
    broken: str | None = None  # why it can never be sent: what the outbox holds of it cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one item. What a store is given is never Untried; the next state follows from `next_state`."""

    id: int
    answer: Answer | Expired | Untried
    attempted_at_ms: int  # when the attempt ended
    duration_ms: int | None = None  # how long it took; None: not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How long to go on: `max_age_ms` after the decision it is dead; waits grow from `first_ms` to `longest_ms`."""

    max_age_ms: int = MAX_AGE_MS
    first_ms: int = FIRST_RETRY_MS
    longest_ms: int = LONGEST_RETRY_MS


DEFAULT_POLICY = DeliveryPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a delivery stands: what decides its future. Instants are epoch milliseconds."""

    state: str
    attempts: int  # made so far
    due_at_ms: int
    decided_at_ms: int  # its age counts from here: the decision, or an operator's newest retry or release
    attempts_before: int = 0  # of `attempts`, those before that instant
    may_have_arrived: bool = False
    last_error: str | None = None
    life_ms: int | None = None  # None: no shorter than the policy's


def life_of(request: Mapping[str, Any]) -> int | None:
    """How long after its decision a request may be sent, in milliseconds; None: as long as any."""
    found = request.get(LIFE)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def backoff_ms(attempts: int, jitter: float, policy: DeliveryPolicy = DEFAULT_POLICY) -> int:
    """How long to wait after `attempts` failed ones, in milliseconds.

    It doubles from attempt to attempt; `jitter` (0 to 1) places it between one half and all of that, so that many
    deliveries that failed together do not come back together. Raises ValueError for a jitter outside 0..1.
    """
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter lies between 0 and 1, not {jitter}")
    # 2^30 first waits are beyond every cap; the bound keeps the number small.
    whole = min(policy.longest_ms, policy.first_ms << min(max(attempts - 1, 0), 30))
    return round(whole * (1 + jitter) / 2)


def deadline_ms(decided_at_ms: int, policy: DeliveryPolicy, life_ms: int | None = None) -> int:
    """The instant (epoch milliseconds) from which a delivery is not worth sending any more; `life_ms` can only shorten it."""
    return decided_at_ms + (policy.max_age_ms if life_ms is None else min(life_ms, policy.max_age_ms))


def next_state(
    row: Standing, answer: Answer, now_ms: int, jitter: float, policy: DeliveryPolicy = DEFAULT_POLICY
) -> Standing:
    """Where a delivery stands after one attempt that ended at `now_ms`.

    Raises IllegalTransition when it was not due: someone else decided meanwhile, and that stands.
    """
    if row.state != DUE:
        raise IllegalTransition(f"an attempt of a delivery that is {row.state}, not due")
    attempts = row.attempts + 1
    if isinstance(answer, Delivered):
        return _moved(row, DELIVERED, attempts, now_ms, row.may_have_arrived, answer.detail or None)
    if isinstance(answer, Rejected):
        return _moved(row, DEAD, attempts, now_ms, row.may_have_arrived, answer.reason)
    arrived = row.may_have_arrived or answer.may_have_arrived
    wait = backoff_ms(attempts - row.attempts_before, jitter, policy)
    if row.life_ms is not None:
        wait = min(wait, LONGEST_RETRY_IN_A_LIFE_MS, max(1, row.life_ms // TRIES_IN_A_LIFE))
    if answer.retry_after_ms is not None:
        wait = max(wait, min(answer.retry_after_ms, LONGEST_RETRY_AFTER_MS))
    if now_ms + wait > deadline_ms(row.decided_at_ms, policy, row.life_ms):
        return _moved(row, DEAD, attempts, now_ms, arrived, f"given up after {attempts} attempts: {answer.reason}")
    return _moved(row, DUE, attempts, now_ms + wait, arrived, answer.reason)


def expired(row: Standing, now_ms: int, policy: DeliveryPolicy = DEFAULT_POLICY) -> Standing | None:
    """The dead delivery that one becomes whose deadline passed before it could be sent; None while there is time."""
    if row.state != DUE or now_ms < deadline_ms(row.decided_at_ms, policy, row.life_ms):
        return None
    return _moved(row, DEAD, row.attempts, now_ms, row.may_have_arrived, too_old(row.last_error))


def too_old(last_error: str | None) -> str:
    """The reason of a delivery that passed its deadline between two attempts."""
    return "too old to be sent" + (f"; before that: {last_error}" if last_error else "")


def act(row: Standing, what: str, now_ms: int) -> Standing:
    """Where a delivery stands after an operator's act (`release`, `discard`, `retry`) at `now_ms`.

    After a retry or a release the age and the pauses count from now; the attempts that were made stay counted. Raises IllegalTransition for a pair that `TABLE` does not name.
    """
    state = TABLE.get((row.state, what))
    if state is None:
        raise IllegalTransition(f"a delivery that is {row.state} takes no {what}")
    if what == DISCARD:
        return _moved(row, state, row.attempts, row.due_at_ms, row.may_have_arrived, row.last_error)
    return Standing(
        state=state,
        attempts=row.attempts,
        attempts_before=row.attempts,
        due_at_ms=now_ms,
        decided_at_ms=now_ms,
        may_have_arrived=row.may_have_arrived,
        last_error=row.last_error,
        life_ms=row.life_ms,
    )


def origin_of(target: str) -> str:
    """Scheme, host and port of a webhook's target: what older versions called its target. Other targets are returned as they are."""
    scheme, found, rest = target.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if found else target


def takes_recovery_along(firing: Standing) -> bool:
    """Whether a firing's fate means that its recovery must not be sent (unless another firing arrived)."""
    return firing.state in (DEAD, DISCARDED) and not firing.may_have_arrived


def audience(to: object, cc: object) -> frozenset[str]:
    """Whom a request reaches where one target serves many: an e-mail's addresses (lists), a command's device (a text).

    Nobody in particular for what names none, such as a webhook.
    """
    if isinstance(to, str):
        return frozenset({to}) if to else frozenset()
    people: set[str] = set()
    for part in (to, cc):
        if isinstance(part, list):
            people.update([str(address).lower() for address in part])  # a mailbox is one however it is written
    return frozenset(people)


def never_heard(
    people: frozenset[str], lost: Sequence[tuple[frozenset[str], bool]], arrived: Sequence[frozenset[str]]
) -> bool:
    """Whether the recipients of a recovery certainly never got a firing, and never will: the recovery must not be sent.

    `lost`: the recipients of each firing that is dead or discarded, and whether it may have arrived all the same. `arrived`: the
    recipients of firings that were delivered or still may be. Firings for one of these people count; when there is none, all of the target.
    """
    got = [*arrived, *[some for some, may_have_arrived in lost if may_have_arrived]]
    missed = [some for some, may_have_arrived in lost if not may_have_arrived]
    if people and any(people & some for some in [*got, *missed]):
        got = [some for some in got if people & some]
        missed = [some for some in missed if people & some]
    return bool(missed) and not got


def kept_text(said: str, limit: int) -> str:
    """What an answer or an error said, as it is kept: text that can be stored and read, of at most `limit` characters.

    A part that is no text, such as a compressed page, is left out and named.
    """
    unreadable = _UNREADABLE.findall(said)
    if len(unreadable) * 8 > len(said):
        readable = said[: said.index(unreadable[0])]
        return foreign_text(f"{readable}{NOT_SHOWN}", limit)
    # Bytes that a library kept as halves of surrogate pairs are shown as the bytes that they were.
    return foreign_text(said.encode("utf-8", "surrogateescape") if _KEPT_BYTE.search(said) else said, limit)


NOT_SHOWN = "(compressed or binary body, not shown)"
_UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\x80-\x9f\ufffd]")
_KEPT_BYTE = re.compile(r"^[^\ud800-\udfff]*[\udc80-\udcff][^\ud800-\udc7f\udd00-\udfff]*$")

RECOVERY_DIES = "its firing was never delivered"
"""The reason of a recovery that a dead firing took along."""


def _moved(row: Standing, state: str, attempts: int, due_at_ms: int, arrived: bool, error: str | None) -> Standing:
    return Standing(
        state=state,
        attempts=attempts,
        due_at_ms=due_at_ms,
        decided_at_ms=row.decided_at_ms,
        attempts_before=row.attempts_before,
        may_have_arrived=arrived,
        last_error=kept_text(error, MAX_ERROR_CHARS) if error is not None else None,
        life_ms=row.life_ms,
    )
