"""`rollcall silence`: silences for a time, with an author and a comment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from engine.cli.connect import operator_api
from engine.cli.options import config_option, format_option, limit_option
from engine.cli.output import as_line, limited, say, show
from engine.errors import BadQuestion, RollcallError

COLUMNS = ("id", "state", "match", "from", "until", "author", "comment")


@click.group()
def silence() -> None:
    """Manage silences: add, list, expire."""


@silence.command("add")
@config_option
@format_option
@click.option("--match", "pairs", multiple=True, help="key=pattern, as in a rule's match; may be repeated.")
@click.option(
    "--everything", is_flag=True, help="Silence everything instead of --match: all clients, and alerts about sources."
)
@click.option("--for", "length", required=True, help="Duration, such as 30m, 2h or 1d.")
@click.option("--author", required=True, help="Your name.")
@click.option("--comment", required=True, help="The reason.")
def add(
    config_path: Path, style: str, pairs: tuple[str, ...], everything: bool, length: str, author: str, comment: str
) -> None:
    """Silence the clients that match all matchers. Recoveries of alerts that fired before are still sent."""
    from engine.runtime.operator_acts import AddSilence

    if bool(pairs) == everything:
        raise BadQuestion("give --match key=pattern, such as --match group=GID_PUMP, or --everything")
    act = AddSilence(match=_match(pairs), for_=length, author=author, comment=comment)
    with operator_api(config_path, write=True) as api:
        _print(api.do(act), style)


def _match(pairs: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, pattern = pair.partition("=")
        if not equals or not key:
            raise BadQuestion(f"`{pair[:100]}` is not key=pattern, such as group=GID_PUMP or device=p-*")
        found.setdefault(key, []).append(pattern)
    return found


@silence.command("list")
@config_option
@format_option
@click.option("--state", type=click.Choice(["active", "expired"]), help="Show only silences in this state.")
@click.option("--author", help="Show only silences of this author.")
@limit_option(100)
def list_silences(config_path: Path, style: str, state: str | None, author: str | None, limit: int) -> None:
    """List silences, newest first."""
    with operator_api(config_path) as api:
        show(limited(api.items("silences", state=state, author=author), limit), style, COLUMNS)


@silence.command("expire")
@config_option
@format_option
@click.argument("ids", nargs=-1, required=True)
def expire(config_path: Path, style: str, ids: tuple[str, ...]) -> None:
    """End silences now. Suppressed alerts whose status still lasts fire then, in one notification per silence."""
    from engine.runtime.operator_acts import ExpireSilence

    refused = False
    with operator_api(config_path, write=True) as api:
        for id_ in ids:
            try:
                _print(api.do(ExpireSilence(id_=id_)), style)
            except RollcallError as error:
                say(str(error), err=True)
                refused = True
    sys.exit(1 if refused else 0)


def _print(found: dict[str, Any], style: str) -> None:
    if style == "jsonl":
        click.echo(as_line(found))
    else:
        end = "is active until" if found["state"] == "active" else "expired at"
        say(f"silence {found['id']} {end} {found['until']}: {found['author']}: {found['comment']}")
