"""The cases that both versions are given: folders with a configuration, rules, a trace or scenarios, and commands to run there.

`random_case` writes the case of a seed, `worked_cases` copies folders of cases that people wrote. Names of commands say how their
output is compared (`tests.compare.differences`): `check` by its exit code, `test` by what programs read of it, all others
byte for byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.compare.actions import FILES
from tests.compare.fleets import Story, story
from tests.compare.rule_sets import INVENTORY, Rule, config, rule_set
from tests.compare.scenario_files import scenario_file
from tests.compare.versions import Commands

REPLAY = ("replay", "events.jsonl", "-c", "config.yaml")
JSONL = (*REPLAY, "--format", "jsonl")
TABLE = (*REPLAY, "--format", "table")
AGAINST = (*JSONL, "--against", "other-rules/")
CHECK = ("check", "-c", "config.yaml")
CHECK_OTHERS = (*CHECK, "other-rules/")
TEST = ("test", "-v", "--format", "jsonl", "--junit", "{label}.junit.xml", "scenarios/")
SHARED = ("replay", "long.jsonl", "-c", "config.yaml", "--format", "jsonl", "--rules", "narrow-rules/")

LONGEST_TRACE = 250
LONGEST_SCENARIO = 60
SHARED_BYTES = 5 * 1024 * 1024
"""Inputs of this size are replayed by several processes, where the rules allow it."""

REMARK_BYTES = 40_000
"""How much one line of a long trace is padded by: long enough for few lines, short enough to be accepted."""

EVERY_SHARED = 20
"""One seed in so many has a long trace as well."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A folder and the commands to run in it. `rules` are those of its replay, for counting; none for worked cases.

    `gate` must succeed before anything else is run (rules that do not load say nothing); none for worked cases.
    """

    name: str
    folder: Path
    commands: Commands
    gate: Commands = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    narrow_rules: tuple[Rule, ...] = ()
    scenarios: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def random_case(seed: int, folder: Path) -> Case:
    """Write the case of a seed into a new folder. The same seed always writes the same files."""
    random = Random(seed)
    told = story(random, longest=LONGEST_TRACE)
    rules = rule_set(random, told)
    settings = config(random, told.grid)
    _write_yaml(folder / "config.yaml", settings)
    (folder / "secret.txt").write_text("s3cret\n")
    (folder / "inventory.csv").write_text(INVENTORY)
    (folder / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in told.lines(random)))
    _write_rules(folder / "rules", rules)
    others = rule_set(random, told) if random.random() < 0.3 else _edited(random, told, rules)
    _write_rules(folder / "other-rules", others)
    scenarios = scenario_file(random, [story(random, longest=LONGEST_SCENARIO) for _ in range(2)], rules)
    _write_yaml(folder / "scenarios" / "random.test.yaml", scenarios)
    commands: dict[str, tuple[str, ...]] = {"jsonl": JSONL, "test": TEST}
    gate: dict[str, tuple[str, ...]] = {"check": CHECK}
    if seed % 2:
        commands["table"] = TABLE
    else:
        commands["against"] = AGAINST
        gate["check-others"] = CHECK_OTHERS
    narrow: list[Rule] = []
    if seed % EVERY_SHARED == 0:
        narrow = _write_long(random, told, folder)
        commands["shared"] = SHARED
        gate["check-narrow"] = (*CHECK, "narrow-rules/")
    return Case(
        name=f"seed {seed}",
        folder=folder,
        gate=gate,
        commands=commands,
        rules=tuple(rules),
        narrow_rules=tuple(narrow),
        scenarios=tuple(scenarios["tests"]),
        settings=settings,
    )


def worked_cases(source: Path, into: Path) -> Iterator[Case]:
    """A copy of each folder below `source` that holds a configuration and a trace."""
    for path in sorted(source.iterdir()):
        if (path / "config.yaml").is_file() and (path / "events.jsonl").is_file():
            folder = into / path.name
            shutil.copytree(path, folder)
            yield Case(name=path.name, folder=folder, commands={"jsonl": JSONL, "table": TABLE})


def _edited(random: Random, told: Story, rules: list[Rule]) -> list[Rule]:
    """The rules as somebody edits them: some gone, some with another key, some new."""
    kept = [dict(rule) for rule in rules if random.random() < 0.8]
    names = {rule["name"] for rule in kept}
    for rule in kept:
        if set(_words(rule.get("inhibited_by", ()))) - names:
            del rule["inhibited_by"]
        if "repeat" not in rule and random.random() < 0.3:
            rule["flapping"] = random.choice(["skip", "fire"])
        rule.pop(random.choice(["throttle", "condition", "mute", "severity", "match"]), None)
    new = [{**rule, "name": f"new-{rule['name']}"} for rule in rule_set(random, told) if "inhibited_by" not in rule]
    return kept + new[:2]


def _words(written: Any) -> tuple[str, ...]:
    return (written,) if isinstance(written, str) else tuple(written)


def _write_long(random: Random, told: Story, folder: Path) -> list[Rule]:
    """A trace that is long enough to be shared out, and rules that allow it; returns the rules."""
    narrow = rule_set(random, told, narrow=True)
    _write_rules(folder / "narrow-rules", narrow)
    lines = told.lines(random)
    padding = b',"padding":"' + b"x" * min(REMARK_BYTES, SHARED_BYTES // max(1, len(lines))) + b'"}'
    with (folder / "long.jsonl").open("wb") as file:
        while file.tell() < SHARED_BYTES:  # again and again: what was told already is a duplicate
            for line in lines:
                whole = line.endswith(b"}") and line.startswith(b"{") and b'"' in line
                file.write((line[:-1] + padding if whole else line) + b"\n")
    return narrow


def _write_rules(folder: Path, rules: list[Rule]) -> None:
    """Rules in one or two files, with the template files that e-mails name."""
    half = len(rules) // 2 if len(rules) > 3 else 0
    _write_yaml(folder / "a.yaml", {"version": 1, "rules": rules[:half]})
    _write_yaml(folder / "b.yaml", {"version": 1, "rules": rules[half:]})
    for name, text in FILES.items():
        (folder / name).write_text(text)


def _write_yaml(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML, and needs no aliases where a value occurs twice.
    path.write_text(
        json.dumps(value, ensure_ascii=False, indent=1) if path.suffix == ".yaml" else yaml.safe_dump(value)
    )
