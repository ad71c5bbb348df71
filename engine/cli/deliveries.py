"""`rollcall deliveries`: the outbox."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.connect import operator_api
from engine.cli.options import client_option, config_option, format_option, limit_option, rule_option
from engine.cli.output import as_line, limited, say, show
from engine.core.foreign_text import visible_text
from engine.errors import BadQuestion, RollcallError

if TYPE_CHECKING:
    from engine.runtime.operator_acts import Changed
    from engine.runtime.operator_api import Act, OperatorApi

COLUMNS = ("id", "rule", "client", "action", "target", "state", "attempts", "due_at", "last_error")


@click.group()
def deliveries() -> None:
    """List, show, retry, release and discard deliveries."""


@deliveries.command("list")
@config_option
@format_option
@click.option(
    "--state",
    type=click.Choice(["due", "delivered", "dead", "held", "shadow", "discarded"]),
    help="Show only deliveries in this state.",
)
@rule_option
@client_option
@click.option("--alert", help="Show only deliveries of the alert with this id.")
@limit_option(100)
def list_deliveries(config_path: Path, style: str, limit: int, **filters: str | None) -> None:
    """List deliveries, newest first."""
    with operator_api(config_path) as api:
        found = limited(api.items("deliveries", **filters), limit)
        show(found if style == "jsonl" else map(_with_pause, found), style, COLUMNS)


def _with_pause(row: dict[str, Any]) -> dict[str, Any]:
    """A delivery whose last error says that its target is paused, if it is."""
    paused = row.get("paused")
    if not paused:
        return row
    again = "is being tried now" if paused["being_tried"] else f"is tried again at {paused['next_try_at']}"
    said = f"target paused, {again}: {row['last_error'] or paused['reason']}"
    return row | {"due_at": paused["next_try_at"], "last_error": said}


@deliveries.command("show")
@config_option
@format_option
@click.argument("number", type=click.IntRange(0))
def show_delivery(config_path: Path, style: str, number: int) -> None:
    """Show one delivery with its request (secrets are masked), its attempts and the stages that it passed."""
    with operator_api(config_path) as api:
        found = api.delivery(number)
    if style == "jsonl":
        click.echo(as_line(found))
        return
    stages, attempts, paused = found.pop("passed"), found.pop("kept_attempts"), found.pop("paused")
    width = max(map(len, found))
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        first, *rest = [visible_text(line) for line in text.split("\n")]
        click.echo("\n".join([f"{name:<{width}}  {first}", *(f"{'':<{width}}  {line}" for line in rest)]))
    if paused:
        again = "being tried now" if paused["being_tried"] else f"tried again at {paused['next_try_at']}"
        say(f"target paused since {paused['since']}, {again}: {paused['reason']}")
    left_out = found["attempts"] - len(attempts)
    click.echo(f"attempts{f' (the newest {len(attempts)})' if attempts and left_out > 0 else ''}:")
    for one in attempts:
        took = "" if one["duration"] is None else f"{one['duration']:.3f} s"
        say(f"  {one['at']}  {took:>10}  {one['outcome']}{': ' + one['answer'] if one['answer'] else ''}")
    click.echo("stages passed:" if stages else "the rule's definition at that time has expired")
    for stage in stages:
        say(f"  {stage['gate']:<10}  {stage['why']}")


@deliveries.command("retry")
@config_option
@format_option
@click.argument("numbers", type=click.IntRange(0), nargs=-1, required=True)
def retry_delivery(config_path: Path, style: str, numbers: tuple[int, ...]) -> None:
    """Retry dead deliveries."""
    from engine.runtime.operator_acts import RetryDelivery

    with operator_api(config_path, write=True) as api:
        _do_each(api, style, numbers, lambda number: RetryDelivery(number=number))


@deliveries.command("release")
@config_option
@format_option
@click.argument("numbers", type=click.IntRange(0), nargs=-1)
@click.option("--rule", help="All held deliveries of this rule.")
def release_delivery(config_path: Path, style: str, numbers: tuple[int, ...], rule: str | None) -> None:
    """Send held deliveries (those above the limit `deliveries.burst`)."""
    from engine.runtime.operator_acts import ReleaseDelivery, ReleaseHeld

    _check_which(numbers, rule)
    with operator_api(config_path, write=True) as api:
        if rule is None:
            _do_each(api, style, numbers, lambda number: ReleaseDelivery(number=number))
        found = api.do(ReleaseHeld(rule=rule or ""))
    click.echo(as_line(found) if style == "jsonl" else _changed(found, "released"))


@deliveries.command("discard")
@config_option
@format_option
@click.argument("numbers", type=click.IntRange(0), nargs=-1)
@click.option("--rule", help="All held deliveries of this rule.")
def discard_delivery(config_path: Path, style: str, numbers: tuple[int, ...], rule: str | None) -> None:
    """Discard deliveries: they are never sent."""
    from engine.runtime.operator_acts import DiscardDelivery, DiscardHeld

    _check_which(numbers, rule)
    with operator_api(config_path, write=True) as api:
        if rule is None:
            _do_each(api, style, numbers, lambda number: DiscardDelivery(number=number))
        found = api.do(DiscardHeld(rule=rule or ""))
    click.echo(as_line(found) if style == "jsonl" else _changed(found, "discarded"))


def _changed(found: Changed, done: str) -> str:
    return f"{found['changed']} {done}" if found["changed"] else f"no delivery of {found['rule']} is held: 0 {done}"


def _check_which(numbers: tuple[int, ...], rule: str | None) -> None:
    if bool(numbers) == (rule is not None):
        raise BadQuestion("give the numbers of the deliveries, or --rule NAME for all held deliveries of a rule")


def _do_each(api: OperatorApi, style: str, numbers: tuple[int, ...], act: Callable[[int], Act[dict[str, Any]]]) -> None:
    """Carry out an act on each delivery, then exit. A refusal does not stop the others; the exit code is 1 then."""
    refused = False
    for number in numbers:
        try:
            found = api.do(act(number))
        except RollcallError as error:
            say(str(error), err=True)
            refused = True
            continue
        click.echo(as_line(found) if style == "jsonl" else f"delivery {number} is {found['state']}")
    sys.exit(1 if refused else 0)
