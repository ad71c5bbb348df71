"""Positions in the history, and facts: what is journalled beside events so that a restart arrives at the same states."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.core.presence.query import StatusAnswer

FACT_OFFSET: Final = 1 << 19
"""History positions of facts start here inside a journal row; those of events start at 0."""

POSITION_BITS: Final = 20
"""A history position is the journal row's id shifted by this, plus the place inside the row."""

SETTLED: Final = "settled"
CALMED: Final = "calmed"
FORGOTTEN: Final = "forgotten"
ANSWERED: Final = "answered"


class Fact(NamedTuple):
    """Something that happened to a client because time passed, or that a query said: what recovery applies again."""

    after: int  # events of the same journal row that came before it
    kind: str
    client: str
    at_ms: int
    previous: int  # history position of the client's entry before this one
    answer: tuple[int, int, bool] | None = None  # (asked_at_ms, connections or -1, is it listed) of an ANSWERED one


def answer_of(fact: Fact) -> StatusAnswer:
    """The answer that a fact of kind ANSWERED keeps. ValueError for any other."""
    if fact.answer is None:
        raise ValueError(f"{fact.kind} is no answer")
    asked_ms, count, is_listed = fact.answer
    return StatusAnswer(fact.client, asked_ms, fact.at_ms, None if count < 0 else count, is_listed)
