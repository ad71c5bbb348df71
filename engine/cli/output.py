"""Output on a terminal: tables for people, one JSON object per line for programs.

Ids, addresses and errors come from devices and servers and must not control the terminal: control characters and marks
that change the reading direction are shown as escapes. A table is written row by row as rows come, and never cuts a value,
so that it can be copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import click

from engine.telemetry import escape

T = TypeVar("T")

MEASURED_ROWS = 500
"""Rows that determine the widths of the columns."""

MAX_WIDTH = 60
"""The width of a column at most: a longer value does not widen it."""

_DIRECTION_MARKS = {code: f"\\u{code:04x}" for code in (0x061C, 0x200E, 0x200F, 0x202C, *range(0x2066, 0x206A), 0xFEFF)}


def plain(text: str) -> str:
    """The text on one line, with escapes for everything that would control a terminal."""
    return escape(text).translate(_DIRECTION_MARKS)


def say(text: str, *, err: bool = False) -> None:
    """Write one line; its values may come from devices."""
    click.echo(plain(text), err=err)


def show(found: Iterable[Mapping[str, Any]], style: str, columns: Sequence[str]) -> None:
    """Write objects as a table with these columns, or complete as lines of JSON (`style` is table or jsonl)."""
    if style == "jsonl":
        for entry in found:
            click.echo(as_line(entry))
        return
    rows = iter([_cell(entry.get(name)) for name in columns] for entry in found)
    measured = list(islice(rows, MEASURED_ROWS))
    widths = [
        max(len(name), min(MAX_WIDTH, max((len(row[at]) for row in measured), default=0)))
        for at, name in enumerate(columns)
    ]
    for row in chain([list(columns)], measured, rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def limited(found: Iterable[T], limit: int | None) -> Iterable[T]:
    """The first `limit` of them; None: all."""
    return found if limit is None else islice(found, limit)


def as_line(found: Mapping[str, Any]) -> str:
    """An object as one line of JSON."""
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return str(len(value)) if value else "-"
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
