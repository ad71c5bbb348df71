"""Options that many commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    default="config.yaml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The configuration file.",
)

format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="A table, or one JSON object per line.",
)


rule_option = click.option("--rule", help="Show only items of this rule.")
client_option = click.option("--client", help="Show only items about this client.")


def limit_option(default: int | None) -> Callable[[Any], Any]:
    """`--limit`: how many are shown at most; a default of None shows all."""
    return click.option(
        "--limit",
        type=click.IntRange(1),
        default=default,
        show_default=default is not None,
        help="Show at most this many items.",
    )
