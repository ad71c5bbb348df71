"""`rollcall reconcile`: a sweep through all clients, and its drift report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.connect import operator_api
from engine.cli.options import config_option, format_option
from engine.cli.output import as_line, say, show
from engine.errors import Overloaded

if TYPE_CHECKING:
    from engine.runtime.operator_api import OperatorApi

DRIFT = ("client", "believed", "connections", "at")

COUNTS = ("total", "asked", "agreed", "corrected", "unknown", "failed", "corrections_left_out")
"""What is added up where several cells have a sweep each."""

POLL_S = 0.25
"""Seconds between two looks at a running sweep."""

NEWEST = 20
"""Sweeps among which a running one is searched."""

FULL = ("operator", "schedule")
DRY_RUN = ("dry run",)
"""The reasons of running sweeps that a command joins: one that corrects, or a dry run."""


@click.command()
@config_option
@format_option
@click.option("--dry-run", is_flag=True, help="Report what would be corrected; change nothing.")
def reconcile(config_path: Path, style: str, dry_run: bool) -> None:
    """Query every client now, correct wrong statuses, and report the drift.

    If a sweep is already running, its progress is followed; a narrower one finishes first, then yours starts. Exit code 1 if
    some clients got no usable answer.
    """
    with operator_api(config_path, write=True) as api:
        found = _followed(_progress(api, dry_run, lambda note: say(note, err=True)), quiet=style == "jsonl")
        for number in found.pop("others", ()):  # of the other cells
            found = _together(found, _followed(_finishing(api, number), quiet=style == "jsonl"))
    if style == "jsonl":
        click.echo(as_line(found))
    else:
        _report(found, dry_run=dry_run)
    sys.stdout.flush()
    if found["unknown"] or found["failed"]:
        sys.exit(1)


def _progress(api: OperatorApi, dry_run: bool, note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Begin a sweep or join one, and return it again and again until it has finished. `note` gets what has to be waited for."""
    found = _begin_or_join(api, dry_run, note)
    others = {"others": found.pop("others", ())}
    yield found | others
    while found["finished_at"] is None:
        found = _poll(api, found)
        yield found | others


def _finishing(api: OperatorApi, number: int) -> Iterator[dict[str, Any]]:
    """A sweep that has begun, again and again until it has finished."""
    found = api.sweep(number)
    yield found
    while found["finished_at"] is None:
        found = _poll(api, found)
        yield found


def _together(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Finished sweeps of two cells as one."""
    sums = {key: one[key] + other[key] for key in COUNTS}
    times = {
        "started_at": min(one["started_at"], other["started_at"]),
        "finished_at": max(one["finished_at"], other["finished_at"]),
    }
    return one | sums | times | {"corrections": one["corrections"] + other["corrections"]}


def _begin_or_join(api: OperatorApi, dry_run: bool, note: Callable[[str], None]) -> dict[str, Any]:
    """A new sweep; or the running one when it does all that is wanted, after the running one otherwise."""
    from engine.runtime.operator_acts import BeginSweep

    while True:
        try:
            return api.do(BeginSweep(dry_run=dry_run))
        except Overloaded:
            running = _running(api)
        if running is None:  # it is about to begin, or has just finished
            time.sleep(POLL_S)
            continue
        number, why = running["id"], running["why"]
        if why in (DRY_RUN if dry_run else FULL):
            note(f"sweep {number} is already running ({why}); joining it")
            return running
        note(f"sweep {number} is running ({why}); a new sweep starts when it has finished")
        while running["finished_at"] is None:
            running = _poll(api, running)


def _running(api: OperatorApi) -> dict[str, Any] | None:
    numbers = [
        int(sweep["id"]) for sweep in islice(api.items("reconciliations"), NEWEST) if sweep["finished_at"] is None
    ]
    return api.sweep(numbers[-1]) if numbers else None


def _poll(api: OperatorApi, sweep: dict[str, Any]) -> dict[str, Any]:
    time.sleep(POLL_S)
    return api.sweep(sweep["id"])


def _followed(steps: Iterator[dict[str, Any]], *, quiet: bool) -> dict[str, Any]:
    """Show the progress of a sweep on standard error; returns the finished sweep."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("querying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: dict[str, Any] = {}
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as shown:
        task = shown.add_task("querying", total=None)
        for found in steps:
            shown.update(task, total=found["total"], completed=found["asked"])
    return found


def _report(found: dict[str, Any], *, dry_run: bool) -> None:
    """The drift report in words and as a table."""
    corrected = "to correct" if dry_run else "corrected"
    say(
        f"queried {found['asked']} of {found['total']}: agreed {found['agreed']}, {corrected} {found['corrected']}, "
        f"unknown {found['unknown']}, failed {found['failed']}"
    )
    if found["corrections"]:
        show(found["corrections"], "table", DRIFT)
    if found["corrections_left_out"]:
        say(f"and {found['corrections_left_out']} more")
