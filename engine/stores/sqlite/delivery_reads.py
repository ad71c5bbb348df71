"""What is read of the outbox in SQLite, on any connection. Read `waiting` and `due` first.

Everything that asks for order or for a retry looks into partial indexes that hold only what went wrong, so a healthy
outbox never pays for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from engine.core import delivery
from engine.core.delivery import OutboxItem
from engine.stores.base import DeliveryRow, Share, Waiting
from engine.stores.sqlite.queries import queries

Q = queries("outbox.sql")

MAX_TARGETS = 10_000
"""Targets named by one look at what is waiting."""


def waiting(conn: sqlite3.Connection, now_ms: int) -> Waiting:
    """The targets that have something to send now, and the instant (epoch ms) at which the next retry is due."""
    targets = dict.fromkeys(row[0] for row in _skip(conn, "next_fresh_target"))
    later: int | None = None
    for target, due_at in _skip(conn, "next_retrying_target"):
        if due_at <= now_ms:
            targets[target] = None
            # What is due may be under way or wait for its lane; the retry after it has its own time.
            due_at = one(conn, "next_retry_of_target", (target, now_ms))
        if due_at is not None and (later is None or due_at < later):
            later = due_at
    return Waiting(tuple(targets), later)


def _skip(conn: sqlite3.Connection, name: str) -> Iterable[tuple[Any, ...]]:
    """One row a target, jumping over the rest of its rows in the index."""
    last = ""
    for _ in range(MAX_TARGETS):
        row = conn.execute(Q[name], (last,)).fetchone()
        if row is None:
            return
        yield row
        last = row[0]


def due(conn: sqlite3.Connection, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
    """What may leave now: for each share at most its `limit`, retries first, then fresh ones in the order of their ids.

    Nothing that the share already holds, and nothing whose lane has an earlier unfinished delivery that is waiting for
    a retry or held; an earlier fresh one of the same lane comes before it in the answer, or is held by the caller.
    """
    items: list[OutboxItem] = []
    for share in shares:
        holding = msgspec.json.encode(tuple(share.holding)).decode()
        rows = _rows(one(conn, "retrying", (share.target, now_ms, holding, share.limit)))
        left = share.limit - len(rows)
        if left > 0:
            rows += _rows(one(conn, "fresh", (share.target, holding, left)))
        items.extend(map(_item, rows))
    return items


_rows = msgspec.json.Decoder(list[tuple[int, str, str, str, str, str, str, int, int, str, str]]).decode


def _item(row: tuple[int, str, str, str, str, str, str, int, int, str, str]) -> OutboxItem:
    (id_, key, rule, lane, action, target, request, attempts, decided_at, phase, alert) = row
    return OutboxItem(
        id=id_,
        key=key,
        rule=rule,
        lane=lane,
        action=action,
        target=target,
        request=msgspec.json.decode(request),
        attempts=attempts,
        decided_at_ms=decided_at,
        phase=phase,
        alert=alert,
    )


def delivery_of(conn: sqlite3.Connection, id_: int) -> DeliveryRow | None:
    """One delivery, or None."""
    row = conn.execute(Q["get"], (id_,)).fetchone()
    return None if row is None else _delivery(row)


def deliveries(
    conn: sqlite3.Connection,
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
    if state is not None and state not in delivery.STATES:
        raise ValueError(f"there is no delivery state {state!r}; the states are {', '.join(delivery.STATES)}")
    wanted = {"rule": rule, "client": client, "alert": alert, "state": state}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = [f"{name} = :{name}" for name in given]
    if cursor is not None:
        where.append("id < :cursor")
    # Both are names of columns from this function, never text from outside.
    select = Q["get"].partition(" WHERE ")[0]
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    bound = {**given, "cursor": cursor, "limit": limit}
    rows = conn.execute(f"{select}{clause} ORDER BY id DESC LIMIT :limit", bound)
    return [_delivery(row) for row in rows]


def _delivery(row: tuple[Any, ...]) -> DeliveryRow:
    (id_, key, rule, client, group_key, clients, alert, action, target, state, attempts, due_at, error, lane, phase,
     decided_at, request) = row  # fmt: skip
    return DeliveryRow(
        id=id_,
        key=key,
        rule=rule,
        client=client,
        group_key=group_key,
        clients=None if clients is None else tuple(msgspec.json.decode(clients)),
        alert=alert,
        action=action,
        target=target,
        state=state,
        attempts=attempts,
        due_at_ms=due_at,
        last_error=error,
        lane=lane,
        phase=phase,
        decided_at_ms=decided_at,
        request=msgspec.json.decode(request),
    )


def counts(conn: sqlite3.Connection) -> dict[str, int]:
    """How many deliveries are unfinished, by state (`due`, `held`), from the indexes."""
    return dict(conn.execute(Q["counts"]).fetchall())


def one(conn: sqlite3.Connection, name: str, values: Sequence[Any] = ()) -> Any:
    """The one value that a query answers with."""
    return conn.execute(Q[name], values).fetchone()[0]
