"""What rules did lately, and what was recorded, out of SQLite."""

from __future__ import annotations

import sqlite3

from engine.stores.journal_rows import NO_FACTS, unpack
from engine.stores.rows import JournalRow, RuleAlerts, RuleDeliveries
from engine.stores.sqlite.queries import queries

Q = queries("activity.sql")


def alerts_since(connection: sqlite3.Connection, since_ms: int) -> list[RuleAlerts]:
    """Alerts that began since an instant, counted by rule, state and reason."""
    rows = connection.execute(Q["alerts_since"], {"since": since_ms})
    return [RuleAlerts(rule, state, reason, bool(fired), count) for rule, state, reason, fired, count in rows]


def deliveries_since(connection: sqlite3.Connection, since_ms: int) -> list[RuleDeliveries]:
    """Deliveries that were decided since an instant, counted by rule, phase and state."""
    older = connection.execute(Q["delivery_before"], {"since": since_ms}).fetchone()
    rows = connection.execute(Q["deliveries_since"], {"after": older[0] if older is not None else 0})
    return [RuleDeliveries(*row) for row in rows]


def recorded(connection: sqlite3.Connection, before: int | None, limit: int) -> list[JournalRow]:
    """Rows of the journal with events, newest first, without facts and positions."""
    rows = connection.execute(Q["recorded"], {"before": before, "limit": limit})
    return [unpack(id_, at_ms, source, events, b"", NO_FACTS) for id_, at_ms, source, events in rows]
