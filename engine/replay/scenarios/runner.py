"""Runs scenarios: the live code on virtual time, each test from an empty state at its own start.

A run is a replay whose input is a test: the clock is the running maximum of received times and never goes back, every source is
always caught up, and nothing is sent. Timers that are due at an instant come before its inputs; then queries are answered, then
operators act, then events arrive. Read `ScenarioRunner.run`, then `_Run.play`.
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
from engine.replay.runner import CompiledRules, Replay, ReplaySettings
from engine.replay.scenarios.diff import Comparison, TimelineEntry, compare, offset
from engine.replay.scenarios.event_line import EventLine
from engine.replay.scenarios.purpose import without_purpose
from engine.replay.scenarios.queries import ROLL, ScriptedQueries
from engine.replay.scenarios.scenario import Act, Expected, Scenario, ScenarioFile, SilenceAct

INPUTS = frozenset({"event", "answer", "act"})
"""Types of timeline entries that are inputs; all others are what followed."""


OPERATOR = "scenario"
"""The author of acts for which a scenario names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """What happened in a test, and how that differs from what it expected.

    `timeline` has every entry in order: inputs and what followed. `comparisons` pair what was expected of deliveries and alerts
    with places in it. `pointless`: why the test could not fail otherwise, which fails it.
    """

    scenario: Scenario
    timeline: tuple[TimelineEntry, ...]
    comparisons: tuple[Comparison, ...]
    pointless: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything is as expected."""
        return not self.pointless and not any(pair.why for pair in self.comparisons)


class ScenarioRunner:
    """Runs the tests of one file, which share rules and templates that are compiled once."""

    def __init__(self, file: ScenarioFile) -> None:
        self._settings = ReplaySettings(
            policy=file.policy,
            rules=file.rules,
            inventory=file.inventory,
            max_future_ms=file.max_future_ms,
            burst=file.burst,
            receivers=file.receivers,
        )
        self._compiled = CompiledRules(self._settings)

    def run(self, scenario: Scenario) -> ScenarioResult:
        """One test."""
        run = _Run(self._settings, self._compiled, scenario)
        timeline = run.play()
        comparisons: list[Comparison] = []
        for expected, kind in ((scenario.expect, "delivery"), (scenario.alerts, "alert")):
            if expected is not None:
                comparisons += _comparisons(expected, timeline, kind, scenario.start_ms)
        return ScenarioResult(
            scenario=scenario,
            timeline=tuple(timeline),
            comparisons=tuple(comparisons),
            pointless=without_purpose(scenario, self._settings.rules),
        )


def _comparisons(
    expected: Sequence[Expected], timeline: Sequence[TimelineEntry], kind: str, start_ms: int
) -> Iterator[Comparison]:
    """The expectations of one kind of line, each with its place in the timeline."""
    places = [
        place
        for place, seen in enumerate(timeline)
        if seen.line["type"] == kind and not (kind == "alert" and seen.line["state"] == "pending")
    ]
    for pair in compare(expected, [timeline[place] for place in places], start_ms):
        at = None if pair.seen is None else places[pair.seen]
        yield Comparison(expected=pair.expected, seen=at, why=pair.why)


def _discard(_: object) -> None:
    """Ignores its argument: lines are kept in the timeline, not written."""


def _silence(act: SilenceAct, now_ms: int) -> Silence:
    from_ms = now_ms if act.from_ms is None else max(act.from_ms, now_ms)
    return Silence(
        id=act.where,
        match=act.match,
        rules=act.rules,
        from_ms=from_ms,
        until_ms=from_ms + act.for_ms,
        planned=from_ms > now_ms,
        author=act.author or OPERATOR,
        comment=act.comment,
    )


class _Run(Replay):
    """One test, played."""

    def __init__(self, settings: ReplaySettings, compiled: CompiledRules, scenario: Scenario) -> None:
        policy = replace(settings.policy, asks=scenario.answers is not None)
        super().__init__(replace(settings, policy=policy), _discard, compiled)
        self._scenario = scenario
        self._timeline: list[TimelineEntry] = []
        self.fleet.clock_ms = scenario.start_ms  # an empty fleet: nothing was due before
        self._queries: ScriptedQueries | None = None
        if scenario.answers is not None:
            self._queries = ScriptedQueries(scenario.answers, settings.inventory)
            self.fleet.pauses = True

    def play(self) -> list[TimelineEntry]:
        """Apply every input at its instant, then let the clock run on. Returns the timeline."""
        acts = deque(sorted(self._scenario.acts, key=lambda act: act.at_ms))
        for line in self._scenario.events:
            at_ms = max(line.received_at_ms, self.fleet.clock_ms)
            self._act_until(acts, at_ms)
            if not self.fleet.is_amid(at_ms):
                self._advance_to(at_ms)
            self._apply_event(line, at_ms)
        self._act_until(acts, FOREVER)
        if self._scenario.until_ms is not None:
            self._advance_to(self._scenario.until_ms)
        elif self._queries is None:
            self._run_on()
        else:
            self._advance_to(FOREVER - 1)
        return self._timeline

    def _advance_to(self, at_ms: int) -> None:
        """Advance to an instant: every timer that is due, and every query, answered at its own instant."""
        queries = self._queries
        if queries is None:
            self._advance(at_ms)
            return
        passed = False
        queries.add(self.fleet.take_query_requests(), self.fleet.clock_ms)  # from events and acts
        while not passed:
            if at_ms == FOREVER - 1 and self.fleet.next_due(running_on=True) == FOREVER:
                queries.drop_hopeless(self.fleet.clock_ms)
            target_ms = max(self.fleet.clock_ms, min(at_ms, queries.next_ms))
            paused = self._advance(target_ms)
            queries.add(self.fleet.take_query_requests(), self.fleet.clock_ms)
            passed = not self._answered(queries) and not paused and target_ms == at_ms

    def _advance(self, to_ms: int) -> bool:
        """Advance the clock to an instant; True when it stopped before, because of a query."""
        self.fleet.begin()
        paused = self.fleet.advance(to_ms, to_ms)
        self._flush()
        return paused

    def _answered(self, queries: ScriptedQueries) -> bool:
        """Answer every query that is due; True when there was one."""
        now_ms, found = self.fleet.clock_ms, False
        while (request := queries.due(now_ms)) is not None:
            if request.why == ROLL and self.fleet.published(request.client) is not None:
                continue
            found = True
            count = queries.connections(request.client, now_ms)
            self.fleet.begin()
            verdict = self.fleet.answer(
                StatusAnswer(request.client, now_ms, now_ms, count, queries.listed(request.client)), now_ms
            )
            answer = "unknown" if count is None else f"{count} connection{'' if count == 1 else 's'}"
            self._note(now_ms, "answer", text=f"{request.client}: {answer} (query: {request.why}; {verdict})")
            self._flush()
            queries.add(self.fleet.take_query_requests(), now_ms, verdict)
        return found

    def _act_until(self, acts: deque[Act], upto_ms: int) -> None:
        """Apply the operators' acts up to an instant, each at its own."""
        while acts and acts[0].at_ms <= upto_ms:
            act = acts.popleft()
            now_ms = max(act.at_ms, self.fleet.clock_ms)
            self._advance_to(now_ms)
            self.fleet.begin()
            if isinstance(act, SilenceAct):
                self._note(now_ms, "act", text=act.text)
                self.fleet.silence(_silence(act, now_ms), now_ms)
            else:
                count = self.fleet.acknowledge(
                    now_ms, alert_id=act.alert, rule=act.rule, client=act.client, by=OPERATOR
                )
                self._note(
                    now_ms, "act", text=f"{act.text} ({count or 'no'} alert{'' if count == 1 else 's'} acknowledged)"
                )
            self._flush()

    def _apply_event(self, line: EventLine, at_ms: int) -> None:
        """Apply one event."""
        start_ms = self._scenario.start_ms
        occurred, received = (offset(ms - start_ms) for ms in (line.event.occurred_at_ms, at_ms))
        self._note(at_ms, "event", text=line.text, occurred=occurred, received=received)
        self._apply([line.event], [at_ms])

    def _note(self, at_ms: int, type: str, **values: Any) -> None:
        """Add an input to the timeline."""
        self._timeline.append(TimelineEntry(at_ms=at_ms, line={"type": type, **values}))

    def _flush(self) -> None:
        for entry in self.fleet.alerts.out.lines:
            at_ms = entry.settled_at_ms if isinstance(entry, Transition) else entry.at_ms
            self._timeline.append(TimelineEntry(at_ms=at_ms, line=json.loads(self._line(entry))))
        self.fleet.commit()
