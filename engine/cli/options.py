"""Options that many commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class _Text(click.ParamType[str]):
    """Text of an argument: an id, a name, a comment. The bytes of an argument that are no UTF-8 reach us as halves of surrogate pairs."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is; wrong use when no request and no store can hold it."""
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"`{text}` is not valid UTF-8", param, ctx)
        return text


def refusing_broken_text(command: click.Command) -> click.Command:
    """The command, with every argument and option that takes a plain text refusing what is not UTF-8; names of files may be any bytes."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = _Text()
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        refusing_broken_text(inner)
    return command


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
        type=click.IntRange(1, sys.maxsize),
        default=default,
        show_default=default is not None,
        help="Show at most this many items.",
    )
