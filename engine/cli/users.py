"""`rollcall user`, `rollcall token` and `rollcall audit`: who may use the console and the API, and who did what."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import click

from engine.cli.options import config_option, format_option
from engine.cli.output import say, show
from engine.core.access import ROLES, USER_ROLES

USER_COLUMNS = ("name", "role", "created_at", "password_set_at")
TOKEN_COLUMNS = ("name", "role", "created_at", "expires_at", "expired", "created_by")
AUDIT_COLUMNS = ("at", "who", "kind", "from", "act", "arguments")

LONGEST_INPUT = 4_096


@click.group()
def user() -> None:
    """Manage local users of the console and the API."""


@user.command("add")
@config_option
@click.argument("name")
@click.option(
    "--role", type=click.Choice(USER_ROLES), default="viewer", show_default=True, help="What the user may do."
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it.")
def add_user(config_path: Path, name: str, role: str, password_stdin: bool) -> None:
    """Make the user NAME. From the first user on, a login or a token is needed."""
    from engine.cli.connect import access_api
    from engine.runtime.access_acts import AddUser

    password = _password(password_stdin)
    with access_api(config_path) as api:
        api.do(AddUser(name=name, role=role, password=password))
    say(f"user {name} can sign in as {role}")


@user.command("password")
@config_option
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it.")
def set_password(config_path: Path, name: str, password_stdin: bool) -> None:
    """Give the user NAME another password. All their sessions end."""
    from engine.cli.connect import access_api
    from engine.runtime.access_acts import SetPassword

    password = _password(password_stdin)
    with access_api(config_path) as api:
        api.do(SetPassword(name=name, password=password))
    say(f"the password of {name} was changed, and their sessions have ended")


@user.command("role")
@config_option
@click.argument("name")
@click.argument("role", type=click.Choice(USER_ROLES))
def set_role(config_path: Path, name: str, role: str) -> None:
    """Give the user NAME another ROLE, at once."""
    from engine.cli.connect import access_api
    from engine.runtime.access_acts import SetRole

    with access_api(config_path) as api:
        api.do(SetRole(name=name, role=role))
    say(f"user {name} is {role} now")


@user.command("remove")
@config_option
@click.argument("name")
def remove_user(config_path: Path, name: str) -> None:
    """Remove the user NAME. All their sessions end."""
    from engine.cli.connect import access_api
    from engine.runtime.access_acts import RemoveUser

    with access_api(config_path) as api:
        api.do(RemoveUser(name=name))
    say(f"user {name} was removed")


@user.command("list")
@config_option
@format_option
def list_users(config_path: Path, style: str) -> None:
    """Show the users with their roles."""
    from engine.cli.connect import access_api

    with access_api(config_path) as api:
        show(api.items("users"), style, USER_COLUMNS)


@click.group()
def token() -> None:
    """Manage tokens for programs."""


@token.command("add")
@config_option
@click.argument("name")
@click.option(
    "--role", type=click.Choice(ROLES), required=True, help="What may be done with it; source: post events only."
)
@click.option(
    "--expires", metavar="DURATION", help="For how long it is valid, such as 90d. Default: until it is removed."
)
def add_token(config_path: Path, name: str, role: str, expires: str | None) -> None:
    """Make the token NAME and print it. It is kept nowhere: this is the only time it can be read."""
    from engine.cli.connect import access_api
    from engine.runtime.access_acts import AddToken

    with access_api(config_path) as api:
        found = api.do(AddToken(name=name, role=role, expires=expires))
    click.echo(found["token"])
    until = f"until {found['expires_at']}" if found["expires_at"] else "until it is removed"
    say(f"token {name} ({role}) is valid {until}; send it as `Authorization: Bearer`", err=True)


@token.command("remove")
@config_option
@click.argument("name")
def remove_token(config_path: Path, name: str) -> None:
    """Remove the token NAME: it is valid no longer."""
    from engine.cli.connect import access_api
    from engine.runtime.access_acts import RemoveToken

    with access_api(config_path) as api:
        api.do(RemoveToken(name=name))
    say(f"token {name} was removed")


@token.command("list")
@config_option
@format_option
def list_tokens(config_path: Path, style: str) -> None:
    """Show the tokens with their roles; what a token is cannot be shown."""
    from engine.cli.connect import access_api

    with access_api(config_path) as api:
        show(api.items("tokens"), style, TOKEN_COLUMNS)


@click.command()
@config_option
@format_option
@click.option("--who", metavar="NAME", help="Only what this user or token did.")
@click.option("--act", metavar="ACT", help="Only these acts, such as Acknowledge.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many entries to show.")
def audit(config_path: Path, style: str, who: str | None, act: str | None, limit: int) -> None:
    """Show the audit log, newest first: who did what, from where and when."""
    from engine.cli.connect import access_api

    with access_api(config_path) as api:
        show(islice(api.items("audit", who=who, act=act), limit), style, AUDIT_COLUMNS)


def _password(from_input: bool) -> str:
    """What is typed twice, without being shown, or the first line of standard input."""
    if from_input:
        return sys.stdin.readline(LONGEST_INPUT).rstrip("\r\n")
    found: Any = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return str(found)
