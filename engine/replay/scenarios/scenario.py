"""The values of a scenario file: what happens to a fleet in each test, and what its rules should make of it. Read `Scenario`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.config.inventory import Inventory
from engine.config.receivers import Receiver
from engine.core.presence.debounce import Policy
from engine.core.rules import Match, Rule
from engine.replay.scenarios.event_line import EventLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query answers about a client from `at_ms` on. `connections` None: unknown."""

    at_ms: int
    client: str
    connections: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceAct:
    """An operator silences clients, alerts of rules, or both."""

    at_ms: int
    where: str  # such as acts[0]
    text: str  # as a timeline shows it
    match: Match
    rules: tuple[str, ...]  # patterns; none: alerts of every rule
    from_ms: int | None  # None: from the act on
    for_ms: int
    author: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AckAct:
    """An operator acknowledges alerts: those of a rule, or of a rule and a client, or the one with the id `alert`."""

    at_ms: int
    text: str
    rule: str | None
    client: str | None
    alert: str | None


Act = SilenceAct | AckAct


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One line that is expected: the keys and the instant that are compared, and where they are written."""

    keys: Mapping[str, Any]  # without `at`
    at_ms: int | None
    where: str  # such as expect[0]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One test, from an empty state at `start_ms`. `expect` and `alerts` None: not compared."""

    name: str
    line: int
    start_ms: int
    events: tuple[EventLine, ...]
    answers: tuple[Answer, ...] | None  # None: no status provider
    acts: tuple[Act, ...]
    until_ms: int | None
    expect: tuple[Expected, ...] | None
    alerts: tuple[Expected, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioFile:
    """One file: its tests, and what all of them run with."""

    file: str
    policy: Policy
    rules: tuple[Rule, ...]
    inventory: Inventory
    max_future_ms: int
    burst: int
    receivers: Mapping[str, Receiver] | None  # None: it names none, and every name is good
    scenarios: tuple[Scenario, ...]
