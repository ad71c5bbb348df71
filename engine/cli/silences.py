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

COLUMNS = ("id", "state", "match", "rule", "from", "until", "covers", "author", "comment")


@click.group()
def silence() -> None:
    """Manage silences: add, list, expire."""


@silence.command("add")
@config_option
@format_option
@click.option(
    "--match",
    "pairs",
    multiple=True,
    help="key=pattern, as in a rule's match, or rule=pattern for alerts of these rules alone; may be repeated.",
)
@click.option(
    "--everything", is_flag=True, help="Silence everything instead of --match: all clients, and alerts about sources."
)
@click.option("--from", "start", help="When it begins: a time such as 2026-03-01T22:00:00Z, or a duration from now.")
@click.option("--for", "length", help="Duration, such as 30m, 2h or 1d.")
@click.option("--author", help="Your name.")
@click.option("--comment", help="The reason.")
@click.option("--dry-run", is_flag=True, help="Only say how many clients and open alerts it would cover.")
def add(
    config_path: Path,
    style: str,
    pairs: tuple[str, ...],
    everything: bool,
    start: str | None,
    length: str | None,
    author: str | None,
    comment: str | None,
    dry_run: bool,
) -> None:
    """Silence the clients that match all matchers, or alerts of rules. Recoveries of alerts that fired before are still sent."""
    from engine.runtime.operator_acts import AddSilence

    if bool(pairs) == everything:
        raise BadQuestion(
            "give --match key=pattern, such as --match group=GID_PUMP or --match rule=pump-offline, or --everything"
        )
    missing = [name for name, value in (("--for", length), ("--author", author), ("--comment", comment)) if not value]
    if missing and not dry_run:
        raise BadQuestion(f"{', '.join(missing)} must be given: every silence has an end, an author and a reason")
    match = _match(pairs)
    rules = match.pop("rule", None)
    act = AddSilence(
        match=match,
        rule=rules,
        from_=start,
        for_=length,
        author=author,
        comment=comment,
        dry_run=dry_run,
    )
    with operator_api(config_path, write=True) as api:
        found = api.do(act)
    _print(found, style)
    if style != "jsonl":
        _say_what_is_covered(found)


def _say_what_is_covered(found: dict[str, Any]) -> None:
    covers = found["covers"]
    if covers is not None:
        say(f"it covers {_count(covers['clients'], 'client')} and {_count(covers['alerts'], 'open alert')}")
    for warning in found["warnings"]:
        say(f"warning: {warning}", err=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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
@click.option("--state", type=click.Choice(["planned", "active", "expired"]), help="Show only silences in this state.")
@click.option("--author", help="Show only silences of this author.")
@limit_option(100)
def list_silences(config_path: Path, style: str, state: str | None, author: str | None, limit: int) -> None:
    """List silences, newest first."""
    with operator_api(config_path) as api:
        found = limited(api.items("silences", state=state, author=author), limit)
        show(found if style == "jsonl" else map(_row, found), style, COLUMNS)


def _row(found: dict[str, Any]) -> dict[str, Any]:
    """A silence as the table shows it."""
    covers = found["covers"]
    counts = "" if covers is None else f"{_count(covers['clients'], 'client')}, {_count(covers['alerts'], 'alert')}"
    return found | {"rule": ", ".join(found["rule"]), "covers": counts}


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
        what = "nothing was made: the silence would be" if found.get("dry_run") else f"silence {found['id']} is"
        when = {
            "planned": f"{what} planned from {found['from']} until {found['until']}",
            "active": f"{what} active until {found['until']}",
            "expired": f"silence {found['id']} expired at {found['until']}",
        }[found["state"]]
        say(when if found.get("dry_run") else f"{when}: {found['author']}: {found['comment']}")
