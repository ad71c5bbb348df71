"""Rule files: from the YAML that people write to frozen rules, with every mistake reported at once.

Steps of `load_rules`: find the files and read them; check each against its schema; read each rule, which checks what a schema
cannot (patterns, templates, secrets); then check all rules together. There are rules only when nothing is wrong: a broken edit
must leave the running ones in place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.config.schema import schema_problems
from engine.config.yamlfile import Document, KeyPath, Node
from engine.core.rules import Rule
from engine.errors import InvalidFiles, Problem
from engine.rulefiles.context import RuleContext
from engine.rulefiles.files import read_rule_documents
from engine.rulefiles.lint import WrittenRule, inhibition_problems
from engine.rulefiles.rule import read_rule
from engine.templates.compiler import TemplateProblem

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
) -> LoadedRules:
    """All rules of the files and folders in `paths`. Raises InvalidFiles with every problem when any of them is wrong.

    `inventory` and `config` are what rules may refer to (columns, secrets); None leaves those references unchecked.
    `performs`: False where no action is carried out, so that what only sending needs (`smtp`) may be missing.
    """
    problems: list[Problem] = []
    documents = read_rule_documents([Path(path) for path in paths], problems)
    rules: list[Rule] = []
    seen: dict[str, str] = {}
    written: list[WrittenRule] = []
    for document in documents:
        structural = schema_problems(document, "rules")
        problems += structural
        broken = _broken_rules(structural)
        entries = document.value.get("rules") if isinstance(document.value, dict) else None
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            _check_name(entry, index, document, seen, problems)
            if index not in broken and isinstance(entry, dict):
                written.append((document, index, entry))
                context = RuleContext(
                    document=document,
                    at=("rules", index),
                    problems=problems,
                    inventory=inventory,
                    config=config,
                    performs=performs,
                )
                rules += [rule] if (rule := read_rule(context, entry)) is not None else []
    problems += inhibition_problems(written, seen)
    if len(rules) > MAX_RULES:
        message = f"{len(rules)} rules in all files, but at most {MAX_RULES} are allowed"
        problems.append(documents[0].problem((), message))
    order = {document.file: place for place, document in enumerate(documents)}
    problems.sort(key=lambda problem: (order.get(problem.file, -1), problem.line, problem.column))
    if any(not problem.warning for problem in problems):
        raise InvalidFiles(problems)
    return LoadedRules(rules=tuple(rules), problems=tuple(problems))


def _broken_rules(problems: Iterable[Problem]) -> set[int]:
    """The indices of rules whose structure is wrong: they are not read."""
    found = (re.match(r"rules\[(\d+)\]", problem.path) for problem in problems)
    return {int(match.group(1)) for match in found if match}


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
    except (ValueError, KeyError, TypeError, AttributeError, TemplateProblem) as error:
        raise ValueError(f"is not the definition of a rule: {error!r}") from error
    if rule is None:
        raise ValueError(f"is not the definition of a rule: {problems[0].message}")
    return rule
