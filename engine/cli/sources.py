"""`rollcall sources`: the health of every source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from engine.cli.connect import operator_api
from engine.cli.options import config_option, format_option
from engine.cli.output import show

COLUMNS = ("name", "type", "connected", "behind", "lag", "last_event_at", "gaps", "trouble", "detail")


@click.command()
@config_option
@format_option
def sources(config_path: Path, style: str) -> None:
    """Show whether each source is connected, how far it has been read, and its gaps."""
    with operator_api(config_path) as api:
        found = api.items("sources")
        show(found if style == "jsonl" else _with_queues(found), style, COLUMNS)


def _with_queues(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each source, and below it a row for each of its queues."""
    for source in sources:
        for entry in [source, *(queue | {"name": f"{source['name']}/{queue['name']}"} for queue in source["queues"])]:
            yield entry | {
                name: _with_unit(entry[name], unit) for name, unit in (("behind", "s"), ("lag", source["lag_unit"]))
            }


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"
