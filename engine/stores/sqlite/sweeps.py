"""Sweeps and corrections in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from engine.stores.base import CorrectionRow, NewCorrection, ReconciliationRow, Tally
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.meta import read_meta, write_meta
from engine.stores.sqlite.queries import queries
from engine.stores.sweep_rows import correction_of_row, sweep_of_row

Q = queries("reconciling.sql")


@translated(COMMIT_FAILED)
class SqliteSweeps:
    """See `stores.base.Sweeps`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def begin_reconciliation(self, why: str, scope: Mapping[str, Any] | None, started_at_ms: int, total: int) -> int:
        """A sweep begins; its number."""
        written = None if scope is None else json.dumps(scope)
        done = self._connection.execute(Q["begin"], (why, written, started_at_ms, total))
        assert done.lastrowid is not None
        return done.lastrowid

    def count_reconciliation(self, number: int, more: Tally) -> None:
        """So many more clients of a sweep have their final answer."""
        self._connection.execute(Q["count"], {"id": number, **more._asdict()})

    def write_reconciliation_total(self, number: int, total: int) -> None:
        """How many clients a sweep is about."""
        self._connection.execute(Q["write_total"], (total, number))

    def finish_reconciliation(self, number: int, finished_at_ms: int) -> None:
        """A sweep has ended."""
        self._connection.execute(Q["finish"], (finished_at_ms, number))

    def open_reconciliations(self) -> list[ReconciliationRow]:
        """Sweeps that have not ended, oldest first."""
        return [sweep_of_row(row) for row in self._connection.execute(Q["open"])]

    def write_corrections(self, corrections: Sequence[NewCorrection]) -> None:
        """Record what was corrected."""
        rows = [
            (new.reconciliation, new.client, new.at_ms, new.believed, new.connections, json.dumps(new.said))
            for new in corrections
        ]
        self._connection.executemany(Q["correct"], rows)

    def meta(self, key: str) -> str | None:
        """One remembered value."""
        return read_meta(self._connection, key)

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        write_meta(self._connection, key, value)


def sweep(connection: sqlite3.Connection, number: int) -> ReconciliationRow | None:
    """One sweep."""
    row = connection.execute(Q["get"], (number,)).fetchone()
    return None if row is None else sweep_of_row(row)


def sweeps(connection: sqlite3.Connection, limit: int, cursor: int | None) -> list[ReconciliationRow]:
    """Sweeps, newest first."""
    return [sweep_of_row(row) for row in connection.execute(Q["list"], {"limit": limit, "cursor": cursor})]


def corrections(
    connection: sqlite3.Connection, reconciliation: int | None, limit: int, cursor: int
) -> list[CorrectionRow]:
    """Corrections of one sweep, or all of them; oldest first."""
    wanted = {"reconciliation": reconciliation, "limit": limit, "cursor": cursor}
    name = "all_corrections" if reconciliation is None else "corrections"
    return [correction_of_row(row) for row in connection.execute(Q[name], wanted)]


def purge(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Drop what is older; returns rows."""
    gone = connection.execute(Q["purge"], (before_ms,)).rowcount
    return gone + connection.execute(Q["purge_corrections"], (before_ms, limit)).rowcount
