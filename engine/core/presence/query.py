"""Synchronous queries and their answers, as values: which client to query and why, the answer, and what it meant.

`StatusAnswer` is a stimulus like an event. Its life: the fleet requests a query (`Fleet.take_query_requests`) or the reconciler
does, the shell queries within the budget, and `Fleet.answer` takes the answer and returns a verdict.
"""

from __future__ import annotations

from typing import Final, NamedTuple

VERIFY: Final = "verify"
"""Why: a rule wants to be sure before it pages."""
DOUBT: Final = "doubt"
"""Why: a doubtful client is about to settle offline."""
CONFIRM: Final = "confirm"
"""Why: an answer contradicted the belief and is asked for once more."""
HELD: Final = "held"
"""Why: its hold is kept longer than `feed.max_hold` because the feed is behind."""

AGREED: Final = "agreed"
"""Verdict: the answer says what was believed."""
CORRECTED: Final = "corrected"
"""Verdict: the belief was wrong and is another now."""
UNCONFIRMED: Final = "unconfirmed"
"""Verdict: it contradicts the belief; the same question is to be asked once more, see `QueryRequest`."""
STALE: Final = "stale"
"""Verdict: something newer than the question is known about the client; the answer changed nothing."""
UNKNOWN: Final = "unknown"
"""Verdict: the query could not say, or failed; the belief stands and the client is unverified."""
IGNORED: Final = "ignored"
"""Verdict: the client is unknown: no event named it, no row of the inventory does, and the broker has no connection."""


class QueryRequest(NamedTuple):
    """One client to be queried, not before `at_ms`."""

    client: str
    why: str  # verify, doubt, confirm or held
    at_ms: int


class StatusAnswer(NamedTuple):
    """What a query said, after its retries. `connections`: how many there are; None: unknown, or the query failed."""

    client: str
    asked_at_ms: int
    answered_at_ms: int
    connections: int | None
    is_listed: bool = False  # does a row of the inventory name the client?
