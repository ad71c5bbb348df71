"""`rollcall clients` and `rollcall explain`: the status of clients, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.connect import operator_api
from engine.cli.options import config_option, format_option, limit_option
from engine.cli.output import as_line, limited, say, show
from engine.config.durations import parse_rfc3339

COLUMNS = ("client", "status", "since", "flaps", "flapping", "doubtful", "ip")


@click.group(invoke_without_command=True)
@config_option
@format_option
@click.option(
    "--status", type=click.Choice(["online", "offline", "unknown"]), help="Show only clients with this status."
)
@click.option(
    "--match",
    multiple=True,
    metavar="KEY=PATTERN",
    help="Show only clients that match, as in a rule: group, device, client, ip or a column of the inventory. May be repeated.",
)
@limit_option(None)
@click.pass_context
def clients(
    ctx: click.Context, config_path: Path, style: str, status: str | None, match: tuple[str, ...], limit: int | None
) -> None:
    """List clients with their status, by name."""
    if ctx.invoked_subcommand is not None:
        return
    with operator_api(config_path) as api:
        show(limited(api.items("clients", status=status, match=match), limit), style, COLUMNS)


@clients.command()
@click.argument("client")
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), help="The configuration file.")
@click.pass_context
def forget(ctx: click.Context, client: str, config_path: Path | None) -> None:
    """Forget a client: delete its state and close its alerts."""
    from engine.runtime.operator_acts import Forget

    assert ctx.parent is not None
    with operator_api(config_path or ctx.parent.params["config_path"], write=True) as api:
        api.do(Forget(client=client))
    say(f"{client} was forgotten")


class Instant(click.ParamType[int]):
    """An instant, RFC 3339 or epoch milliseconds, as epoch milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Epoch milliseconds from text; a number is returned as it is."""
        if isinstance(value, int):
            return value
        if value.isascii() and value.isdigit() and len(value) <= 14:
            return int(value)
        try:
            return parse_rfc3339(value)
        except ValueError as error:
            self.fail(f"{error}; epoch milliseconds are accepted too", param, ctx)


@click.command()
@config_option
@format_option
@click.argument("client")
@click.option("--at", type=Instant(), help="Show the status at this time: 2026-01-01T00:00:05Z, or epoch milliseconds.")
def explain(config_path: Path, style: str, client: str, at: int | None) -> None:
    """Show a client's status, the events that it is based on, the events that were ignored, and why."""
    with operator_api(config_path) as api:
        found = api.explanation(client, at)
    if style == "jsonl":
        click.echo(as_line(found))
        return
    for line in _sentences(found, rebuilt=at is not None):
        say(line)


def _sentences(found: dict[str, Any], *, rebuilt: bool) -> list[str]:
    """An explanation in words."""
    was = f" at {found['at']}" if rebuilt else ""
    since = f" since {found['since']} (settled {found['settled_at']})" if found["since"] else ""
    graceful = ", disconnected gracefully" if found["graceful"] else ""
    lines = [f"{found['client']}: {found['status']}{was}{since}{graceful}"]
    hold = found["hold"]
    if hold is not None:
        lines.append(f"  observed {found['observed']}, on hold since {hold['since']} until {hold['due_at']}")
    if found["flapping"]:
        lines.append("  flapping")
    if found["flaps"]:
        lines.append(f"  {found['flaps']} flaps (changes that reverted within the hold) since its last status change")
    lines += [f"  doubtful: {doubt}" for doubt in found["doubts"]]
    if not found["complete"]:
        lines.append(f"  older history has expired; the history begins at {found['history_from']}")
    if found["evidence_left_out"]:
        lines.append(f"  {found['evidence_left_out']} older events are not shown")
    lines.append("  events, in the order in which they were received:")
    for entry in found["evidence"]:
        used = "used" if entry["used"] else "ignored"
        received = f", received {entry['received_at']}" if entry["received_at"] else ", no longer in the history"
        lines.append(f"    {entry['time']}  {entry['type']:<10}  {entry['channel']}  {used}: {entry['why']}{received}")
    return lines
