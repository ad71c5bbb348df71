"""Runs scenarios: the live code on virtual time, each test from an empty state at its own start.

A run is a replay whose input is a test: the clock is the running maximum of received times and never goes back, every
source is always caught up, and nothing leaves. What is due at or before an instant happens before what is done then:
what is asked is answered, then operators act, then events come. Read `Bench.run`, then `_Run.play`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.core.alerting.silences import Silence
from engine.core.presence.client_state import Transition
from engine.core.presence.query import StatusAnswer
from engine.core.times import FOREVER
from engine.replay.runner import Compiled, Replay, Terms
from engine.replay.scenarios.diff import Pair, Seen, compared, offset
from engine.replay.scenarios.event_line import Row
from engine.replay.scenarios.file import Act, Expected, Scenario, ScenarioFile, SilenceAct
from engine.replay.scenarios.queries import ROLL, Queries

INPUTS = frozenset({"event", "answer", "act"})
"""Types of timeline lines that say what happened to the fleet; all others say what came of it."""


OPERATOR = "scenario"
"""Who acts, where a scenario does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a test saw, and how that differs from what it expected.

    `timeline` has every line in order: what was done and what followed. `pairs` are of places in it: what was expected of
    deliveries and alerts beside what was seen.
    """

    scenario: Scenario
    timeline: tuple[Seen, ...]
    pairs: tuple[Pair, ...]

    @property
    def passed(self) -> bool:
        """Is all as expected?"""
        return not any(pair.why for pair in self.pairs)


class Bench:
    """What the tests of one file share: rules and templates, compiled once."""

    def __init__(self, file: ScenarioFile) -> None:
        self._terms = Terms(
            policy=file.policy,
            rules=file.rules,
            inventory=file.inventory,
            max_future_ms=file.max_future_ms,
            burst=file.burst,
        )
        self._compiled = Compiled(self._terms)

    def run(self, scenario: Scenario) -> Outcome:
        """One test."""
        run = _Run(self._terms, self._compiled, scenario)
        timeline = run.play()
        pairs: list[Pair] = []
        for expected, kind in ((scenario.expect, "delivery"), (scenario.alerts, "alert")):
            if expected is not None:
                pairs += _pairs(expected, timeline, kind, scenario.start_ms)
        return Outcome(scenario=scenario, timeline=tuple(timeline), pairs=tuple(pairs))


def _pairs(expected: Sequence[Expected], timeline: Sequence[Seen], kind: str, start_ms: int) -> Iterator[Pair]:
    """What was expected of one kind of line, beside the places of these in the timeline."""
    places = [
        place
        for place, seen in enumerate(timeline)
        if seen.line["type"] == kind and not (kind == "alert" and seen.line["state"] == "pending")
    ]
    for pair in compared(expected, [timeline[place] for place in places], start_ms):
        at = None if pair.seen is None else places[pair.seen]
        yield Pair(expected=pair.expected, seen=at, why=pair.why)


def _nowhere(_: object) -> None:
    """Lines are kept, not written."""


def _silence(act: SilenceAct, now_ms: int) -> Silence:
    return Silence(
        id=act.where,
        match=act.match,
        from_ms=now_ms,
        until_ms=now_ms + act.for_ms,
        author=act.author or OPERATOR,
        comment=act.comment,
    )


class _Run(Replay):
    """One test, played."""

    def __init__(self, terms: Terms, compiled: Compiled, scenario: Scenario) -> None:
        policy = replace(terms.policy, asks=scenario.answers is not None)
        super().__init__(replace(terms, policy=policy), _nowhere, compiled)
        self._scenario = scenario
        self._timeline: list[Seen] = []
        self.fleet.clock_ms = scenario.start_ms  # an empty fleet: nothing was due before
        self._queries: Queries | None = None
        if scenario.answers is not None:
            self._queries = Queries(scenario.answers, terms.inventory)
            self.fleet.pauses = True

    def play(self) -> list[Seen]:
        """Every stimulus at its instant, then the clock runs on; returns the timeline."""
        acts = deque(sorted(self._scenario.acts, key=lambda act: act.at_ms))
        for row in self._scenario.events:
            at_ms = max(row.received_at_ms, self.fleet.clock_ms)
            self._carry_out(acts, at_ms)
            self._pass_to(at_ms)
            self._tell(row, at_ms)
        self._carry_out(acts, FOREVER)
        if self._scenario.until_ms is not None:
            self._pass_to(self._scenario.until_ms)
        elif self._queries is None:
            self._run_on()
        else:
            self._pass_to(FOREVER - 1)
        return self._timeline

    def _pass_to(self, at_ms: int) -> None:
        """Everything that is due at or before an instant, and every question asked by then, answered at its instant."""
        queries = self._queries
        if queries is None:
            self._advance(at_ms)
            return
        passed = False
        queries.add(
            self.fleet.take_query_requests(), self.fleet.clock_ms
        )  # what events and acts made somebody want to know
        while not passed:
            if at_ms == FOREVER - 1 and self.fleet.next_due(running_on=True) == FOREVER:
                queries.drop_hopeless(self.fleet.clock_ms)
            target_ms = max(self.fleet.clock_ms, min(at_ms, queries.next_ms))
            paused = self._advance(target_ms)
            queries.add(self.fleet.take_query_requests(), self.fleet.clock_ms)
            passed = not self._answered(queries) and not paused and target_ms == at_ms

    def _advance(self, to_ms: int) -> bool:
        """Let the clock run to an instant; True: it stopped before, because somebody is asked about."""
        self.fleet.begin()
        paused = self.fleet.advance(to_ms, to_ms)
        self._flush()
        return paused

    def _answered(self, queries: Queries) -> bool:
        """Ask and answer whatever is to be asked by now; True: there was something."""
        now_ms, found = self.fleet.clock_ms, False
        while (ask := queries.due(now_ms)) is not None:
            if ask.why == ROLL and self.fleet.published(ask.client) is not None:
                continue
            found = True
            count = queries.connections(ask.client, now_ms)
            self.fleet.begin()
            verdict = self.fleet.answer(
                StatusAnswer(ask.client, now_ms, now_ms, count, queries.listed(ask.client)), now_ms
            )
            said = "unknown" if count is None else f"{count} connection{'' if count == 1 else 's'}"
            self._note(now_ms, "answer", text=f"{ask.client}: {said} (asked: {ask.why}; {verdict})")
            self._flush()
            queries.add(self.fleet.take_query_requests(), now_ms, verdict)
        return found

    def _carry_out(self, acts: deque[Act], upto_ms: int) -> None:
        """What operators do up to an instant, each act at its own."""
        while acts and acts[0].at_ms <= upto_ms:
            act = acts.popleft()
            now_ms = max(act.at_ms, self.fleet.clock_ms)
            self._pass_to(now_ms)
            self.fleet.begin()
            if isinstance(act, SilenceAct):
                self._note(now_ms, "act", text=act.text)
                self.fleet.silence(_silence(act, now_ms), now_ms)
            else:
                count = self.fleet.acknowledge(
                    now_ms, alert_id=act.alert, rule=act.rule, client=act.client, by=OPERATOR
                )
                self._note(now_ms, "act", text=f"{act.text} ({count or 'nothing'} to acknowledge)")
            self._flush()

    def _tell(self, row: Row, at_ms: int) -> None:
        """The fleet learns of an event."""
        start_ms = self._scenario.start_ms
        occurred, received = (offset(ms - start_ms) for ms in (row.event.occurred_at_ms, at_ms))
        self._note(at_ms, "event", text=row.text, occurred=occurred, received=received)
        self._apply([row.event], [at_ms])

    def _note(self, at_ms: int, type: str, **told: Any) -> None:
        """A line about what was done to the fleet."""
        self._timeline.append(Seen(at_ms=at_ms, line={"type": type, **told}))

    def _flush(self) -> None:
        for entry in self.fleet.alerts.out.lines:
            at_ms = entry.settled_at_ms if isinstance(entry, Transition) else entry.at_ms
            self._timeline.append(Seen(at_ms=at_ms, line=json.loads(self._line(entry))))
        self.fleet.commit()
