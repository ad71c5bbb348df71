"""Rule files: from the YAML that people write to frozen rules, with every mistake reported at once.

Steps of `load_rules`: find the files and read them; check each against its schema; read each rule, which checks what a schema
cannot (patterns, templates, secrets); then check all rules together, and compile their patterns. There are rules only when nothing is wrong: a broken edit
must leave the running ones in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engine.config.inventory import Inventory
from engine.config.known_names import KnownNames
from engine.config.loader import Config
from engine.config.loading import loading, reason_of
from engine.config.named_intervals import NamedIntervals
from engine.config.patterns import MAX_PROGRAM_TOGETHER, TOO_LARGE_TOGETHER, compile_patterns, program_size
from engine.config.pruning import pruned
from engine.config.schema import MAX_PROBLEMS, schema_problems
from engine.config.yamlfile import Document, KeyPath, Node
from engine.core.matching import MatchSet
from engine.core.rules import Rule
from engine.errors import InvalidFiles, Problem
from engine.rulefiles.cells import cell_problem
from engine.rulefiles.context import RuleContext
from engine.rulefiles.defaults import DEFAULTS, DefaultProblems, Inherited, inherit
from engine.rulefiles.files import read_rule_documents, rule_folders
from engine.rulefiles.lint import WrittenRule, inhibition_problems
from engine.rulefiles.receivers import template_findings
from engine.rulefiles.remainder import consequences, lost_keys, rule_placeholder
from engine.rulefiles.rule import read_rule

MAX_RULES = 10_000
"""Most rules over all files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRules:
    """Rules in the order of their files; `problems` are warnings only."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...] = ()


def load_rules(
    paths: Iterable[Path],
    *,
    inventory: Inventory | None = None,
    config: Config | None = None,
    performs: bool = True,
    time_intervals: NamedIntervals | None = None,
) -> LoadedRules:
    """All rules of the files and folders in `paths`. Raises InvalidFiles with every problem when any of them is wrong.

    `inventory` and `config` are what rules may refer to (columns, secrets); None leaves those references unchecked.
    `performs`: False where no action is carried out, so that what only sending needs (`smtp`) may be missing. `time_intervals`: those
    that rules may name, by default those of `config`.

    Nothing else is raised: whatever a file makes a library raise is a problem of the rule that was being read.
    """
    places = [Path(path) for path in paths]
    if time_intervals is None:
        time_intervals = None if config is None else config.time_intervals
    reader = _RulesReader(rule_folders(places), inventory, config, performs, time_intervals)
    with loading(reader.problems, places[0] if places else Path()):
        reader.read(read_rule_documents(places, reader.problems))
    if config is not None and config.receivers:
        with loading(reader.problems, config.path):
            reader.problems += template_findings(config, None if inventory is None else inventory.columns)
    problems = reader.problems
    problems.sort(key=lambda problem: (reader.order.get(problem.file, -1), problem.line, problem.column))
    if any(not problem.warning for problem in problems):
        raise InvalidFiles(problems)
    return LoadedRules(rules=tuple(reader.rules), problems=tuple(problems))


class _RulesReader:
    """Reads the rules of several files; everything it finds is in `rules` and `problems`."""

    def __init__(
        self,
        folders: tuple[Path, ...],
        inventory: Inventory | None,
        config: Config | None,
        performs: bool,
        time_intervals: NamedIntervals | None,
    ) -> None:
        self.rules: list[Rule] = []
        self.problems: list[Problem] = []
        self.order: dict[str, int] = {}  # of the files
        self._read_from: list[tuple[Document, int]] = []  # where each of `rules` stands
        self._seen: dict[str, str] = {}
        self._written: list[WrittenRule] = []
        self._consequences: set[tuple[str, str]] = set()  # file and place of what lacks something that was left out
        self._folders, self._inventory, self._config, self._performs = folders, inventory, config, performs
        self._time_intervals = time_intervals
        self._known_names = None if inventory is None else KnownNames(inventory)

    def read(self, documents: Sequence[Document]) -> None:
        """Read every file, then check the rules of all files together."""
        for number, document in enumerate(documents):
            self.order[document.file] = number
            with loading(self.problems, document.path):
                self._read_document(document)
        if not documents:
            return
        with loading(self.problems, documents[0].path):
            self.problems += self._own(dict.fromkeys(inhibition_problems(self._written, self._seen)))
        if len(self.rules) > MAX_RULES:
            message = f"{len(self.rules)} rules in all files, but at most {MAX_RULES} are allowed"
            self.problems.append(documents[0].problem((), message))
        elif not any(not problem.warning for problem in self.problems):
            self._check_together()

    def _read_document(self, document: Document) -> None:
        broken: set[KeyPath] = set()
        structural = schema_problems(document, "rules", broken=broken)
        self.problems += structural
        value = document.value if isinstance(document.value, dict) else {}
        entries = value.get("rules")
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            _check_name(entry, index, document, self._seen, self.problems)
        if not structural:
            self._read_rules(document, document.value, {})
        elif len(structural) < MAX_PROBLEMS:  # else it is not known what else does not fit the schema
            rest = pruned(document, "rules", broken, rule_placeholder)
            if rest is not None:
                before = len(self.problems)
                self._consequences |= consequences(rest)
                self._read_rules(rest, rest.value, lost_keys(rest))
                self.problems[before:] = self._own(self.problems[before:])

    def _own(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems that do not follow from what was left out of a document."""
        if not self._consequences:
            return list(problems)
        return [
            problem
            for problem in problems
            if not problem.warning and (problem.file, problem.path) not in self._consequences
        ]

    def _read_rules(self, document: Document, value: Mapping[str, Any], lost: Mapping[int, frozenset[str]]) -> None:
        """Read the rules of a document that fits the schema; `lost`: what was left out of each, for it to fit."""
        defaults, in_defaults = value.get(DEFAULTS, {}), DefaultProblems()
        for index, entry in enumerate(value["rules"]):
            with loading(self.problems, document.path, partial(document.problem, ("rules", index))):
                self._read_rule(document, index, inherit(entry, defaults), in_defaults, lost.get(index, frozenset()))
        self.problems += in_defaults.all()

    def _read_rule(
        self, document: Document, index: int, merged: Inherited, in_defaults: DefaultProblems, lost: frozenset[str]
    ) -> None:
        entry, inherited = merged
        problems: list[Problem] = []
        context = RuleContext(
            document=document,
            at=("rules", index),
            problems=problems,
            inventory=self._inventory,
            config=self._config,
            performs=self._performs,
            folders=self._folders,
            time_intervals=self._time_intervals,
            inherited=inherited,
            known_names=self._known_names,
            lost=lost,
        )
        self._written.append((context, entry))
        try:
            rule = read_rule(context, entry)
        finally:
            self.problems += in_defaults.take(entry["name"], problems) if inherited else problems
        if rule is not None:
            if self._config is not None and len(self._config.cells) > 1:
                found = cell_problem(rule, self._config.cells)
                if found is not None:
                    self.problems.append(document.problem(context.place((found[0],)), found[1]))
            self.rules.append(rule)
            self._read_from.append((document, index))

    def _check_together(self) -> None:
        """Compile the patterns of all rules, as the service will: together they may be too large, though each one is not."""
        size, counted = 0, set[str]()
        for number, rule in enumerate(self.rules, 1):
            match = rule.match
            patterns = {
                *match.group,
                *match.device,
                *match.client,
                *(text for _, some in match.attributes for text in some),
            }
            size += program_size(patterns - counted)
            counted |= patterns
            if size > MAX_PROGRAM_TOGETHER:
                self._report_match(number, TOO_LARGE_TOGETHER)
                return
        reason = self._compile_problem(len(self.rules))
        if reason is not None:
            good, bad = 0, len(self.rules)  # so many rules compile, so many do not
            while bad - good > 1:
                middle = (good + bad) // 2
                found = self._compile_problem(middle)
                good, bad, reason = (middle, bad, reason) if found is None else (good, middle, found)
            self._report_match(bad, reason)

    def _report_match(self, number: int, message: str) -> None:
        """Report that the rules up to this one (counted from 1) cannot be matched together."""
        document, index = self._read_from[number - 1]
        self.problems.append(document.problem(("rules", index, "match"), message))

    def _compile_problem(self, count: int) -> str | None:
        """Why the first `count` rules cannot be matched together; None when they can."""
        try:
            MatchSet([rule.match for rule in self.rules[:count]], _no_attributes, compile_patterns)
        except Exception as error:  # noqa: BLE001  # of the pattern library
            return reason_of(error)
        return None


def _no_attributes(client: str) -> Mapping[str, str]:
    return {}


def _check_name(entry: Any, index: int, document: Document, seen: dict[str, str], problems: list[Problem]) -> None:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        return
    at: KeyPath = ("rules", index, "name")
    if name in seen:
        problems.append(document.problem(at, f"there is already a rule `{name[:100]}`, in {seen[name]}"))
    else:
        seen[name] = f"{document.file}:{document.place(at)[0]}"


def rule_from_definition(text: str) -> Rule:
    """The rule that `Rule.definition` was made from. Raises ValueError when it is not a definition.

    Used for a rule whose file is gone: recipients of its alerts still get the recovery. Its references are not checked again.
    """
    problems: list[Problem] = []
    try:
        value = json.loads(text)
        document = Document(file="definition", root=Node(value, 1, 1))
        rule = read_rule(RuleContext(document=document, at=(), problems=problems, is_stored=True), value)
    except Exception as error:  # another version wrote it: nothing that it holds may end a start
        raise ValueError(f"is not the definition of a rule: {error!r}") from error
    if rule is None:
        raise ValueError(f"is not the definition of a rule: {problems[0].message}")
    return rule
