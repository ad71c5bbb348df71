"""What rules did lately, and what was recorded, out of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from engine.stores.journal_rows import NO_FACTS, unpack
from engine.stores.postgres.queries import queries
from engine.stores.postgres.questions import Questions
from engine.stores.rows import JournalRow, RuleAlerts, RuleDeliveries

Q = queries("activity.sql")


def alerts_since(questions: Questions, cells: Sequence[int], since_ms: int) -> list[RuleAlerts]:
    """Alerts that began since an instant, counted by rule, state and reason."""
    return [RuleAlerts(*row) for row in questions.rows(Q["alerts_since"], {"cells": list(cells), "since": since_ms})]


def deliveries_since(questions: Questions, cells: Sequence[int], since_ms: int) -> list[RuleDeliveries]:
    """Deliveries that were decided since an instant, counted by rule, phase and state."""
    rows = questions.rows(Q["deliveries_since"], {"cells": list(cells), "since": since_ms})
    return [RuleDeliveries(*row) for row in rows]


def recorded(questions: Questions, cell: int, before: int | None, limit: int) -> list[JournalRow]:
    """Rows of the journal with events, newest first, without facts and positions."""
    rows = questions.rows(Q["recorded"], {"cell": cell, "before": before, "limit": limit})
    return [unpack(id_, at_ms, source, bytes(events), b"", NO_FACTS) for id_, at_ms, source, events in rows]
