"""Commands that look into the store: they read beside a running service, and without one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from engine import views
from engine.app import Offline, open_offline
from engine.cli.service import config_option
from engine.config import load_config
from engine.core import resolver
from engine.core.times import rfc3339
from engine.errors import RollcallError
from engine.stores import sqlite_outbox

format_option = click.option("--format", "style", type=click.Choice(["table", "jsonl"]), default="table")


def _show(found: Iterable[Mapping[str, Any]], style: str, columns: tuple[str, ...]) -> None:
    """Objects as lines of JSON or as a table for people."""
    if style == "jsonl":
        for entry in found:
            click.echo(views.as_line(entry))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None)
    for entry in found:
        table.add_row(*(_cell(entry.get(name)) for name in columns))
    Console(markup=False, emoji=False, highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _open(config_path: Path) -> Offline:
    return open_offline(load_config(config_path))


@click.command()
@config_option
@format_option
@click.option("--status", type=click.Choice(["online", "offline", "unknown"]))
def clients(config_path: Path, style: str, status: str | None) -> None:
    """What the engine believes about each client."""
    found = _open(config_path)
    skew_ms = found.fleet.policy.clock_skew_ms
    entries = (
        views.client_object(client, state, found.inventory.attributes(client), skew_ms)
        for client, state in sorted(found.fleet.states.items())
    )
    wanted = (entry for entry in entries if status is None or entry["status"] == status)
    _show(wanted, style, ("client", "status", "since", "flaps", "flapping", "doubtful", "ip"))


@click.command()
@config_option
@format_option
def sources(config_path: Path, style: str) -> None:
    """How far each source has been read."""
    config = load_config(config_path)
    known = _open(config_path).store.sources()
    entries = []
    for source in config.sources:
        position, caught_up, last = known.get(source.name, (None, None, None))
        entries.append(
            {
                "name": source.name,
                "type": source.type,
                "position": position,
                "caught_up_to": views.instant(caught_up),
                "last_event_at": views.instant(last),
            }
        )
    _show(entries, style, ("name", "type", "caught_up_to", "last_event_at", "position"))


@click.group()
def alerts() -> None:
    """Alerts."""


@alerts.command("list")
@config_option
@format_option
@click.option("--state", type=click.Choice(["pending", "firing", "suppressed", "resolved"]))
@click.option("--limit", default=100)
def list_alerts(config_path: Path, style: str, state: str | None, limit: int) -> None:
    """Alerts, newest first."""
    found = views.alert_objects(_open(config_path).store.connection, limit, state)
    _show(found, style, ("id", "rule", "client", "state", "reason", "started_at", "resolved_at"))


@click.group()
def deliveries() -> None:
    """The outbox."""


@deliveries.command("list")
@config_option
@format_option
@click.option("--state")
@click.option("--rule")
@click.option("--limit", default=100)
def list_deliveries(config_path: Path, style: str, state: str | None, rule: str | None, limit: int) -> None:
    """Deliveries, newest first."""
    rows = sqlite_outbox.list_(_open(config_path).store.connection, state=state, rule=rule, limit=limit)
    found = (views.delivery_object(row) for row in rows)
    _show(found, style, ("id", "rule", "client", "action", "target", "state", "attempts", "due_at", "last_error"))


@deliveries.command("show")
@config_option
@click.argument("number", type=int)
def show_delivery(config_path: Path, number: int) -> None:
    """One delivery with the request as it is sent, secrets concealed."""
    from engine.rendering import conceal

    row = sqlite_outbox.get(_open(config_path).store.connection, number)
    if row is None:
        raise RollcallError(f"there is no delivery {number}")
    shown = views.delivery_object(row) | {"phase": row.phase, "request": conceal(row.request)}
    click.echo(json.dumps(shown, ensure_ascii=False, indent=2))


def _act(config_path: Path, number: int, act: str) -> None:
    """Ask the running service; without one, do it in the store itself."""
    import time

    import requests

    config = load_config(config_path)
    if config.http is not None:
        headers = {"Content-Type": "application/json"}
        if config.http.token is not None:
            headers["Authorization"] = f"Bearer {config.http.token.reveal()}"
        url = f"http://{config.http.host}:{config.http.port}/v1/deliveries/{number}/{act}"
        session = requests.Session()
        session.trust_env = False
        try:
            answer = session.post(url, headers=headers, data="{}", timeout=10)
        except requests.ConnectionError:
            pass  # no service runs: the store is ours
        else:
            if answer.status_code >= 400:
                raise RollcallError(answer.json().get("title", f"the service answered {answer.status_code}"))
            return
    found = open_offline(config, write=True)
    do = sqlite_outbox.retry if act == "retry" else sqlite_outbox.discard
    with found.store.transaction() as connection:
        do(connection, [number], time.time_ns() // 1_000_000)


@deliveries.command("retry")
@config_option
@click.argument("number", type=int)
def retry_delivery(config_path: Path, number: int) -> None:
    """Try a dead delivery again."""
    _act(config_path, number, "retry")


@deliveries.command("discard")
@config_option
@click.argument("number", type=int)
def discard_delivery(config_path: Path, number: int) -> None:
    """Never send a delivery."""
    _act(config_path, number, "discard")


@click.group()
def quarantine() -> None:
    """Events that could not be accepted."""


@quarantine.command("list")
@config_option
@format_option
@click.option("--limit", default=100)
def list_quarantine(config_path: Path, style: str, limit: int) -> None:
    """Quarantined events, newest first."""
    found = views.quarantine_objects(_open(config_path).store.connection, limit)
    _show(found, style, ("id", "received_at", "source", "reason", "raw"))


@click.command()
@config_option
@click.argument("client")
def explain(config_path: Path, client: str) -> None:
    """The verdict about one client, and what it rests on."""
    found = _open(config_path)
    state = found.fleet.states.get(client)
    if state is None:
        raise RollcallError(f"no event ever named {client!r}")
    skew_ms = found.fleet.policy.clock_skew_ms
    shown = views.client_object(client, state, found.inventory.attributes(client), skew_ms)
    click.echo(f"{client}: {shown['status']} since {shown['since']}, observed {shown['observed']}")
    if state.hold is not None:
        click.echo(f"on hold since {rfc3339(state.hold.since_ms)}")
    for doubt in resolver.doubts(state, skew_ms):
        click.echo(f"doubtful: {doubt}")
    for entry in resolver.evidence(state, skew_ms):
        used = "used" if entry["used"] else "ignored"
        click.echo(f"  {rfc3339(int(str(entry['time_ms'])))}  {entry['type']}  {entry['channel']}  {used}: {entry['why']}")
