"""`rollcall sources`, `alerts`, `deliveries`, `quarantine`: what happened, what was sent, what was not accepted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from engine.cli.asking import desk
from engine.cli.options import config_option, format_option, limit_option
from engine.cli.showing import as_line, limited, plain, say, show
from engine.cli.silences import acknowledge
from engine.errors import BadQuestion, RollcallError

rule_option = click.option("--rule", help="Only those of this rule.")
client_option = click.option("--client", help="Only those about this client.")
DELIVERY_COLUMNS = ("id", "rule", "client", "action", "target", "state", "attempts", "due_at", "last_error")


@click.command()
@config_option
@format_option
def sources(config_path: Path, style: str) -> None:
    """Whether each source is connected, how far it has been read, and what is known to be missing."""
    with desk(config_path) as asked:
        columns = ("name", "type", "connected", "behind", "lag", "last_event_at", "gaps", "trouble", "detail")
        found = asked.sources()
        show(found if style == "jsonl" else _with_queues(found), style, columns)


def _with_queues(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each source, and below it a row for each of its queues."""
    for source in sources:
        for entry in [source, *(queue | {"name": f"{source['name']}/{queue['name']}"} for queue in source["queues"])]:
            yield entry | {
                name: _measured(entry[name], unit) for name, unit in (("behind", "s"), ("lag", source["lag_unit"]))
            }


def _measured(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


@click.group()
def alerts() -> None:
    """Alerts."""


@alerts.command("list")
@config_option
@format_option
@click.option("--state", type=click.Choice(["pending", "firing", "suppressed", "resolved"]))
@rule_option
@client_option
@limit_option(100)
def list_alerts(
    config_path: Path, style: str, state: str | None, rule: str | None, client: str | None, limit: int
) -> None:
    """Alerts, newest first."""
    with desk(config_path) as asked:
        found = asked.alerts({"state": state, "rule": rule, "client": client})
        columns = ("id", "rule", "client", "key", "state", "reason", "started_at", "resolved_at")
        show(limited(found, limit), style, columns)


alerts.add_command(acknowledge)


@click.group()
def deliveries() -> None:
    """The outbox: what is sent, waits or is given up."""


@deliveries.command("list")
@config_option
@format_option
@click.option("--state", type=click.Choice(["due", "delivered", "dead", "held", "shadow", "discarded"]))
@rule_option
@client_option
@click.option("--alert", help="Only those of this alert.")
@limit_option(100)
def list_deliveries(config_path: Path, style: str, limit: int, **wanted: str | None) -> None:
    """Deliveries, newest first."""
    with desk(config_path) as asked:
        show(limited(asked.deliveries(wanted), limit), style, DELIVERY_COLUMNS)


@deliveries.command("show")
@config_option
@format_option
@click.argument("number", type=click.IntRange(0))
def show_delivery(config_path: Path, style: str, number: int) -> None:
    """One delivery with the request as it is sent, secrets concealed."""
    with desk(config_path) as asked:
        found = asked.delivery(number)
    if style == "jsonl":
        click.echo(as_line(found))
        return
    gates = found.pop("passed")
    width = max(map(len, found))
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        first, *rest = [plain(line) for line in text.split("\n")]
        click.echo("\n".join([f"{name:<{width}}  {first}", *(f"{'':<{width}}  {line}" for line in rest)]))
    click.echo("its decision passed:" if gates else "what its rule said then is not kept any more")
    for gate in gates:
        say(f"  {gate['gate']:<10}  {gate['why']}")


@deliveries.command("retry")
@config_option
@format_option
@click.argument("numbers", type=click.IntRange(0), nargs=-1, required=True)
def retry_delivery(config_path: Path, style: str, numbers: tuple[int, ...]) -> None:
    """Send dead deliveries once more."""
    _act(config_path, style, numbers, "retry")


@deliveries.command("release")
@config_option
@format_option
@click.argument("numbers", type=click.IntRange(0), nargs=-1)
@click.option("--rule", help="All that are held of this rule.")
def release_delivery(config_path: Path, style: str, numbers: tuple[int, ...], rule: str | None) -> None:
    """Send what the guard `deliveries.burst` held."""
    _act_on_held(config_path, style, numbers, rule, "release")


@deliveries.command("discard")
@config_option
@format_option
@click.argument("numbers", type=click.IntRange(0), nargs=-1)
@click.option("--rule", help="All that are held of this rule.")
def discard_delivery(config_path: Path, style: str, numbers: tuple[int, ...], rule: str | None) -> None:
    """Give deliveries up: they are never sent."""
    _act_on_held(config_path, style, numbers, rule, "discard")


def _act_on_held(config_path: Path, style: str, numbers: tuple[int, ...], rule: str | None, what: str) -> None:
    """By their numbers, or all that are held of a rule."""
    if bool(numbers) == (rule is not None):
        raise BadQuestion("say which: the numbers of deliveries, or --rule NAME for all that are held of a rule")
    if rule is None:
        _act(config_path, style, numbers, what)
    with desk(config_path, write=True) as asked:
        found = asked.act_on_held(rule or "", what)
    click.echo(as_line(found) if style == "jsonl" else f"{found['changed']} {what}{'d' if what[-1] == 'e' else 'ed'}")


def _act(config_path: Path, style: str, numbers: tuple[int, ...], what: str) -> None:
    """One after another; what is refused does not stop the others, and makes the answer no."""
    refused = False
    with desk(config_path, write=True) as asked:
        for number in numbers:
            try:
                found = asked.act_on_delivery(number, what)
            except RollcallError as error:
                say(str(error), err=True)
                refused = True
                continue
            click.echo(as_line(found) if style == "jsonl" else f"delivery {number} is {found['state']}")
    sys.exit(1 if refused else 0)


@click.group()
def quarantine() -> None:
    """Events that could not be accepted."""


@quarantine.command("list")
@config_option
@format_option
@limit_option(100)
def list_quarantine(config_path: Path, style: str, limit: int) -> None:
    """Quarantined events, newest first."""
    with desk(config_path) as asked:
        show(limited(asked.quarantine(), limit), style, ("id", "received_at", "source", "reason", "raw"))


@quarantine.command("retry")
@config_option
@format_option
def retry_quarantine(config_path: Path, style: str) -> None:
    """Offer all of them again; what is accepted now leaves the quarantine."""
    with desk(config_path, write=True) as asked:
        found: dict[str, Any] = asked.retry_quarantine()
    if style == "jsonl":
        click.echo(as_line(found))
    else:
        click.echo(f"{found['accepted']} accepted, {found['rejected']} still malformed")
    sys.exit(1 if found["rejected"] and not found["accepted"] else 0)
