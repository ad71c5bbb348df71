"""The command `rollcall`. Each command imports what it needs when it runs, so that `--help` is quick.

What goes wrong on purpose becomes a sentence and an exit code: 0 good, 1 the answer is no, 2 wrong use. Nobody is ever shown
a traceback, except by a developer who sets `ROLLCALL_TRACEBACK`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, NoReturn

import click

COMMANDS = {
    "init": ("engine.cli.starting:init", "Write a starter config.yaml and rules/."),
    "run": ("engine.cli.service:run", "Run the service until SIGTERM."),
    "check": ("engine.cli.service:check", "Check the configuration, the inventory and the rules."),
    "test": ("engine.cli.test:test", "Run rule scenarios on virtual time."),
    "replay": ("engine.cli.replay:replay", "Run recorded events through the rules on virtual time."),
    "explain": ("engine.cli.clients:explain", "The verdict about one client, and what it rests on."),
    "clients": ("engine.cli.clients:clients", "What the engine believes; forget a client."),
    "query": ("engine.cli.reconciling:query", "Ask whether clients are connected at this moment."),
    "reconcile": ("engine.cli.reconciling:reconcile", "Ask about every client now, and report the drift."),
    "sources": ("engine.cli.records:sources", "Connection, lag, caught up to, gaps."),
    "deliveries": ("engine.cli.records:deliveries", "The outbox: list, show, retry, discard."),
    "alerts": ("engine.cli.records:alerts", "Alerts: list."),
    "quarantine": ("engine.cli.records:quarantine", "Events that could not be accepted: list, retry."),
    "simulate": ("engine.cli.simulate:simulate", "Synthetic fleets, storms, faults."),
}

WRONG_USE = 2
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


class _Lazy(click.Group):
    """Commands by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run one command; see the module."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # `| head` has seen enough; what Python would still write at its end goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except Exception as error:  # told in a sentence, whatever it is
            if os.environ.get("ROLLCALL_TRACEBACK"):
                raise
            ctx.exit(_tell(error))
        return found


def _tell(error: Exception) -> int:
    """Say what went wrong, in a sentence; device text in it must not steer the terminal. The exit code."""
    from engine.cli.showing import say
    from engine.errors import BadQuestion, RollcallError

    if isinstance(error, RollcallError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror or error)
    else:
        text = f"a fault of ours: {error!r} (set ROLLCALL_TRACEBACK=1 and try again to see where)"
    for line in text.splitlines():
        say(line, err=True)
    return WRONG_USE if isinstance(error, BadQuestion) else 1


@click.command(cls=_Lazy)
@click.version_option(package_name="rollcall")
def main() -> None:
    """Which MQTT devices are really online, and what to do about it."""


def entry() -> NoReturn:
    """The console script. Leaves at once when the command is done: taking a million states apart would take seconds."""
    code: object = 0
    try:
        main()
    except SystemExit as done:
        code = done.code
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
