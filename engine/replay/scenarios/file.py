"""Scenario files (`*.test.yaml`): what happens to a fleet, and what the rules ought to make of it.

Every mistake is told at once, with its place, those of the rule files and of the inventory included: a scenario that
does not load tests nothing. Steps of `load_scenarios`: read the file and hold it against its schema; read the
configuration, the inventory and the rules that it names; then read its tests, one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.durations import parse_duration, parse_rfc3339
from engine.config.inventory import NO_INVENTORY, Inventory, inventory_of, load_inventory
from engine.config.loader import Config, config_under
from engine.config.matchers import as_tuple, check_match, match_of
from engine.config.schema import did_you_mean, schema_problems
from engine.config.yamlfile import Document, KeyPath, read_document
from engine.core.presence.debounce import Policy
from engine.core.rules import Match, Rule
from engine.errors import InvalidFiles, Problem
from engine.replay.scenarios.event_line import Row, read_row
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import policy_of

DEFAULT_START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""

LATEST_START_MS = 220_000_000_000_000
"""A start in the year 8941: so much time may pass after it that every instant can still be written."""

ALERT_ID = re.compile(r"[0-9a-f]{28}")
"""An alert's id, as `planning.stamped` makes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a synchronous query says of a client from `at_ms` on; `connections` None: it cannot tell."""

    at_ms: int
    client: str
    connections: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceAct:
    """An operator silences clients."""

    at_ms: int
    where: str  # such as acts[0]
    text: str  # as a timeline shows it
    match: Match
    for_ms: int
    author: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AckAct:
    """An operator acknowledges an alert: that of a rule and a client, or the one with the id."""

    at_ms: int
    text: str
    rule: str | None
    client: str | None
    alert: str | None


Act = SilenceAct | AckAct


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One line that ought to come: the keys given, the instant they name, and where that is written."""

    keys: Mapping[str, Any]  # without `at`
    at_ms: int | None
    where: str  # such as expect[0]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One test, from an empty state at `start_ms`. `expect` and `alerts` None: not looked at."""

    name: str
    line: int
    start_ms: int
    events: tuple[Row, ...]
    answers: tuple[Answer, ...] | None  # None: nobody can be asked
    acts: tuple[Act, ...]
    until_ms: int | None
    expect: tuple[Expected, ...] | None
    alerts: tuple[Expected, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioFile:
    """One file: its tests, and what all of them are run by."""

    file: str
    policy: Policy
    rules: tuple[Rule, ...]
    inventory: Inventory
    max_future_ms: int
    burst: int
    scenarios: tuple[Scenario, ...]


class _SomeRows(Inventory):
    """The few rows of a scenario: other rules of the file may ask for values that no row happens to have."""

    def values(self, column: str) -> set[str]:
        """Any value may occur."""
        return _Anything()


class _Anything(set[str]):
    def __contains__(self, value: object) -> bool:
        return True


def load_scenarios(path: Path) -> ScenarioFile:
    """The scenarios in a file. InvalidFiles with every problem, those of the files that it names included."""
    problems: list[Problem] = []
    document = read_document(path, problems)
    if document is None:
        raise InvalidFiles(problems)
    structural = schema_problems(document, "rule-test")
    problems += structural
    if not isinstance(document.value, dict):
        raise InvalidFiles(problems)
    return _Reader(document, path, _broken(structural), problems).read()


def _broken(problems: Iterable[Problem]) -> set[str]:
    """What is not read further because its structure is wrong: `config`, `rules`, `inventory`, `tests[3]`."""
    return {match.group() for problem in problems if (match := re.match(r"\w+(\[\d+\])?", problem.path))}


class _Reader:
    """Reads a file that is a mapping; passes over what the schema found broken."""

    def __init__(self, document: Document, path: Path, broken: set[str], problems: list[Problem]) -> None:
        self._document = document
        self._raw: Mapping[str, Any] = document.value
        self._folder = path.absolute().parent
        self._broken = broken
        self._problems = problems

    def read(self) -> ScenarioFile:
        """The whole file; InvalidFiles when anything is wrong."""
        config = self._config()
        inventory = self._inventory()
        rules = self._rules(inventory)
        tests = self._raw.get("tests")
        scenarios: list[Scenario] = []
        seen: dict[str, int] = {}
        for index, raw in enumerate(tests if isinstance(tests, list) else ()):
            if isinstance(raw, dict):
                self._check_name(index, raw, seen)
                if f"tests[{index}]" not in self._broken:
                    reader = _TestReader(self._document, index, raw, rules, inventory, self._problems)
                    scenarios.append(reader.read(config.events.max_future_ms))
        errors = [problem for problem in self._problems if not problem.warning]
        if errors:
            raise InvalidFiles(sorted(errors, key=self._order))
        return ScenarioFile(
            file=self._document.file,
            policy=policy_of(config, inventory),
            rules=rules or (),
            inventory=inventory or NO_INVENTORY,
            max_future_ms=config.events.max_future_ms,
            burst=config.deliveries.burst,
            scenarios=tuple(scenarios),
        )

    def _order(self, problem: Problem) -> tuple[bool, str, int, int]:
        """This file first, each from its top to its end."""
        return problem.file != self._document.file, problem.file, problem.line, problem.column

    def _say(self, path: KeyPath, message: str) -> None:
        self._problems.append(self._document.problem(path, message))

    def _usable(self, key: str) -> bool:
        return key in self._raw and not any(re.match(rf"{key}\b", broken) for broken in self._broken)

    def _config(self) -> Config:
        if self._usable("config"):
            return config_under("config", self._document, self._problems)
        return Config(path=Path(self._document.file), data=self._folder)

    def _inventory(self) -> Inventory | None:
        """The inventory; an empty one without the key, None when it does not load."""
        if "inventory" not in self._raw:
            return NO_INVENTORY
        if not self._usable("inventory"):
            return None
        written = self._raw["inventory"]
        try:
            if isinstance(written, str):
                return load_inventory(self._folder / written)
            rows = inventory_of(written)
        except ValueError as error:
            self._say(("inventory",), str(error))
        except InvalidFiles as error:
            self._problems += error.problems
        else:
            return _SomeRows(rows.columns, rows.rows)
        return None

    def _rules(self, inventory: Inventory | None) -> tuple[Rule, ...] | None:
        """The rules; None when they are not known."""
        if not self._usable("rules"):
            return None
        written = self._raw["rules"]
        paths = []
        for index, text in enumerate(as_tuple(written)):
            path = self._folder / text
            if path.exists():
                paths.append(path)
            else:
                self._say(("rules", index) if isinstance(written, list) else ("rules",), f"{path} does not exist")
        try:
            found = load_rules(paths, inventory=inventory).rules if paths else ()
        except InvalidFiles as error:
            self._problems += error.problems
            return None
        return found if len(paths) == len(as_tuple(written)) else None

    def _check_name(self, index: int, raw: Mapping[str, Any], seen: dict[str, int]) -> None:
        name = raw.get("name")
        if not isinstance(name, str):
            return
        at: KeyPath = ("tests", index, "name")
        if name in seen:
            self._say(at, f"there is a test of this name already, in line {seen[name]}")
        seen.setdefault(name, self._document.place(at)[0])


class _TestReader:
    """Reads one test that the schema accepted. Whatever is wrong is told, and something takes its place."""

    def __init__(
        self,
        document: Document,
        index: int,
        raw: Mapping[str, Any],
        rules: tuple[Rule, ...] | None,
        inventory: Inventory | None,
        problems: list[Problem],
    ) -> None:
        self._document = document
        self._at: KeyPath = ("tests", index)
        self._raw = raw
        self._rules = None if rules is None else [rule.name for rule in rules]
        self._inventory = inventory
        self._problems = problems
        self._start_ms = self._start()
        self._until_ms: int | None = None

    def read(self, max_future_ms: int) -> Scenario:
        if "until" in self._raw:
            self._until_ms = self._start_ms + self._ms(("until",), self._raw["until"])
        return Scenario(
            name=self._raw["name"],
            line=self._document.place((*self._at, "name"))[0],
            start_ms=self._start_ms,
            events=tuple(self._events(max_future_ms)),
            answers=tuple(self._answers()) if "answers" in self._raw else None,
            acts=tuple(self._acts()),
            until_ms=self._until_ms,
            expect=self._expected("expect"),
            alerts=self._expected("alerts"),
        )

    def _say(self, path: KeyPath, message: str) -> None:
        self._problems.append(self._document.problem((*self._at, *path), message))

    def _start(self) -> int:
        if "start" not in self._raw:
            return DEFAULT_START_MS
        try:
            start_ms = parse_rfc3339(self._raw["start"])
        except ValueError as error:
            self._say(("start",), str(error))
            return DEFAULT_START_MS
        if not 0 <= start_ms <= LATEST_START_MS:
            self._say(("start",), "must lie in the years 1970 to 8940")
            return DEFAULT_START_MS
        return start_ms

    def _ms(self, path: KeyPath, text: str) -> int:
        try:
            return parse_duration(text)
        except ValueError as error:
            self._say(path, str(error))
            return 0

    def _when(self, path: KeyPath, text: str) -> int:
        """The instant of something that is done at an offset."""
        at_ms = self._start_ms + self._ms(path, text)
        self._check_until(path, at_ms)
        return at_ms

    def _check_until(self, path: KeyPath, at_ms: int) -> None:
        if self._until_ms is not None and at_ms > self._until_ms:
            self._say(path, f"lies after `until` ({self._raw['until']}), so it would never happen")

    def _events(self, max_future_ms: int) -> Iterable[Row]:
        for index, text in enumerate(self._raw.get("events", ())):
            at: KeyPath = ("events", index)
            try:
                row = read_row(text, self._start_ms, max_future_ms)
            except ValueError as error:
                self._say(at, str(error))
                continue
            self._check_until(at, row.received_at_ms)
            yield row

    def _answers(self) -> Iterable[Answer]:
        for index, raw in enumerate(self._raw["answers"]):
            connections = raw["connections"]
            yield Answer(
                at_ms=self._when(("answers", index, "at"), raw["at"]),
                client=raw["client"],
                connections=None if connections in (None, -1) else connections,
            )

    def _acts(self) -> Iterable[Act]:
        for index, raw in enumerate(self._raw.get("acts", ())):
            at: KeyPath = ("acts", index)
            at_ms = self._when((*at, "at"), raw["at"])
            if ("silence" in raw) == ("ack" in raw):
                self._say(at, "must hold one of `silence` and `ack`")
            elif "silence" in raw:
                yield self._silence(at, at_ms, raw["silence"])
            else:
                yield self._ack((*at, "ack"), at_ms, raw["ack"])

    def _silence(self, at: KeyPath, at_ms: int, raw: Mapping[str, Any]) -> Act:
        place = (*self._at, *at, "silence", "match")
        check_match(raw["match"], place, self._document, self._inventory, self._problems)
        return SilenceAct(
            at_ms=at_ms,
            where=f"{at[0]}[{at[1]}]",
            text=f"silence {json.dumps(raw['match'], ensure_ascii=False)} for {raw['for']}",
            match=match_of(raw["match"]),
            for_ms=self._ms((*at, "silence", "for"), raw["for"]),
            author=raw.get("author", ""),
            comment=raw.get("comment", ""),
        )

    def _ack(self, at: KeyPath, at_ms: int, text: str) -> Act:
        rule, _, client = text.partition(" ")
        if ALERT_ID.fullmatch(text):
            return AckAct(at_ms=at_ms, text=f"ack {text}", rule=None, client=None, alert=text)
        if self._rules is not None and rule not in self._rules:
            self._say(at, f"there is no rule `{rule[:60]}`{did_you_mean(rule, self._rules, all_of_them=True)}")
        elif not client.strip():
            self._say(at, "must be `RULE CLIENT`, or the id of an alert")
        return AckAct(at_ms=at_ms, text=f"ack {text}", rule=rule, client=client.strip(), alert=None)

    def _expected(self, key: str) -> tuple[Expected, ...] | None:
        if key not in self._raw:
            return None
        return tuple(self._one_expected((key, index), raw) for index, raw in enumerate(self._raw[key]))

    def _one_expected(self, at: tuple[str, int], raw: Mapping[str, Any]) -> Expected:
        rule = raw.get("rule")
        if rule is not None and self._rules is not None and rule not in self._rules:
            hint = did_you_mean(rule, self._rules, all_of_them=True)
            self._say((*at, "rule"), f"there is no rule `{rule[:60]}`{hint}")
        at_ms = None
        if "at" in raw:
            at_ms = self._instant((*at, "at"), raw["at"])
        return Expected(
            keys={name: value for name, value in raw.items() if name != "at"},
            at_ms=at_ms,
            where=f"{at[0]}[{at[1]}]",
            line=self._document.place((*self._at, *at))[0],
        )

    def _instant(self, path: KeyPath, text: str) -> int:
        try:
            at_ms = parse_rfc3339(text) if "-" in text else self._start_ms + parse_duration(text)
        except ValueError as error:
            self._say(path, str(error))
            return self._start_ms
        if at_ms < self._start_ms:
            self._say(path, "lies before the start of the test")
        self._check_until(path, at_ms)
        return at_ms
