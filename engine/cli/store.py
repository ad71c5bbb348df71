"""`rollcall store`: moves an installation to another kind of store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from engine.cli.options import format_option
from engine.cli.output import as_line, say

CONFIG = click.Path(path_type=Path)


@click.group()
def store() -> None:
    """Move an installation to another store."""


@store.command()
@click.option("--from", "from_path", required=True, type=CONFIG, help="The configuration of the store to copy.")
@click.option(
    "--to", "to_path", required=True, type=CONFIG, help="The configuration of the store to copy to; it must be empty."
)
@click.option("--cell", help="The cell, when a configuration has several; default: the first.")
@format_option
def copy(from_path: Path, to_path: Path, cell: str | None, style: str) -> None:
    """Copy a whole store: SQLite to PostgreSQL, or back.

    Stop the service first: a store that is in use is refused. Everything is copied in one transaction and compared before it is
    committed, so the new store has everything or nothing. The old one is not changed.
    """
    from engine.config.loader import load_config
    from engine.runtime.store_copy import Copied, copy_store
    from engine.runtime.store_factory import foreign_to, open_to_copy

    def tell(found: Copied) -> None:
        if style == "jsonl":
            click.echo(as_line(found._asdict()))
        elif found.rows:
            say(f"{found.table}: {found.rows} rows")

    source_config, target_config = load_config(from_path), load_config(to_path)
    with (
        closing(open_to_copy(source_config, cell, is_source=True)) as source,
        closing(open_to_copy(target_config, cell, is_source=False)) as target,
    ):
        done = copy_store(source, target, tell, foreign_to(target_config, cell))
        if style == "table":
            rows = sum(found.rows for found in done)
            say(f"copied {rows} rows from {source.place} to {target.place}, and compared them")
            say(
                f"from now on start only services with {to_path}: two that work on copies of one store send everything twice"
            )
