"""A client's history: what each event changed, what the passing of time changed, and why. Pure.

Entries of the store are applied again, oldest first, by the functions that applied them when they came (`debounce.learn`,
`settle`, `calm`), at their own instants. Changes that were due to time are entries as well and are not decided again, so this
agrees with what happened. Read `retrace` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from engine.core.events import CONNECT, TCPCLEAN, LifecycleEvent
from engine.core.history import ANSWERED, CALMED, FORGOTTEN, SETTLED, STEPPED
from engine.core.presence import clock_step, debounce, query_result
from engine.core.presence.client_state import NEW_CLIENT, STATUS_NAMES, ClientState, Transition
from engine.core.presence.debounce import Policy
from engine.core.presence.evidence import ANSWER, Reading, readings
from engine.core.presence.query import AGREED, CORRECTED, STALE, UNCONFIRMED, UNKNOWN, StatusAnswer
from engine.core.times import rfc3339, stepped_text
from engine.stores.base import HistoryEntry

Decode = Callable[[list[bytes], int], list[LifecycleEvent]]
"""Stored texts and the instant at which they were received -> events."""

Words = Callable[[Reading], str]
"""Why an event or an answer was used as it was, as a sentence."""

SUPERSEDED = "of a channel that a newer connect has superseded"
KNOWN = "a duplicate of an earlier event"
VERDICTS = {
    AGREED: "the answer confirmed the status",
    CORRECTED: "the status was wrong, and was corrected",
    UNCONFIRMED: "the answer contradicted the status: the client is queried again to confirm it",
    UNKNOWN: "the query failed or had no usable answer: the status is unchanged",
    STALE: "the answer was ignored: a newer event had already arrived",
}
"""What the answer of a query meant when it came."""


class Step(NamedTuple):
    """One entry of the history with the client's state before and after it."""

    entry: HistoryEntry
    event: LifecycleEvent | None  # None: a fact
    transition: Transition | None  # what a settling brought
    before: ClientState
    after: ClientState
    verdict: str | None = None  # what an answer meant


def retrace(
    entries: Iterable[HistoryEntry], decode: Decode, policy: Policy, client: str, state: ClientState = NEW_CLIENT
) -> Iterator[Step]:
    """Apply entries again, given oldest first, to the state before the first one."""
    for entry in entries:
        before, event, transition, verdict = state, None, None, None
        if entry.raw is not None:
            events = decode([entry.raw], entry.at_ms)
            if not events:
                continue  # accepted by another version that knew more types of events
            event = events[0]
            _, kind, occurred_ms, channel, ip = event
            state = debounce.learn(state, kind, occurred_ms, channel, ip, entry.at_ms, policy, entry.position)
        elif entry.fact == SETTLED and state.on_hold:
            state, transition = debounce.settle(state, client, entry.at_ms, entry.position)
        elif entry.fact == STEPPED and entry.answer is not None:
            state = clock_step.moved(state, entry.answer[0], entry.at_ms, entry.position)
        elif entry.answer is not None:
            asked_ms, count, is_listed = entry.answer
            answer = StatusAnswer(client, asked_ms, entry.at_ms, None if count < 0 else count, is_listed)
            state, verdict = query_result.take(state, answer, entry.at_ms, policy, entry.position)
        elif entry.fact == CALMED:
            state = debounce.calm(state, entry.position)
        elif entry.fact == FORGOTTEN:
            state = NEW_CLIENT
        yield Step(entry, event, transition, before, state, verdict)


def step_object(step: Step, skew_ms: int, words: Words, *, from_the_start: bool) -> dict[str, Any]:
    """One entry as the timeline shows it. `from_the_start`: the state before it is known, because the whole history is kept."""
    entry, event = step.entry, step.event
    if event is not None:
        used, why = reading_of(event, step.before, step.after, skew_ms, words)
        return {
            "position": entry.position,
            "at": rfc3339(entry.at_ms),
            "kind": "event",
            "type": event.type,
            "time": rfc3339(event.occurred_at_ms),
            "channel": event.channel,
            "ip": event.ip,
            "source": entry.source,
            "used": used,
            "why": why,
        }
    found: dict[str, Any] = {"position": entry.position, "at": rfc3339(entry.at_ms), "kind": entry.fact}
    if entry.fact == ANSWERED and entry.answer is not None:
        asked_ms, count, _ = entry.answer
        found |= {
            "asked_at": rfc3339(asked_ms),
            "connections": None if count < 0 else count,
            "used": step.verdict not in (UNKNOWN, STALE),
            "why": VERDICTS.get(step.verdict or "", ""),
        }
    if entry.fact == STEPPED and entry.answer is not None:
        found |= {
            "step_ms": entry.answer[0],
            "why": f"{stepped_text(entry.answer[0])}: what waited goes on as long as before",
        }
    if entry.fact == SETTLED:
        found |= _settled(step.transition, from_the_start)
    return found


def _settled(transition: Transition | None, from_the_start: bool) -> dict[str, Any]:
    """The facts of a transition; those that need history that has expired are null."""
    if transition is None:
        return dict.fromkeys(("status", "previous", "occurred_at", "since", "graceful", "flaps", "first_seen"))
    certain = from_the_start or not transition.first_seen
    return {
        "status": STATUS_NAMES[transition.status],
        "previous": STATUS_NAMES[transition.previous] if certain else None,
        "occurred_at": rfc3339(transition.occurred_at_ms),
        "since": rfc3339(transition.since_ms),
        "graceful": transition.graceful,
        "flaps": transition.flaps,
        "first_seen": transition.first_seen if certain else None,
    }


def reading_of(
    event: LifecycleEvent, before: ClientState, after: ClientState, skew_ms: int, words: Words
) -> tuple[bool, str]:
    """How an event was interpreted when it came: (was it used, why)."""
    if after.channels == before.channels:
        known = any(channel.id == event.channel for channel in before.channels)
        return False, KNOWN if known else SUPERSEDED
    for reading in readings(after, skew_ms):
        if (reading.type, reading.time_ms, reading.channel) == (event.type, event.occurred_at_ms, event.channel):
            return reading.used, words(reading)
    return False, SUPERSEDED


def evidence_objects(steps: Sequence[Step], state: ClientState, skew_ms: int, words: Words) -> list[dict[str, Any]]:
    """The evidence for a status: every event of the history and what it means now, oldest first.

    Evidence whose entry has expired comes without `received_at`.
    """
    kept = {(reading.type, reading.time_ms, reading.channel): reading for reading in readings(state, skew_ms)}
    seen: set[tuple[str, int, str]] = set()
    found = []
    for step in steps:
        if step.event is None:
            continue
        event = step.event
        key = (event.type, event.occurred_at_ms, event.channel)
        if key in kept and key not in seen:
            seen.add(key)
            used, why = kept[key].used, words(kept[key])
        else:
            used, why = False, KNOWN if key in seen else _why_gone(event, state)
        found.append(_evidence_object(event.type, event.occurred_at_ms, event.channel, used, why, step.entry.at_ms))
    missing: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for key, reading in kept.items():
        if key in seen:
            continue
        grounds = (reading.type, reading.time_ms, reading.channel, reading.used, words(reading))
        if reading.type == ANSWER:
            answers.append(_evidence_object(*grounds, reading.time_ms))
        else:
            missing.append(_evidence_object(*grounds, None))
    return missing + found + answers


def _why_gone(event: LifecycleEvent, state: ClientState) -> str:
    """Why an event is not used any more."""
    for channel in state.channels:
        if channel.id == event.channel:
            return "a later event of the same type and channel is used"
    if event.type == CONNECT:
        return "superseded by a newer connect"
    return "closed " + SUPERSEDED.removeprefix("of ") if event.type == TCPCLEAN else SUPERSEDED


def _evidence_object(
    kind: str, time_ms: int, channel: str, used: bool, why: str, received_ms: int | None
) -> dict[str, Any]:
    return {
        "type": kind,
        "time": rfc3339(time_ms),
        "channel": channel,
        "used": used,
        "why": why,
        "received_at": rfc3339(received_ms) if received_ms is not None else None,
    }
