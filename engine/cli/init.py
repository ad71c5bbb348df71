"""`rollcall init`: a starter configuration and a first rule."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from engine.errors import RollcallError


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False))
def init(folder: Path) -> None:
    """Write a starter config.yaml and rules/ into DIR (default: this folder). Existing files are never overwritten."""
    files = dict(_starter(resources.files("engine.cli") / "starter"))
    existing = [str(folder / name) for name in files if (folder / name).exists()]
    if existing:
        raise RollcallError(f"{', '.join(existing)} already exists; nothing was written")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
        click.echo(f"wrote {path}")
    click.echo(
        f"check it: rollcall check -c {folder / 'config.yaml'}\ntest it:  rollcall test {folder / 'rules'}\n"
        f"run it:   rollcall run -c {folder / 'config.yaml'}"
    )


def _starter(folder: Traversable, at: str = "") -> list[tuple[str, bytes]]:
    """Name and content of each file to write."""
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{at}{entry.name}"
        if entry.is_dir():
            found += _starter(entry, f"{name}/")
        elif entry.name.endswith(".yaml"):
            found.append((name, entry.read_bytes()))
    return found
