"""Rows of sweeps and of corrections as values, the same in every store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.stores.rows import CorrectionRow, ReconciliationRow, Tally


def sweep_of_row(row: Sequence[Any]) -> ReconciliationRow:
    """A sweep, from its row in the order of the query `get`."""
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


def correction_of_row(row: Sequence[Any]) -> CorrectionRow:
    """A correction, from its row in the order of the query `corrections`."""
    id_, of, client, at_ms, believed, connections, said = row
    return CorrectionRow(
        id=id_,
        reconciliation=of,
        client=client,
        at_ms=at_ms,
        believed=believed,
        connections=connections,
        said=json.loads(said),
    )
