"""Runs scenarios: the live code on virtual time, each test from an empty state at its own start.

A run is a replay whose input is a test: the clock is the running maximum of received times and never goes back, every
source is always caught up, and nothing leaves. What is due at or before an instant happens before what is done then:
operators' acts first, then events. Read `Bench.run`, then `_Run.play`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.presence import Transition
from engine.expectations import Pair, Seen, compared, offset
from engine.replay import Compiled, Replay, Terms
from engine.scenariofile import Expected, Scenario, ScenarioFile
from engine.scenariorow import Row

INPUTS = frozenset({"event", "answer", "act"})
"""Types of timeline lines that say what happened to the fleet; all others say what came of it."""


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
            policy=file.policy, rules=file.rules, inventory=file.inventory, max_future_ms=file.max_future_ms
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


class _Run(Replay):
    """One test, played."""

    def __init__(self, terms: Terms, compiled: Compiled, scenario: Scenario) -> None:
        super().__init__(terms, _nowhere, compiled)
        self._scenario = scenario
        self._timeline: list[Seen] = []
        self.fleet.clock_ms = scenario.start_ms  # an empty fleet: nothing was due before

    def play(self) -> list[Seen]:
        """Every stimulus at its instant, then the clock runs on; returns the timeline."""
        for row in self._scenario.events:
            at_ms = max(row.received_at_ms, self.fleet.clock_ms)
            self._pass_to(at_ms)
            self._tell(row, at_ms)
        if self._scenario.until_ms is None:
            self._run_on()
        else:
            self._pass_to(self._scenario.until_ms)
        return self._timeline

    def _pass_to(self, at_ms: int) -> None:
        """Everything that is due at or before an instant."""
        self.fleet.begin()
        self.fleet.advance(at_ms, at_ms)
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
        for entry in self.fleet.book.out.lines:
            at_ms = entry.settled_at_ms if isinstance(entry, Transition) else entry.at_ms
            self._timeline.append(Seen(at_ms=at_ms, line=json.loads(self._line(entry))))
        self.fleet.commit()
