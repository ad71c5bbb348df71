"""`rollcall notify test`: does a receiver get what it is sent?"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import config_option, format_option
from engine.cli.output import as_line, say
from engine.config.loader import Config, load_config
from engine.config.receivers import ROUTE
from engine.config.schema import did_you_mean
from engine.errors import BadQuestion

if TYPE_CHECKING:
    from engine.runtime.notify_test import Sent


@click.group()
def notify() -> None:
    """Test the receivers of the configuration."""


@notify.command("test")
@click.argument("receiver")
@config_option
@format_option
@click.option(
    "--severity",
    type=click.Choice(["info", "warning", "critical"]),
    default="warning",
    show_default=True,
    help="The severity of the test, which routes may depend on.",
)
def test_receiver(receiver: str, config_path: Path, style: str, severity: str) -> None:
    """Send RECEIVER a firing, a reminder and a recovery, for real, and show what its service answered.

    No service has to run. A route sends to the receiver that it chooses now. Exit code 1 if one of the three was not delivered.
    """
    config = load_config(config_path)
    if receiver not in config.receivers:
        hint = did_you_mean(receiver, list(config.receivers), all_of_them=True) or "; it has none at all"
        raise BadQuestion(f"the configuration has no receiver {receiver}{hint}")
    sys.exit(asyncio.run(_run(config, receiver, style, severity)))


async def _run(config: Config, name: str, style: str, severity: str) -> int:
    from engine.actions.base import Delivered
    from engine.runtime.notify_test import sent_for_real

    failed, chosen = False, ""
    async for sent in sent_for_real(config, name, severity, time.time_ns() // 1_000_000):
        failed = failed or not isinstance(sent.answer, Delivered)
        if style == "jsonl":
            click.echo(as_line(_object(sent)))
            continue
        if config.receivers[name].type == ROUTE and sent.receiver != chosen:
            chosen = sent.receiver
            say(
                f"{name} is a route: it chose {chosen} ({sent.service})"
                if chosen
                else f"{name} is a route: it chose none"
            )
        outcome, why = _outcome(sent)
        say(f"{sent.phase:<9} {outcome}{': ' + why if why else ''}")
    return 1 if failed else 0


def _outcome(sent: Sent) -> tuple[str, str]:
    """What became of it, and what was said."""
    from engine.actions.base import Delivered, RetryLater

    if isinstance(sent.answer, Delivered):
        return "delivered", sent.answer.detail or sent.said
    return "not delivered, would be retried" if isinstance(sent.answer, RetryLater) else "rejected", sent.answer.reason


def _object(sent: Sent) -> dict[str, Any]:
    from engine.actions.base import Delivered, RetryLater

    outcome = (
        "delivered"
        if isinstance(sent.answer, Delivered)
        else "retry later"
        if isinstance(sent.answer, RetryLater)
        else "rejected"
    )
    return {
        "type": "notification",
        "phase": sent.phase,
        "receiver": sent.receiver,
        "service": sent.service,
        "via": sent.via or None,
        "outcome": outcome,
        "answer": _outcome(sent)[1] or None,
    }
