"""`rollcall cells`: which replica owns each cell of a store that several share, and how to give a cell to another one."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.options import config_option, format_option
from engine.cli.output import say, show

COLUMNS = ("cell", "owner", "epoch", "lease_left", "wanted", "standby", "behind")


@click.group(invoke_without_command=True)
@click.pass_context
def cells(context: click.Context) -> None:
    """Show the cells of a shared store and their owners; give a cell to another replica."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@cells.command("list")
@config_option
@format_option
def list_(config_path: Path, style: str) -> None:
    """Show each cell: its owner, how often it was taken, and who stands by."""
    from engine.config.loader import load_config
    from engine.runtime.cell_admin import cell_objects

    show(cell_objects(load_config(config_path)), style, COLUMNS)


@cells.command()
@config_option
@click.argument("cell")
@click.argument("replica")
def move(config_path: Path, cell: str, replica: str) -> None:
    """Give CELL to REPLICA: the owner finishes what is in hand, and nothing is lost or sent twice."""
    from engine.config.loader import load_config
    from engine.runtime.cell_admin import move_cell

    say(move_cell(load_config(config_path), cell, replica))


@cells.command()
@config_option
@click.argument("cell")
def release(config_path: Path, cell: str) -> None:
    """Have the owner of CELL give it back, for any other replica to take: before its machine is serviced, for example."""
    from engine.config.loader import load_config
    from engine.runtime.cell_admin import release_cell

    say(release_cell(load_config(config_path), cell))
