"""Output on a terminal: tables for people, one JSON object per line for programs.

Ids, addresses and errors come from devices and servers and must not control the terminal: control characters and marks
that change the reading direction are shown as escapes. A table is written row by row as rows come, and never cuts a value,
so that it can be copied.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TextIO, TypeVar

import click

from engine.core.foreign_text import visible_json, visible_text

T = TypeVar("T")

MEASURED_ROWS = 500
"""Rows that determine the widths of the columns."""

MAX_WIDTH = 60
"""The width of a column at most: a longer value does not widen it."""


def say(text: str, *, err: bool = False) -> None:
    """Write one line; its values may come from devices."""
    click.echo(visible_text(text), err=err)


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
    """An object as one line of JSON, which every encoding of the output can hold and no terminal obeys."""
    in_ascii = not encodes_everything(sys.stdout)
    return visible_json(json.dumps(found, ensure_ascii=in_ascii, separators=(",", ":")))


def encodes_everything(stream: TextIO) -> bool:
    """Whether a stream's encoding has every character of Unicode; the locale decides that."""
    return (stream.encoding or "ascii").lower().replace("-", "").replace("_", "").startswith("utf")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return str(len(value)) if value else "-"
    return visible_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
