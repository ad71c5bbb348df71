"""Scenario files (`*.test.yaml`): what happens to a fleet, and what the rules should make of it.

Every mistake is reported at once with its place, those of the rule files and of the inventory included: a scenario that does not
load tests nothing. Steps of `load_scenarios`: read the file and check it against its schema; read the configuration, the
inventory and the rules that it names; then read its tests one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.config.inventory import NO_INVENTORY, Inventory, inventory_of
from engine.config.inventory_file import load_inventory
from engine.config.loader import Config, config_under
from engine.config.loading import loading
from engine.config.matchers import as_tuple
from engine.config.named_intervals import NamedIntervals
from engine.config.schema import MAX_PROBLEMS, schema_problems
from engine.config.yamlfile import Document, KeyPath, read_document
from engine.core.rules import Rule
from engine.errors import InvalidFiles, Problem
from engine.replay.scenarios.scenario import Scenario, ScenarioFile
from engine.replay.scenarios.scenario_reader import ScenarioReader
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import policy_of


class _PartialInventory(Inventory):
    """The few rows of a scenario: other rules of the file may match values that no row has."""

    def values(self, column: str) -> set[str]:
        """A set that contains every value."""
        return _EveryValue()


class _EveryValue(set[str]):
    def __contains__(self, value: object) -> bool:
        return True


def load_scenarios(path: Path) -> ScenarioFile:
    """The scenarios in a file. Raises InvalidFiles with every problem, those of the files that it names included, and nothing else."""
    problems: list[Problem] = []
    found: ScenarioFile | None = None
    with loading(problems, path):
        found = _load(path)
    if found is None:
        raise InvalidFiles(problems)
    return found


def _load(path: Path) -> ScenarioFile:
    problems: list[Problem] = []
    document = read_document(path, problems)
    if document is None:
        raise InvalidFiles(problems)
    structural = schema_problems(document, "rule-test")
    problems += structural
    if not isinstance(document.value, dict) or len(structural) >= MAX_PROBLEMS:
        raise InvalidFiles(problems)
    return _FileReader(document, path, _broken(structural), problems).read()


def _broken(problems: Iterable[Problem]) -> set[str]:
    """What is not read because its structure is wrong, such as `config`, `rules`, `inventory` or `tests[3]`."""
    return {match.group() for problem in problems if (match := re.match(r"\w+(\[\d+\])?", problem.path))}


class _FileReader:
    """Reads a file that is a mapping; leaves out what the schema found broken."""

    def __init__(self, document: Document, path: Path, broken: set[str], problems: list[Problem]) -> None:
        self._document = document
        self._raw: Mapping[str, Any] = document.value
        self._folder = path.absolute().parent
        self._broken = broken
        self._problems = problems

    def read(self) -> ScenarioFile:
        """The whole file. Raises InvalidFiles when anything is wrong."""
        config = self._config()
        inventory = self._inventory()
        rules = self._rules(inventory, config.time_intervals)
        tests = self._raw.get("tests")
        scenarios: list[Scenario] = []
        seen: dict[str, int] = {}
        for index, raw in enumerate(tests if isinstance(tests, list) else ()):
            if isinstance(raw, dict):
                self._check_name(index, raw, seen)
                if f"tests[{index}]" not in self._broken:
                    reader = ScenarioReader(self._document, index, raw, rules, inventory, self._problems)
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
            receivers=config.receivers or None,
            scenarios=tuple(scenarios),
        )

    def _order(self, problem: Problem) -> tuple[bool, str, int, int]:
        """Problems of this file first; those of each file from top to bottom."""
        return problem.file != self._document.file, problem.file, problem.line, problem.column

    def _report(self, path: KeyPath, message: str) -> None:
        self._problems.append(self._document.problem(path, message))

    def _usable(self, key: str) -> bool:
        return key in self._raw and not any(re.match(rf"{key}\b", broken) for broken in self._broken)

    def _config(self) -> Config:
        if self._usable("config"):
            return config_under("config", self._document, self._problems)
        return Config(path=self._document.path, data=self._folder)

    def _inventory(self) -> Inventory | None:
        """The inventory: empty without the key, None when it does not load."""
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
            self._report(("inventory",), str(error))
        except InvalidFiles as error:
            self._problems += error.problems
        else:
            return _PartialInventory(rows.columns, rows.rows)
        return None

    def _rules(self, inventory: Inventory | None, time_intervals: NamedIntervals) -> tuple[Rule, ...] | None:
        """The rules; None when they do not load."""
        if not self._usable("rules"):
            return None
        written = self._raw["rules"]
        paths = []
        for index, text in enumerate(as_tuple(written)):
            path = self._folder / text
            if path.exists():
                paths.append(path)
            else:
                self._report(("rules", index) if isinstance(written, list) else ("rules",), f"{path} does not exist")
        try:
            found = load_rules(paths, inventory=inventory, time_intervals=time_intervals).rules if paths else ()
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
            self._report(at, f"there is already a test with this name, on line {seen[name]}")
        seen.setdefault(name, self._document.place(at)[0])
