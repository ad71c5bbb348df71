"""`rollcall silence` and `rollcall alerts ack`: what operators say about alerts."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

import click

from engine.cli.asking import desk
from engine.cli.options import config_option, format_option, limit_option
from engine.cli.showing import as_line, limited, say, show
from engine.errors import BadQuestion, RollcallError

COLUMNS = ("id", "state", "match", "from", "until", "author", "comment")


@click.group()
def silence() -> None:
    """What nobody wants to hear for a while: by whom, and why."""


@silence.command("add")
@config_option
@format_option
@click.option("--match", "pairs", multiple=True, help="key=pattern, as in a rule's match; may be repeated.")
@click.option("--everything", is_flag=True, help="Without --match: all clients, and the feeds too.")
@click.option("--for", "length", required=True, help="How long: 30m, 2h, 1d.")
@click.option("--author", required=True, help="Who wants it.")
@click.option("--comment", required=True, help="Why.")
def add(
    config_path: Path, style: str, pairs: tuple[str, ...], everything: bool, length: str, author: str, comment: str
) -> None:
    """Silence whom all matchers cover. Recoveries of what was sent before still come."""
    if bool(pairs) == everything:
        raise BadQuestion("say whom: --match key=pattern, such as --match group=GID_PUMP; or --everything")
    wanted = {"match": _match(pairs), "for": length, "author": author, "comment": comment}
    with desk(config_path, write=True) as asked:
        _tell(asked.silence(wanted), style)


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
@click.option("--state", type=click.Choice(["active", "expired"]))
@click.option("--author", help="Only those of this author.")
@limit_option(100)
def list_silences(config_path: Path, style: str, state: str | None, author: str | None, limit: int) -> None:
    """Silences, newest first."""
    with desk(config_path) as asked:
        show(limited(asked.silences({"state": state, "author": author}), limit), style, COLUMNS)


@silence.command("expire")
@config_option
@format_option
@click.argument("ids", nargs=-1, required=True)
def expire(config_path: Path, style: str, ids: tuple[str, ...]) -> None:
    """End silences now; what they held back and still holds fires, together."""
    refused = False
    with desk(config_path, write=True) as asked:
        for id_ in ids:
            try:
                _tell(asked.expire_silence(id_), style)
            except RollcallError as error:
                say(str(error), err=True)
                refused = True
    sys.exit(1 if refused else 0)


def _tell(found: dict[str, Any], style: str) -> None:
    if style == "jsonl":
        click.echo(as_line(found))
    else:
        say(f"silence {found['id']} is {found['state']} until {found['until']}: {found['author']}: {found['comment']}")


@click.command("ack")
@config_option
@format_option
@click.argument("words", nargs=-1, required=True, metavar="RULE CLIENT | ALERT_ID")
@click.option("--by", default=None, help="Who knows; default: you.")
def acknowledge(config_path: Path, style: str, words: tuple[str, ...], by: str | None) -> None:
    """Say that somebody knows: no more reminders. The recovery is sent all the same."""
    if len(words) > 2:
        raise BadQuestion("name a rule and a client, or the id of an alert")
    who = by if by is not None else _user()
    with desk(config_path, write=True) as asked:
        if len(words) == 1:
            ids = [words[0]]
        else:
            found = asked.alerts({"state": "firing", "rule": words[0], "client": words[1]})
            ids = [alert["id"] for alert in found]
            if not ids:
                raise RollcallError(f"no alert of {words[0]} about {words[1]!r} is firing")
        for id_ in ids:
            told = asked.acknowledge(id_, who)
            text = as_line({"id": id_} | told) if style == "jsonl" else f"{told['acknowledged']} acknowledged by {who}"
            click.echo(text)


@click.command("why-not")
@config_option
@format_option
@click.argument("rule")
@click.argument("client")
def why_not(config_path: Path, style: str, rule: str, client: str) -> None:
    """The gate that stopped a rule for a client, and every other one on the way."""
    with desk(config_path) as asked:
        found = asked.why_not(rule, client)
    if style == "jsonl":
        click.echo(as_line(found))
        return
    say(f"{rule} for {client}: {found['why']}")
    for gate in found["gates"]:
        until = f" (until {gate['until']})" if gate["until"] is not None else ""
        say(f"  {'passed' if gate['open'] else 'CLOSED'}  {gate['gate']:<10}  {gate['why']}{until}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an operator"
