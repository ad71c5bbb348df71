"""`rollcall test`: rule scenarios on virtual time."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from engine.cli.junit import Case, Suite, write_junit
from engine.cli.options import config_option, format_option
from engine.cli.output import as_line, say
from engine.cli.scenario_report import reasons, shown
from engine.core.times import rfc3339
from engine.errors import InvalidFiles, Problem
from engine.replay.scenarios.file import load_scenarios
from engine.replay.scenarios.runner import ScenarioResult, ScenarioRunner

ENDINGS = (".test.yaml", ".test.yml")

SKIPPED = frozenset({"node_modules", "venv", "site-packages"})
"""Folders with files of other projects, which are skipped; those whose name begins with a dot are skipped as well."""


@dataclass(slots=True)
class _Found:
    """The results of one file, or the problems that prevent it from loading."""

    file: str
    results: list[tuple[ScenarioResult, float]] = field(default_factory=list)  # with seconds
    problems: list[Problem] = field(default_factory=list)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@config_option
@click.option("--run", "pattern", metavar="REGEX", help="Run only tests whose name matches this regular expression.")
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Also write the results as JUnit XML to this file."
)
@click.option("-v", "--verbose", is_flag=True, help="Show the timeline of every test, not only of failed tests.")
@format_option
def test(
    files: tuple[Path, ...], config_path: Path, pattern: str | None, junit: Path | None, verbose: bool, style: str
) -> None:
    """Run the scenarios in FILES (files or folders) on virtual time. Default: rules/ beside the configuration, else this folder.

    A scenario file is named NAME.test.yaml. Exit code 0: all tests passed; 1: a test failed, or a file does not load; 2: usage error, or no test found.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot write is shown as an escape
    wanted = _expression(pattern)
    paths = list(_scenario_files(files)) if files else _usual_files(config_path)
    done: list[_Found] = []
    for path in paths:
        found = _carried_out(path, wanted)
        done.append(found)
        (_print_lines if style == "jsonl" else _print)(found, verbose)
    broken = any(found.problems for found in done)
    if not broken and not any(found.results for found in done):
        raise click.UsageError(_nothing(files, paths, pattern))
    if junit is not None:
        write_junit(junit, [_suite(found) for found in done])
    _sum_up(done, style)
    failed = any(not outcome.passed for found in done for outcome, _ in found.results)
    sys.exit(1 if broken or failed else 0)


def _expression(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise click.UsageError(f"--run: {pattern!r} is not a regular expression: {error}") from error


def _nothing(files: Sequence[Path], paths: Sequence[Path], pattern: str | None) -> str:
    """Why no test ran."""
    if paths:
        return f"no test has a name that matches {pattern!r}"
    where = ", ".join(map(str, files)) or "rules/ beside the configuration and in this folder"
    return f"no scenario file (*.test.yaml) in {where}"


# Which files


def _usual_files(config_path: Path) -> list[Path]:
    """The scenario files of `rules/` beside the configuration, else all below this folder."""
    rules = config_path.parent / "rules"
    return (list(_scenario_files([rules])) if rules.is_dir() else []) or list(_scenario_files([Path()]))


def _scenario_files(paths: Iterable[Path]) -> Iterator[Path]:
    """A file is itself, a folder all scenario files below it, sorted; each once."""
    seen: set[Path] = set()
    for path in paths:
        for file in _below(path) if path.is_dir() else [path]:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _below(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED)
        for name in sorted(files):
            if name.endswith(ENDINGS) and not name.startswith("."):
                yield Path(at, name)


# Running them


def _carried_out(path: Path, wanted: re.Pattern[str]) -> _Found:
    found = _Found(str(path))
    try:
        file = load_scenarios(path)
    except InvalidFiles as error:
        found.problems = error.problems
        return found
    runner = ScenarioRunner(file)
    for scenario in file.scenarios:
        if wanted.search(scenario.name):
            began = perf_counter()
            outcome = runner.run(scenario)
            found.results.append((outcome, perf_counter() - began))
    return found


# Output


def _print(found: _Found, verbose: bool) -> None:
    for problem in found.problems:
        say(str(problem), err=True)
    if found.results:
        say(found.file)
    for outcome, _ in found.results:
        click.echo(f"  {_mark(outcome.passed)} ", nl=False)
        say(outcome.scenario.name)
        if verbose or not outcome.passed:
            for line in _detail(outcome, found.file):
                click.echo(f"      {line}".rstrip())


def _mark(passed: bool) -> str:
    """A tick or a cross; letters where the terminal has neither."""
    try:
        "✓✗".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return "ok" if passed else "FAILED"
    return click.style("✓", fg="green") if passed else click.style("✗", fg="red", bold=True)


def _detail(outcome: ScenarioResult, file: str) -> list[str]:
    """The timeline and every reason; both are safe to show."""
    why = list(reasons(outcome, file))
    return [*shown(outcome), "", *why, *([""] if why else [])]


def _print_lines(found: _Found, verbose: bool) -> None:
    """Write each problem and each test as a JSON object."""
    for problem in found.problems:
        place = {"file": problem.file, "line": problem.line, "column": problem.column, "path": problem.path}
        click.echo(as_line({"type": "problem", **place, "message": problem.message}))
    for outcome, seconds in found.results:
        click.echo(as_line(_object(outcome, found.file, seconds, whole=verbose or not outcome.passed)))


def _object(outcome: ScenarioResult, file: str, seconds: float, *, whole: bool) -> dict[str, Any]:
    scenario = outcome.scenario
    result: dict[str, Any] = {
        "type": "test",
        "file": file,
        "line": scenario.line,
        "name": scenario.name,
        "passed": outcome.passed,
        "seconds": round(seconds, 6),
        "differences": list(reasons(outcome, file)),
    }
    if whole:
        result["timeline"] = [{**seen.line, "at": rfc3339(seen.at_ms)} for seen in outcome.timeline]
    return result


def _sum_up(done: Sequence[_Found], style: str) -> None:
    results = [result for found in done for result in found.results]
    passed = sum(outcome.passed for outcome, _ in results)
    broken = sum(bool(found.problems) for found in done)
    if style == "jsonl":
        counts = {"files": len(done), "broken": broken, "passed": passed, "failed": len(results) - passed}
        click.echo(as_line({"type": "summary", **counts}))
        return
    parts = [f"{passed} passed"]
    parts += [f"{len(results) - passed} failed"] if len(results) > passed else []
    parts += [f"{broken} {'file does' if broken == 1 else 'files do'} not load"] if broken else []
    click.echo(f"{', '.join(parts)} ({sum(seconds for _, seconds in results):.2f} s)")


def _suite(found: _Found) -> Suite:
    cases = []
    if found.problems:
        detail = "\n".join(map(str, found.problems))
        cases.append(Case(name="load", seconds=0, failure=str(found.problems[0]), detail=detail, error=True))
    for outcome, seconds in found.results:
        why = list(reasons(outcome, found.file))
        detail = "\n".join(_detail(outcome, found.file))
        failure = f"{why[0]}{f' (and {len(why) - 1} more)' if len(why) > 1 else ''}" if why else None
        cases.append(Case(name=outcome.scenario.name, seconds=seconds, failure=failure, detail=detail if why else ""))
    return Suite(file=found.file, cases=cases)
