"""What is posted to any replica for the owner of a cell, as values: events, and acts of operators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple


class PostedEvents(NamedTuple):
    """Events that a replica has taken over HTTP: one JSON text a line, as they came, and what was malformed (reason, raw bytes)."""

    source: str
    raw: Sequence[bytes]
    rejected: Sequence[tuple[str, bytes]] = ()
    rejected_more: int = 0
    cell: int | None = None  # whose they are, by its number; None: of the cell whose inbox it is


class PostedRow(NamedTuple):
    """One row of the inbox. `received_at`: by the database's clock; with it, the number names this row and no later one."""

    id: int
    received_at: datetime
    posted: PostedEvents


class PostedAct(NamedTuple):
    """An act that waits for the owner. `arguments`: JSON. `asked_ms`: when it was asked for, by the database's clock, and `age_s`: how long ago."""

    id: int
    name: str
    arguments: str
    asked_ms: int
    age_s: float


class ActStanding(NamedTuple):
    """What became of an act in one cell. `answer`: JSON; None: not yet. `taken_s`: seconds since the owner committed it; None: it has not."""

    name: str
    answer: str | None
    taken_s: float | None
