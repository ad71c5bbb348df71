"""Sweeps and corrections in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.meta import read_meta, write_meta
from engine.stores.postgres.queries import queries
from engine.stores.postgres.questions import Questions
from engine.stores.postgres.session import Session
from engine.stores.rows import CorrectionRow, NewCorrection, ReconciliationRow, Tally
from engine.stores.sweep_rows import correction_of_row, sweep_of_row

Q = queries("reconciling.sql")


@translated(COMMIT_FAILED)
class PostgresSweeps:
    """See `stores.base.Sweeps`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session = session
        self._cell = cell

    def _write(self, name: str, **values: Any) -> None:
        self._session.write(Q[name], {"cell": self._cell, **values})

    def begin_reconciliation(self, why: str, scope: Mapping[str, Any] | None, started_at_ms: int, total: int) -> int:
        """A sweep begins; its number."""
        written = None if scope is None else json.dumps(scope)
        row = self._session.row(
            Q["begin"], {"cell": self._cell, "why": why, "scope": written, "at": started_at_ms, "total": total}
        )
        assert row is not None, "a new sweep has a number"
        return int(row[0])

    def count_reconciliation(self, number: int, more: Tally) -> None:
        """So many more clients of a sweep have their final answer."""
        self._write("count", id=number, **more._asdict())

    def write_reconciliation_total(self, number: int, total: int) -> None:
        """How many clients a sweep is about."""
        self._write("write_total", total=total, id=number)

    def finish_reconciliation(self, number: int, finished_at_ms: int) -> None:
        """A sweep has ended."""
        self._write("finish", at=finished_at_ms, id=number)

    def open_reconciliations(self) -> list[ReconciliationRow]:
        """Sweeps that have not ended, oldest first."""
        return [sweep_of_row(row) for row in self._session.rows(Q["open"], {"cell": self._cell})]

    def write_corrections(self, corrections: Sequence[NewCorrection]) -> None:
        """Record what was corrected."""
        if not corrections:
            return
        self._write(
            "correct",
            reconciliation=[new.reconciliation for new in corrections],
            client=[new.client for new in corrections],
            at=[new.at_ms for new in corrections],
            believed=[new.believed for new in corrections],
            connections=[new.connections for new in corrections],
            said=[json.dumps(new.said) for new in corrections],
        )

    def meta(self, key: str) -> str | None:
        """One remembered value."""
        return read_meta(self._session, self._cell, key)

    def write_meta(self, key: str, value: str) -> None:
        """Remember one value."""
        write_meta(self._session, self._cell, key, value)


def purge(session: Session, cell: int, before_ms: int, limit: int) -> int:
    """Drop what is older; returns rows."""
    bound = {"cell": cell, "before": before_ms, "limit": limit}
    return session.changed(Q["purge"], bound) + session.changed(Q["purge_corrections"], bound)


def sweep(questions: Questions, cells: Sequence[int], number: int) -> ReconciliationRow | None:
    """One sweep."""
    row = questions.row(Q["get"], {"cells": list(cells), "id": number})
    return None if row is None else sweep_of_row(row)


def sweeps(questions: Questions, cells: Sequence[int], limit: int, cursor: int | None) -> list[ReconciliationRow]:
    """Sweeps, newest first."""
    return [
        sweep_of_row(row) for row in questions.rows(Q["list"], {"cells": list(cells), "limit": limit, "cursor": cursor})
    ]


def corrections(
    questions: Questions, cells: Sequence[int], reconciliation: int | None, limit: int, cursor: int
) -> list[CorrectionRow]:
    """Corrections of one sweep, or all of them; oldest first."""
    wanted = {"cells": list(cells), "reconciliation": reconciliation, "limit": limit, "cursor": cursor}
    name = "all_corrections" if reconciliation is None else "corrections"
    return [correction_of_row(row) for row in questions.rows(Q[name], wanted)]
