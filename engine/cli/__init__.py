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
    """Commands by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found


    def invoke(self, ctx: click.Context) -> Any:
        """Run one command; what goes wrong on purpose becomes a sentence and an exit code, never a traceback."""
        from engine.errors import RollcallError

        try:
            return super().invoke(ctx)
        except RollcallError as error:
            click.echo(str(error), err=True)
            ctx.exit(1)


@click.command(cls=_Lazy)
@click.version_option(package_name="rollcall")
def main() -> None:
    """Which MQTT devices are really online, and what to do about it."""
