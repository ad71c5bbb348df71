"""Runs the product's replay over a scenario, and makes a scenario that disagrees as small as it gets."""

from __future__ import annotations

import dataclasses as dc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from .compare import clients_only, differences, parsed
from .oracle import Choices, expected
from .settings import read_settings
from .traces import Scenario

Replay = Callable[[Path], str]
"""Replays `events.jsonl` in a configuration folder and returns what was printed."""


def replay_as_a_process(folder: Path) -> str:
    """`rollcall replay` as a person runs it."""
    command = [str(Path(sys.executable).with_name("rollcall")), "replay", "events.jsonl", "-c", "config.yaml"]
    done = subprocess.run(
        [*command, "--format", "jsonl"], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def disagreements(scenario: Scenario, replay: Replay, choices: Choices | None = None) -> list[str]:
    """How the product and the oracle differ over a scenario; a replay that fails is one difference.

    Which of several clients that are due at one instant gets the last room in a throttle is nobody's promise. Where that
    matters, any order will do; where orders are mixed, alerts and deliveries are not compared.
    """
    choices = choices or Choices()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario.write(folder)
        settings = read_settings(folder)
        try:
            actual = parsed(replay(folder))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding and is to be shrunk like one
            return [f"replay failed: {type(error).__name__}: {error}"]
    usual = expected(settings, scenario.trace, choices)
    if not (found := differences(usual, actual)):
        return []
    others = [expected(settings, scenario.trace, dc.replace(choices, ties=order)) for order in ("client", "last")]
    if not all(differences(lines, actual) for lines in others):
        return []
    return found if all(lines == usual for lines in others) else differences(clients_only(usual), clients_only(actual))


def shrunk(scenario: Scenario, fails: Callable[[Scenario], bool], attempts: int = 400) -> Scenario:
    """A smaller scenario that still fails: fewer rules, fewer lines, until nothing can be left out."""
    tries = 0

    def still_fails(candidate: Scenario) -> bool:
        nonlocal tries
        tries += 1
        return tries <= attempts and fails(candidate)

    for index in reversed(range(len(scenario.rules))):
        if len(scenario.rules) > 1 and still_fails(smaller := scenario.without_rule(index)):
            scenario = smaller
    size = max(1, len(scenario.lines) // 2)
    while True:
        before = len(scenario.lines)
        for start in reversed(range(0, before, size)):
            rest = scenario.lines[:start] + scenario.lines[start + size :]
            if still_fails(smaller := scenario.with_lines(rest)):
                scenario = smaller
        if size == 1 and len(scenario.lines) == before:
            return scenario
        size = max(1, size // 2)


def told(scenario: Scenario, found: list[str]) -> str:
    """A disagreement in a form to read and to keep."""
    return "\n".join(
        [
            f"config: {scenario.config}",
            *(f"rule: {rule}" for rule in scenario.rules),
            *(line.decode(errors="backslashreplace")[:300] for line in scenario.lines),
            *found,
        ]
    )


def replay_in_process(folder: Path) -> str:
    """The same command without a new interpreter, so that hundreds of scenarios take seconds."""
    from engine.cli import main  # here, so that the oracle itself needs nothing of the product

    arguments = ["replay", str(folder / "events.jsonl"), "-c", str(folder / "config.yaml"), "--format", "jsonl"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    if done.exit_code:
        raise RuntimeError(f"exit {done.exit_code}: {done.output.strip()[-600:]}")
    return done.stdout


def kept(file: Path) -> Scenario:
    """A history from the archive: the first line holds `config` and `rules`, the others are the trace."""
    head, *lines = file.read_bytes().splitlines()
    found = json.loads(head)
    return Scenario(config=found["config"], rules=tuple(found["rules"]), lines=tuple(lines))


def keep(file: Path, scenario: Scenario, why: str) -> None:
    """Put a scenario into the archive, with a sentence on what it is there for."""
    head = {"why": why, "config": scenario.config, "rules": list(scenario.rules)}
    file.write_bytes(b"\n".join([json.dumps(head).encode(), *scenario.lines]) + b"\n")
