"""Sweeps and corrections in the SQLite store: functions over one connection, inside whoever's transaction it is."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from engine.stores.base import CorrectionRow, NewCorrection, ReconciliationRow, Tally

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def _queries() -> Mapping[str, str]:
    parts = _NAME.split((resources.files("engine.stores.sqlite") / "sql/reconciling.sql").read_text("utf-8"))
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def begin(
    connection: sqlite3.Connection, why: str, scope: Mapping[str, Any] | None, started_at_ms: int, total: int
) -> int:
    """A sweep begins; its number."""
    told = None if scope is None else json.dumps(scope)
    done = connection.execute(_queries()["begin"], (why, told, started_at_ms, total))
    assert done.lastrowid is not None
    return done.lastrowid


def count(connection: sqlite3.Connection, number: int, more: Tally) -> None:
    """So many more clients of a sweep have their final answer."""
    told = {
        "id": number,
        "asked": more.asked,
        "agreed": more.agreed,
        "corrected": more.corrected,
        "unknown": more.unknown,
        "failed": more.failed,
    }
    connection.execute(_queries()["count"], told)


def write_total(connection: sqlite3.Connection, number: int, total: int) -> None:
    """How many clients a sweep is about."""
    connection.execute(_queries()["write_total"], (total, number))


def finish(connection: sqlite3.Connection, number: int, finished_at_ms: int) -> None:
    """A sweep has ended."""
    connection.execute(_queries()["finish"], (finished_at_ms, number))


def open_(connection: sqlite3.Connection) -> list[ReconciliationRow]:
    """Sweeps that have not ended, oldest first."""
    return [_row(row) for row in connection.execute(_queries()["open"])]


def get(connection: sqlite3.Connection, number: int) -> ReconciliationRow | None:
    """One sweep."""
    row = connection.execute(_queries()["get"], (number,)).fetchone()
    return None if row is None else _row(row)


def list_(connection: sqlite3.Connection, limit: int, cursor: int | None) -> list[ReconciliationRow]:
    """Sweeps, newest first."""
    return [_row(row) for row in connection.execute(_queries()["list"], {"limit": limit, "cursor": cursor})]


def correct(connection: sqlite3.Connection, corrections: Sequence[NewCorrection]) -> None:
    """Record what was corrected."""
    rows = [
        (new.reconciliation, new.client, new.at_ms, new.believed, new.connections, json.dumps(new.said))
        for new in corrections
    ]
    connection.executemany(_queries()["correct"], rows)


def corrections(
    connection: sqlite3.Connection, reconciliation: int | None, limit: int, cursor: int
) -> list[CorrectionRow]:
    """Corrections of one sweep, or all of them; oldest first."""
    told = {"reconciliation": reconciliation, "limit": limit, "cursor": cursor}
    name = "all_corrections" if reconciliation is None else "corrections"
    return [
        CorrectionRow(
            id=id_,
            reconciliation=of,
            client=client,
            at_ms=at_ms,
            believed=believed,
            connections=connections,
            said=json.loads(said),
        )
        for id_, of, client, at_ms, believed, connections, said in connection.execute(_queries()[name], told)
    ]


def purge(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Drop what is older; returns rows."""
    gone = connection.execute(_queries()["purge"], (before_ms,)).rowcount
    return gone + connection.execute(_queries()["purge_corrections"], (before_ms, limit)).rowcount


def _row(row: Sequence[Any]) -> ReconciliationRow:
    id_, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed = row
    return ReconciliationRow(
        id=id_,
        why=why,
        scope=None if scope is None else json.loads(scope),
        started_at_ms=started_at,
        finished_at_ms=finished_at,
        total=total,
        tally=Tally(asked, agreed, corrected, unknown, failed),
    )
