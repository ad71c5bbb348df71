"""`rollcall replay`: what these rules would have done with recorded events."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from engine.cli.options import config_option
from engine.cli.output import say
from engine.cli.replay_page import about, page, step
from engine.config.inventory import Inventory
from engine.config.loader import Config, load_config
from engine.core.foreign_text import visible_json, visible_text
from engine.core.rules import Rule
from engine.replay.diff import ONLY_OLD, TOTALS, changes_between, original, totals_by_rule
from engine.replay.parallel import MIN_BYTES, processors, run_shared, shares_of
from engine.replay.recording import chunks_of, kind_problem, opened
from engine.replay.runner import Replay, ReplayOutcome
from engine.replay.settings import settings_of
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import inventory_of

_KEPT: list[Replay] = []


@click.command()
@click.argument("events", type=click.Path(path_type=Path, allow_dash=True))
@config_option
@click.option(
    "--rules", type=click.Path(path_type=Path, exists=True), help="Rules to use instead of the configured ones."
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True),
    help="Compare with these rules, the old ones: numbers for each rule, and what only one of the two does.",
)
@click.option("--fail-on-diff", is_flag=True, help="With --against: exit with 1 if there is any difference.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "jsonl", "html"]),
    default="table",
    show_default=True,
    help="A table, one JSON object per line, or an HTML page.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file instead of standard output.")
def replay(
    events: Path,
    config_path: Path,
    rules: Path | None,
    against: Path | None,
    fail_on_diff: bool,
    style: str,
    output: Path | None,
) -> None:
    """Run EVENTS (a file of JSON lines, `-` for standard input) through the rules on virtual time. Nothing is sent."""
    if fail_on_diff and against is None:
        raise click.UsageError("--fail-on-diff compares with other rules: name them with --against")
    config = load_config(config_path)
    if str(events) != "-" and (not events.exists() or events.is_dir()):
        raise click.UsageError(f"{events} is not a file")
    if str(events) != "-" and (problem := kind_problem(str(events))) is not None:
        raise click.UsageError(problem)
    if output is not None and output.exists() and events.exists() and output.samefile(events):
        raise click.UsageError(f"the output would overwrite the events in {events}")
    gc.disable()  # a replay makes no reference cycles, and searching for them among a million clients takes long
    try:
        outcome, differs = _carry_out(
            config, Recording(events, twice=against is not None), rules, against, style, output
        )
    finally:
        gc.freeze()
        gc.enable()
    if outcome.warning is not None:
        say(f"{events}: {outcome.warning}", err=True)
    if outcome.accepts_nothing or (fail_on_diff and differs):
        sys.exit(1)


class Recording:
    """The events to replay. Input that can be read only once (standard input, a pipe) is kept when it is needed twice."""

    def __init__(self, path: Path, *, twice: bool) -> None:
        self.name = str(path)
        self._path = path
        once = self.name == "-" or not path.is_file()
        self._kept: bytes | None = None
        if once and twice:
            with self._source() as file:
                self._kept = file.read()

    def _source(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        return contextlib.nullcontext(sys.stdin.buffer) if self.name == "-" else self._path.open("rb")

    def open(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        """From the start."""
        return self._source() if self._kept is None else io.BytesIO(self._kept)

    def check(self) -> None:
        """Raise BadRecording for a file that is not read: it is packed, or in another encoding."""
        if self._path.is_file():
            with self._path.open("rb") as file:
                opened(file, self.name)

    @property
    def size(self) -> int:
        """Bytes; 0 when not known."""
        return 0 if self.name == "-" or not self._path.is_file() else os.path.getsize(self._path)


def _carry_out(
    config: Config, events: Recording, rules: Path | None, against: Path | None, style: str, output: Path | None
) -> tuple[ReplayOutcome, bool]:
    """What came of it, and whether the rules differ in what they do."""
    inventory = inventory_of(config)
    # Before the output is opened: a mistake in a rule or in the recording must not overwrite an older result.
    events.check()
    ours = _loaded(config, inventory, rules)
    theirs = ours if against is None else _loaded(config, inventory, against)
    with _output(output) as out:
        if style == "jsonl" and against is None:
            return _replay(config, inventory, ours, events, _visible(out.write)), False
        lines, outcome = _collect(config, inventory, ours, events)
        old = None if against is None else _collect(config, inventory, theirs, events)[0]
        changes = None if old is None else changes_between(lines, old)
        totals = [] if old is None else totals_by_rule(lines, old)
        text = _written(style, lines, changes, totals, events.name, str(rules or config.path))
        out.write(text.encode("utf-8", "replace"))
    return outcome, bool(changes)


def _loaded(config: Config, inventory: Inventory, rules: Path | None) -> tuple[Rule, ...]:
    paths = (rules,) if rules else config.rules
    return load_rules(paths, inventory=inventory, config=config, performs=False).rules


def _written(
    style: str,
    ours: list[dict[str, Any]],
    changes: list[dict[str, Any]] | None,
    totals: list[dict[str, Any]],
    events: str,
    rules: str,
) -> str:
    """The result as text in one of the styles; with `changes`, what differs from other rules, with the `totals` by rule."""
    if style == "html":
        return page(events, rules, ours, changes, totals)
    if changes is None:
        return _table(ours)
    if style == "jsonl":
        return "".join(visible_json(json.dumps(entry, ensure_ascii=False)) + "\n" for entry in changes)
    return _totals(totals) + _difference(changes)


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes]]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with _naming(path), path.open("wb") as file:
            yield file


def _visible(write: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Write lines of JSON so that a terminal obeys none of the characters in them; nearly all are ASCII and pass as they are."""

    def written(lines: bytes) -> object:
        return write(lines if lines.isascii() else visible_json(lines.decode("utf-8", "surrogatepass")).encode())

    return written


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Failures to write say which file it was: on a full disk the system does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _replay(
    config: Config, inventory: Inventory, rules: tuple[Rule, ...], events: Recording, write: Callable[[bytes], object]
) -> ReplayOutcome:
    """Replay on as many processors as the rules allow."""
    settings = settings_of(config, inventory, rules)
    share_of = shares_of(rules) if events.size >= MIN_BYTES and processors() > 1 else None
    with contextlib.ExitStack() as stack:
        progress = _progress(stack, events.size)
        if share_of is not None:
            return run_shared(settings, events.name, processors(), share_of, write, progress)
        run = Replay(settings, write)
        _KEPT.append(run)  # until the process ends: freeing a million states would take long
        return run.run(chunks_of(opened(stack.enter_context(events.open()), events.name)), progress)


def _progress(stack: contextlib.ExitStack, size: int) -> Callable[[int], object]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty() or not size:
        return lambda done: None
    from rich.console import Console
    from rich.progress import Progress

    bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = bar.add_task("replaying", total=size)
    return lambda done: bar.advance(task, done)


def _collect(
    config: Config, inventory: Inventory, rules: tuple[Rule, ...], events: Recording
) -> tuple[list[dict[str, Any]], ReplayOutcome]:
    found = io.BytesIO()
    outcome = _replay(config, inventory, rules, events, found.write)
    return [json.loads(line) for line in found.getvalue().splitlines()], outcome


def _table(lines: list[dict[str, Any]]) -> str:
    shown = {"alert", "delivery", "rejected"}
    out = [_row(line) for line in lines if line["type"] in shown and line.get("state") != "pending"]
    summary = lines[-1]
    out.append(", ".join(f"{name} {summary[name]}" for name in summary if name != "type"))
    return "\n".join(out) + "\n"


def _row(line: dict[str, Any]) -> str:
    """One line for people; text from devices in it is escaped."""
    if line["type"] == "rejected":
        return visible_text(f"line {line['line']}: rejected: {line['reason']}")
    return visible_text(f"{line['at']}  {line['rule']}  {about(line)}  {step(line)}")


def _totals(totals: list[dict[str, Any]]) -> str:
    """What each rule does before and after, a row a rule; empty when none does anything."""
    if not totals:
        return ""
    rows = [
        ["rule", *TOTALS],
        *[[one["rule"], *[f"{one[name][0]} -> {one[name][1]}" for name in TOTALS]] for one in totals],
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return (
        "".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
            for row in rows
        )
        + "\n"
    )


def _difference(changes: list[dict[str, Any]]) -> str:
    lines = [f"{'-' if entry['side'] == ONLY_OLD else '+'} {_row(original(entry))}" for entry in changes]
    return "\n".join([*lines, f"{len(changes)} differences"]) + "\n"
