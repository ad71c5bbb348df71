"""The command `rollcall`. Each command imports what it needs when it runs, so that `--help` is quick.

Every error becomes a sentence and an exit code: 0 success, 1 failure or "no", 2 wrong use. A traceback is shown only when
`ROLLCALL_TRACEBACK` is set.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import signal
import sys
from typing import Any, NoReturn

import click

COMMANDS = {
    "init": ("engine.cli.init:init", "Write a starter config.yaml and rules/."),
    "run": ("engine.cli.service:run", "Run the service until it is stopped (SIGTERM, Ctrl-C)."),
    "check": ("engine.cli.service:check", "Check the configuration, the inventory and the rules."),
    "test": ("engine.cli.test:test", "Run rule scenarios on virtual time."),
    "replay": ("engine.cli.replay:replay", "Run recorded events through the rules on virtual time."),
    "explain": ("engine.cli.clients:explain", "Show a client's status and the evidence for it."),
    "clients": ("engine.cli.clients:clients", "List clients with their status; forget a client."),
    "query": ("engine.cli.query:query", "Query the broker for the status of clients."),
    "reconcile": (
        "engine.cli.reconcile:reconcile",
        "Query every client now, correct wrong statuses, and report the drift.",
    ),
    "sources": ("engine.cli.sources:sources", "Show the health of each source: connection, lag, gaps."),
    "deliveries": ("engine.cli.deliveries:deliveries", "Manage deliveries: list, show, retry, release, discard."),
    "alerts": ("engine.cli.alerts:alerts", "Manage alerts: list, ack."),
    "why-not": ("engine.cli.why_not:why_not", "Show the stage that stops a rule for a client."),
    "silence": ("engine.cli.silences:silence", "Manage silences: add, list, expire."),
    "cells": ("engine.cli.cells:cells", "Manage cells of a shared store: list, move, release."),
    "user": ("engine.cli.users:user", "Manage local users: add, password, role, remove, list."),
    "token": ("engine.cli.users:token", "Manage tokens for programs: add, remove, list."),
    "audit": ("engine.cli.users:audit", "Show the audit log: who did what."),
    "quarantine": ("engine.cli.quarantine:quarantine", "Manage quarantined events (not accepted): list, retry."),
    "notify": ("engine.cli.notify:notify", "Test a receiver: send it a firing, a reminder and a recovery."),
    "store": ("engine.cli.store:store", "Move an installation to another store: copy."),
    "simulate": ("engine.cli.simulate:simulate", "Generate events of a synthetic fleet."),
}

WRONG_USE = 2
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


class _Lazy(click.Group):
    """Commands by name; each is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        from engine.cli.options import refusing_broken_text

        return refusing_broken_text(getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; for a name that does not exist, an error that names the nearest one."""
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            suggestion = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{name}'.{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The options before the command."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            raise _visible(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run one command; see the module."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except click.ClickException as error:
            raise _visible(error) from None
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # The reader (`| head`) has closed the pipe; what Python writes at exit must go nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except Exception as error:  # shown as a sentence, whatever it is
            if os.environ.get("ROLLCALL_TRACEBACK"):
                raise
            ctx.exit(_report(error))
        return found


def _visible(error: click.ClickException) -> click.ClickException:
    """The same error, with escapes for what cannot be seen: it repeats an argument, which may be an id that was copied from somewhere."""
    from engine.core.foreign_text import visible_text

    error.__dict__["message"] = "\n".join(visible_text(line) for line in error.message.split("\n"))
    return error


def _report(error: Exception) -> int:
    """Write what went wrong as a sentence, with device text escaped; returns the exit code."""
    from engine.cli.output import say
    from engine.errors import BadQuestion, RollcallError

    if isinstance(error, RollcallError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror or error)
    else:
        text = f"internal error: {error!r}; please report it, with the output under ROLLCALL_TRACEBACK=1"
    for line in text.splitlines():
        say(line, err=True)
    return WRONG_USE if isinstance(error, BadQuestion) else 1


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rollcall-presence", prog_name="rollcall")
def main() -> None:
    """Rollcall determines which MQTT clients are really online, and sends alerts when that changes."""


def entry() -> NoReturn:
    """The console script. It exits at once when the command is done: freeing a million states would take seconds."""
    code: object = 0
    if sys.stdout is None:  # started with a closed standard output
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # The locale's encoding may lack a character of an id or a name: it is shown as an escape, and the command goes on.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.argv[1:2] == ["run"] and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # asks for a reload, and before anything is loaded it does no harm
    try:
        main()
    except SystemExit as done:
        code = done.code
    for stream in (sys.stdout, sys.stderr):
        if stream is sys.stdout and code == INTERRUPTED:
            continue  # the reader of the output may have stopped reading: Ctrl-C does not wait for it
        with contextlib.suppress(OSError, ValueError, AttributeError):  # None when it was closed before the start
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
