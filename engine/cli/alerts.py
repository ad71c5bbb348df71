"""`rollcall alerts`: list and acknowledge alerts."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.connect import operator_api
from engine.cli.options import client_option, config_option, format_option, limit_option, rule_option
from engine.cli.output import as_line, limited, show
from engine.core.client_ids import shown_name
from engine.errors import BadQuestion, NotThere

if TYPE_CHECKING:
    from engine.runtime.operator_api import OperatorApi

COLUMNS = ("id", "rule", "client", "key", "state", "reason", "started_at", "resolved_at")


@click.group()
def alerts() -> None:
    """List and acknowledge alerts."""


@alerts.command("list")
@config_option
@format_option
@click.option(
    "--state",
    type=click.Choice(["pending", "firing", "suppressed", "resolved"]),
    help="Show only alerts in this state.",
)
@rule_option
@client_option
@limit_option(100)
def list_alerts(
    config_path: Path, style: str, state: str | None, rule: str | None, client: str | None, limit: int
) -> None:
    """List alerts, newest first."""
    with operator_api(config_path) as api:
        show(limited(api.items("alerts", state=state, rule=rule, client=client), limit), style, COLUMNS)


@alerts.command("ack")
@config_option
@format_option
@click.argument("words", nargs=-1, required=True, metavar="RULE CLIENT | ALERT_ID")
@click.option("--by", default=None, help="Name of the person who acknowledges; default: your user name.")
def acknowledge(config_path: Path, style: str, words: tuple[str, ...], by: str | None) -> None:
    """Acknowledge firing alerts. This stops their reminders; their recovery is still sent."""
    from engine.runtime.operator_acts import Acknowledge

    if len(words) > 2:
        raise BadQuestion("give a rule and a client, or the id of an alert")
    name = by if by is not None else _user_name()
    with operator_api(config_path, write=True) as api:
        for id_ in [words[0]] if len(words) == 1 else _firing(api, *words):
            found = api.do(Acknowledge(id_=id_, by=name))
            line = as_line({"id": id_, **found})
            click.echo(line if style == "jsonl" else f"{found['acknowledged']} acknowledged by {name}")


def _firing(api: OperatorApi, rule: str, client: str) -> list[str]:
    """The ids of the firing alerts of a rule for a client. NotThere without any."""
    ids = [str(alert["id"]) for alert in api.items("alerts", state="firing", rule=rule, client=client)]
    if not ids:
        raise NotThere(f"there is no firing alert of the rule {shown_name(rule)[1:-1]} for {shown_name(client)}")
    return ids


def _user_name() -> str:
    from engine.runtime.operator_acts import SOMEBODY

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return SOMEBODY
