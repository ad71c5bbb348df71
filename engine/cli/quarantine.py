"""`rollcall quarantine`: events that could not be accepted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from engine.cli.connect import operator_api
from engine.cli.options import config_option, format_option, limit_option
from engine.cli.output import as_line, limited, show

COLUMNS = ("id", "received_at", "source", "reason", "raw")

MAX_SHOWN = 200
"""Characters of an event in the table; `--format jsonl` has all of it."""


@click.group()
def quarantine() -> None:
    """List quarantined events (events that were not accepted), or retry them."""


@quarantine.command("list")
@config_option
@format_option
@limit_option(100)
def list_quarantine(config_path: Path, style: str, limit: int) -> None:
    """List quarantined events, newest first."""
    with operator_api(config_path) as api:
        found = limited(api.items("quarantine"), limit)
        show(found if style == "jsonl" else map(_shortened, found), style, COLUMNS)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the table shows it: an event may be 64 KiB long."""
    raw = row["raw"]
    return row | {"raw": f"{raw[:MAX_SHOWN]}…"} if len(raw) > MAX_SHOWN else row


@quarantine.command("retry")
@config_option
@format_option
def retry_quarantine(config_path: Path, style: str) -> None:
    """Retry all quarantined events; those that are accepted now leave the quarantine.

    Exit code 1 if some were rejected again and none was accepted.
    """
    from engine.runtime.operator_acts import RetryQuarantine

    with operator_api(config_path, write=True) as api:
        found = api.do(RetryQuarantine())
    click.echo(
        as_line(found) if style == "jsonl" else f"{found['accepted']} accepted, {found['rejected']} rejected again"
    )
    sys.exit(1 if found["rejected"] and not found["accepted"] else 0)
