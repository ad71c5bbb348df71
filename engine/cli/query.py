"""`rollcall query`: the status of clients, from the broker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from engine.cli.connect import statuses
from engine.cli.options import config_option, format_option
from engine.cli.output import say, show

COLUMNS = ("client", "online", "connections", "source", "asked_at", "age")


@click.command()
@config_option
@format_option
@click.argument("clients", nargs=-1, required=True, metavar="CLIENT...")
def query(config_path: Path, style: str, clients: tuple[str, ...]) -> None:
    """Query the broker for the status of clients. Without an answer, the status from events is shown.

    Exit code 0 if all of them are online.
    """
    all_online = True

    def found() -> Iterator[dict[str, Any]]:
        nonlocal all_online
        for status in statuses(config_path, clients, lambda problem: say(problem, err=True)):
            all_online = all_online and status["online"] is True
            yield status

    show(found(), style, COLUMNS)
    sys.stdout.flush()
    if not all_online:
        sys.exit(1)
