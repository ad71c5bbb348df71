"""What is read of the outbox in PostgreSQL, on any connection. Read `waiting` and `due` first.

Everything that asks for order or for a retry looks into partial indexes that hold only what went wrong, so a healthy outbox never
pays for them. `waiting` and `due` are of one cell, the dispatcher's; what people ask may be about several.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.core.delivery import OutboxItem
from engine.stores.delivery_rows import MAX_ID, check_state, delivery_of_row, item_of_row
from engine.stores.postgres.outbox_queries import Q
from engine.stores.postgres.questions import Questions
from engine.stores.rows import DeliveryRow, Share, Waiting

MAX_TARGETS = 10_000
"""Targets named by one look at what is waiting."""


def waiting(questions: Questions, cell: int, now_ms: int) -> Waiting:
    """The targets that have something to send now, and the instant (epoch ms) at which the next retry is due."""
    targets: dict[str, None] = {}
    later: int | None = None
    for target, due_at, next_at in questions.rows(Q["waiting"], {"cell": cell, "now": now_ms, "most": MAX_TARGETS}):
        if due_at is None or due_at <= now_ms:
            targets[target] = None
        # What is due may be under way or wait for its lane; the retry after it has its own time.
        if next_at is not None and (later is None or next_at < later):
            later = next_at
    return Waiting(tuple(targets), later)


def due(questions: Questions, cell: int, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
    """What may leave now: for each share at most its `limit`, retries first, then fresh ones in the order of their ids.

    Nothing that the share already holds, and nothing whose lane has an earlier unfinished delivery that is waiting for a retry or
    held; an earlier fresh one of the same lane comes before it in the answer, or is held by the caller. What cannot be read is
    marked as `broken`.
    """
    items: list[OutboxItem] = []
    for share in shares:
        left = share.limit
        for name in ("fresh", "retrying") if share.fresh_first else ("retrying", "fresh"):
            if left > 0:
                wanted = {
                    "cell": cell,
                    "target": share.target,
                    "now": now_ms,
                    "holding": list(share.holding),
                    "limit": left,
                }
                found = [item_of_row(row) for row in questions.rows(Q[name], wanted)]
                items += found
                left -= len(found)
    return items


def delivery_of(questions: Questions, cells: Sequence[int], number: int) -> DeliveryRow | None:
    """One delivery, or None: also for a number that no row can have."""
    if number > MAX_ID:
        return None
    row = questions.row(Q["get"], {"cells": list(cells), "id": number})
    return None if row is None else delivery_of_row(row)


def deliveries(
    questions: Questions,
    cells: Sequence[int],
    *,
    state: str | None = None,
    rule: str | None = None,
    client: str | None = None,
    alert: str | None = None,
    limit: int = 100,
    cursor: int | None = None,
) -> list[DeliveryRow]:
    """The newest deliveries first, those with an id below `cursor`; filters that are None do not filter.

    Raises ValueError for a state that does not exist.
    """
    check_state(state)
    wanted = {
        "state": state,
        "rule": rule,
        "client": client,
        "alert": alert,
        "limit": limit,
        "cursor": cursor,
        "cells": list(cells),
    }
    return [delivery_of_row(row) for row in questions.rows(Q["list"], wanted)]


def counts(questions: Questions, cells: Sequence[int]) -> tuple[int, int]:
    """How many deliveries are due, and how many are held, from the indexes."""
    row = questions.row(Q["counts"], {"cells": list(cells)})
    assert row is not None, "counts are one row"
    return row[0], row[1]
