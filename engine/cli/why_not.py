"""`rollcall why-not`: the stage that stops a rule for a client."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.connect import operator_api
from engine.cli.options import config_option, format_option
from engine.cli.output import as_line, say


@click.command("why-not")
@config_option
@format_option
@click.argument("rule")
@click.argument("client")
def why_not(config_path: Path, style: str, rule: str, client: str) -> None:
    """Show the stage that stops a rule for a client, and the result of every other stage."""
    from engine.runtime.operator_acts import WhyNot

    with operator_api(config_path) as api:
        found = api.do(WhyNot(rule=rule, client=client))
    if style == "jsonl":
        click.echo(as_line(found))
        return
    say(f"{rule} for {client}: {found['why']}")
    for stage in found["gates"]:
        until = f" (until {stage['until']})" if stage["until"] is not None else ""
        say(f"  {'passed ' if stage['open'] else 'STOPPED'}  {stage['gate']:<10}  {stage['why']}{until}")
