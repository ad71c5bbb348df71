"""Positions in the history, and facts: what is journalled beside events so that a restart arrives at the same states.

Read `Fact`, then `apply_row`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from engine.core.events import CONNECT, EventFields
from engine.core.presence import clock_step, debounce, query_result
from engine.core.presence.client_state import ClientState
from engine.core.presence.debounce import Policy, learn
from engine.core.presence.query import StatusAnswer

FACT_OFFSET: Final = 1 << 19
"""History positions of facts start here inside a journal row; those of events start at 0."""

POSITION_BITS: Final = 20
"""A history position is the journal row's id shifted by this, plus the place inside the row."""

SETTLED: Final = "settled"
CALMED: Final = "calmed"
FORGOTTEN: Final = "forgotten"
ANSWERED: Final = "answered"
STEPPED: Final = "stepped"
"""The wall clock was set. One without a client says so; one for each client whose instants were moved by it follows."""


class Fact(NamedTuple):
    """Something that happened to a client because time passed, or that a query said: what recovery applies again."""

    after: int  # events of the same journal row that came before it
    kind: str
    client: str
    at_ms: int
    previous: int  # history position of the client's entry before this one
    # (asked_at_ms, connections or -1, is it listed) of an ANSWERED one; (milliseconds, 0, False) of a STEPPED one
    answer: tuple[int, int, bool] | None = None


def answer_of(fact: Fact) -> StatusAnswer:
    """The answer that a fact of kind ANSWERED keeps. ValueError for any other."""
    if fact.answer is None or fact.kind != ANSWERED:
        raise ValueError(f"{fact.kind} is no answer")
    asked_ms, count, is_listed = fact.answer
    return StatusAnswer(fact.client, asked_ms, fact.at_ms, None if count < 0 else count, is_listed)


def step_of(facts: Sequence[Fact]) -> int:
    """By how much the wall clock was set in a journal row; 0: it was not."""
    for fact in facts:
        if fact.kind == STEPPED and fact.answer is not None:
            return fact.answer[0]
    return 0


def stays_forgotten(forgotten_ms: int, kind: str, occurred_at_ms: int) -> bool:
    """Does an event leave a client forgotten that was forgotten at an instant? Only a newer connect brings it back."""
    return kind != CONNECT or occurred_at_ms <= forgotten_ms


def apply_row(
    states: dict[str, ClientState],
    journal_id: int,
    events: Sequence[EventFields],
    facts: Sequence[Fact],
    now_ms: int,
    policy: Policy,
    forgotten: dict[str, int] | None = None,
) -> None:
    """Apply one journal row again to the states; clients whose loaded state contains the row already are skipped.

    `forgotten`: clients that were forgotten, and when; the row's own are added.
    """
    forgotten = {} if forgotten is None else forgotten
    missing: dict[str, bool] = {}  # does the client's loaded state lack this row?
    row = journal_id << POSITION_BITS
    upcoming = 0
    for place, (client, kind, occurred_at_ms, channel, ip) in enumerate(events):
        while upcoming < len(facts) and facts[upcoming].after <= place:
            _apply_fact(states, row + FACT_OFFSET + upcoming, facts[upcoming], missing, policy, forgotten)
            upcoming += 1
        known = states.get(client)
        if known is None and client in forgotten:
            if stays_forgotten(forgotten[client], kind, occurred_at_ms):
                continue
            del forgotten[client]
        state = known or ClientState(client=client)
        if missing.setdefault(client, state.last < row):
            states[client] = learn(state, kind, occurred_at_ms, channel, ip, now_ms, policy, row + place)
    while upcoming < len(facts):
        _apply_fact(states, row + FACT_OFFSET + upcoming, facts[upcoming], missing, policy, forgotten)
        upcoming += 1


def _apply_fact(
    states: dict[str, ClientState],
    position: int,
    fact: Fact,
    missing: dict[str, bool],
    policy: Policy,
    forgotten: dict[str, int],
) -> None:
    if fact.kind == FORGOTTEN:
        forgotten[fact.client] = fact.at_ms
    state = states.get(fact.client)
    if state is None:
        if fact.kind != ANSWERED:
            return
        state = ClientState(client=fact.client)  # only an answer ever named it
    if not missing.setdefault(fact.client, state.last < position >> POSITION_BITS << POSITION_BITS):
        return
    if fact.kind == ANSWERED:
        states[fact.client] = query_result.take(state, answer_of(fact), fact.at_ms, policy, position)[0]
    elif fact.kind == FORGOTTEN:
        del states[fact.client]
    elif fact.kind == STEPPED:
        step_ms = fact.answer[0] if fact.answer is not None else 0
        states[fact.client] = clock_step.moved(state, step_ms, fact.at_ms, position)
    elif fact.kind == CALMED:
        states[fact.client] = debounce.calm(state, position)
    elif state.on_hold:
        states[fact.client] = debounce.settle(state, fact.client, fact.at_ms, position)[0]
