"""`rollcall query` and `rollcall reconcile`: asking the broker's service, for a few clients or for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from engine.cli.asking import desk, statuses
from engine.cli.options import config_option, format_option
from engine.cli.showing import as_line, say, show

COLUMNS = ("client", "online", "connections", "source", "asked_at", "age")
DRIFT = ("client", "believed", "connections", "at")


@click.command()
@config_option
@format_option
@click.argument("clients", nargs=-1, required=True, metavar="CLIENT...")
def query(config_path: Path, style: str, clients: tuple[str, ...]) -> None:
    """Ask whether clients are connected at this moment; what is believed where nobody answers.

    Exit code 0 when all of them are online.
    """
    online = True

    def found() -> Iterator[dict[str, Any]]:
        nonlocal online
        for one in statuses(config_path, clients, lambda problem: say(problem, err=True)):
            online = online and one["online"] is True
            yield one

    show(found(), style, COLUMNS)
    sys.stdout.flush()
    if not online:
        sys.exit(1)


@click.command()
@config_option
@format_option
@click.option("--dry-run", is_flag=True, help="Tell what would be corrected, and change nothing.")
def reconcile(config_path: Path, style: str, dry_run: bool) -> None:
    """Ask about every client now, correct what is believed, and report the drift.

    A sweep that goes on already is joined. Exit code 1 when some could not be said.
    """
    with desk(config_path, write=True) as asked:
        found = _followed(asked.sweep(dry=dry_run, tell=lambda what: say(what, err=True)), quiet=style == "jsonl")
    if style == "jsonl":
        click.echo(as_line(found))
    else:
        _report(found, dry_run=dry_run)
    sys.stdout.flush()
    if found["unknown"] or found["failed"]:
        sys.exit(1)


def _followed(steps: Iterator[dict[str, Any]], *, quiet: bool) -> dict[str, Any]:
    """Show how a sweep goes on, on standard error; returns how it ended."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: dict[str, Any] = {}
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as shown:
        task = shown.add_task("asking", total=None)
        for found in steps:
            shown.update(task, total=found["total"], completed=found["asked"])
    return found


def _report(found: dict[str, Any], *, dry_run: bool) -> None:
    """The drift report in words and as a table."""
    corrected = "to correct" if dry_run else "corrected"
    say(
        f"asked {found['asked']} of {found['total']}: agreed {found['agreed']}, {corrected} {found['corrected']}, "
        f"unknown {found['unknown']}, failed {found['failed']}"
    )
    if found["corrections"]:
        show(found["corrections"], "table", DRIFT)
    if found["corrections_left_out"]:
        say(f"and {found['corrections_left_out']} more")
