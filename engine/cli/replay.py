"""`rollcall replay`: what would these rules have done with these events?"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import IO, Any

import click

from engine.app import inventory_of, policy_of
from engine.cli.options import config_option
from engine.config import Config, load_config
from engine.replay import Replay, chunks_of
from engine.rulefile import load_rules


@click.command()
@click.argument("events", type=click.Path(path_type=Path, allow_dash=True))
@config_option
@click.option("--rules", type=click.Path(path_type=Path, exists=True), help="Rules to use instead of the configured ones.")
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Other rules; shows what differs.")
@click.option("--format", "style", type=click.Choice(["table", "jsonl", "html"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of standard output.")
def replay(
    events: Path, config_path: Path, rules: Path | None, against: Path | None, style: str, output: Path | None
) -> None:
    """Run EVENTS (JSON lines, `-` for standard input) through the rules on virtual time. Nothing is sent."""
    config = load_config(config_path)
    if str(events) != "-" and not events.is_file():
        raise click.UsageError(f"{events} is no file")
    gc.disable()  # a replay makes no cycles, and looking for them among a million clients takes its time
    try:
        _carry_out(config, events, rules, against, style, output)
    finally:
        gc.enable()


def _carry_out(
    config: Config, events: Path, rules: Path | None, against: Path | None, style: str, output: Path | None
) -> None:
    with _output(output) as out:
        if style == "jsonl" and against is None:
            _replay(config, rules, events, out.write)
            return
        ours = _collect(config, rules, events)
        theirs = _collect(config, against, events) if against is not None else None
        text = _difference(ours, theirs) if theirs is not None else _table(ours)
        if style == "jsonl" and theirs is not None:
            text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in _changes(ours, theirs))
        if style == "html":
            text = f"<!doctype html><meta charset=utf-8><title>Replay</title><pre>{escape(text)}</pre>\n"
        out.write(text.encode())


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes]]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with path.open("wb") as file:
            yield file


def _replay(config: Config, rules: Path | None, events: Path, write: Callable[[bytes], object]) -> None:
    inventory = inventory_of(config)
    loaded = load_rules((rules,) if rules else config.rules, inventory=inventory, config=config)
    run = Replay(policy_of(config), loaded.rules, inventory, config.events.max_future_ms, write)
    with contextlib.ExitStack() as stack:
        file = sys.stdin.buffer if str(events) == "-" else stack.enter_context(events.open("rb"))
        size = 0 if str(events) == "-" else os.path.getsize(events)
        run.run(chunks_of(file), _progress(stack, size))


def _progress(stack: contextlib.ExitStack, size: int) -> Callable[[int], object]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty() or not size:
        return lambda done: None
    from rich.console import Console
    from rich.progress import Progress

    bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = bar.add_task("replaying", total=size)
    return lambda done: bar.advance(task, done)


def _collect(config: Config, rules: Path | None, events: Path) -> list[dict[str, Any]]:
    found = io.BytesIO()
    _replay(config, rules, events, found.write)
    return [json.loads(line) for line in found.getvalue().splitlines()]


def _table(lines: list[dict[str, Any]]) -> str:
    out = []
    for line in lines:
        if line["type"] in {"alert", "delivery", "rejected"} and line.get("state") != "pending":
            out.append(_told(line))
    summary = lines[-1]
    out.append(", ".join(f"{name} {summary[name]}" for name in summary if name != "type"))
    return "\n".join(out) + "\n"


def _told(line: dict[str, Any]) -> str:
    if line["type"] == "rejected":
        return f"line {line['line']}: rejected: {line['reason']}"
    who = line.get("client") or ", ".join(line.get("clients", ())) or json.dumps(line.get("key"))
    if line["type"] == "alert":
        reason = f" ({line['reason']})" if line.get("reason") else ""
        return f"{line['at']}  {line['rule']}  {who}  {line['state']}{reason}"
    request = line["request"]
    what = request.get("message") or f"{request.get('method')} {request.get('url')}"
    return f"{line['at']}  {line['rule']}  {who}  {line['action']}: {what}"


def _changes(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Alerts and deliveries that only one of two rule sets brings about."""

    def named(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        kinds = {"alert", "delivery"}
        return {
            json.dumps({key: value for key, value in line.items() if key != "key"}, sort_keys=True): line
            for line in lines
            if line["type"] in kinds and line.get("state") != "pending"
        }

    left, right = named(ours), named(theirs)
    gone = [{"only": "rules", **line} for key, line in left.items() if key not in right]
    new = [{"only": "against", **line} for key, line in right.items() if key not in left]
    return sorted(gone + new, key=lambda line: str(line["at"]))


def _difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    changes = _changes(ours, theirs)
    lines = [f"{'-' if entry['only'] == 'rules' else '+'} {_told(entry)}" for entry in changes]
    return "\n".join([*lines, f"{len(changes)} differences"]) + "\n"
