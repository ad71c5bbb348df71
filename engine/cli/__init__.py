"""The command `rollcall`. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import importlib
from typing import Any

import click

COMMANDS = {
    "run": "engine.cli.service:run",
    "check": "engine.cli.service:check",
    "replay": "engine.cli.replay:replay",
    "simulate": "engine.cli.simulate:simulate",
    "clients": "engine.cli.asking:clients",
    "sources": "engine.cli.asking:sources",
    "alerts": "engine.cli.asking:alerts",
    "deliveries": "engine.cli.asking:deliveries",
    "quarantine": "engine.cli.asking:quarantine",
    "explain": "engine.cli.asking:explain",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found


@click.command(cls=_Lazy)
@click.version_option(package_name="rollcall")
def group() -> None:
    """Which MQTT devices are really online, and what to do about it."""


def main(*args: Any) -> None:
    """Run one command; mistakes become a sentence on standard error and an exit code, never a traceback."""
    import sys

    from engine.errors import RollcallError

    try:
        group(*args)
    except RollcallError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
