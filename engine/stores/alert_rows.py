"""Rows of alerts as people see them, the same in every store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.stores.rows import AlertRow


def alert_as_seen(row: Sequence[Any]) -> AlertRow:
    """An alert, from its row in the order of the query `alert`."""
    id_, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by = row
    return AlertRow(
        id=id_,
        rule=rule,
        client=client,
        source=source,
        state=state,
        reason=reason,
        started_at_ms=started_at,
        resolved_at_ms=resolved_at,
        key=key,
        acknowledged_by=acknowledged_by,
    )
