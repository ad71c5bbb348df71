"""What is read of the outbox in SQLite, on any connection. Read `waiting` and `due` first.

Everything that asks for order or for a retry looks into partial indexes that hold only what went wrong, so a healthy
outbox never pays for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from engine.core.delivery import OutboxItem
from engine.stores.base import DeliveryRow, Share, Waiting
from engine.stores.delivery_rows import MAX_ID, ItemRow, check_state, delivery_of_row, item_of_row
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

    Nothing that the share already holds, and nothing whose lane has an earlier unfinished delivery that is waiting for a retry or
    held; an earlier fresh one of the same lane comes before it in the answer, or is held by the caller. What cannot be read is
    marked as `broken`.
    """
    items: list[OutboxItem] = []
    for share in shares:
        holding = msgspec.json.encode(tuple(share.holding)).decode()
        left = share.limit
        for name in ("fresh", "retrying") if share.fresh_first else ("retrying", "fresh"):
            if left > 0:
                until = (now_ms,) if name == "retrying" else ()
                found = _read(conn, name, (share.target, *until, holding, left))
                items += found
                left -= len(found)
    return items


_rows = msgspec.json.Decoder(list[ItemRow]).decode


def _read(conn: sqlite3.Connection, name: str, values: Sequence[Any]) -> list[OutboxItem]:
    try:
        return [item_of_row(row) for row in _rows(one(conn, name, values))]
    except (msgspec.MsgspecError, sqlite3.OperationalError, UnicodeError):
        # One of them cannot be read. If it is the store that cannot, this fails as well.
        return [_one_item(conn, id_) for (id_,) in conn.execute(Q[f"{name}_ids"], values)]


def _one_item(conn: sqlite3.Connection, id_: int) -> OutboxItem:
    """One item; where its row cannot be read, with as much of it as can, and the reason."""
    row = conn.execute(Q["item"], (id_,)).fetchone() or ("",) * 11
    texts = [value if isinstance(value, str) else f"{value!r}" for value in row]
    numbers = [value if isinstance(value, int) else 0 for value in row]
    item = item_of_row((id_, *texts[1:7], *numbers[7:9], *texts[9:]))  # type: ignore[arg-type]
    return item if all(map(isinstance, row, _TYPES)) else replace(item, broken=item.broken or "its row cannot be read")


_TYPES = (int, str, str, str, str, str, str, int, int, str, str)


def delivery_of(conn: sqlite3.Connection, id_: int) -> DeliveryRow | None:
    """One delivery, or None: also for a number that no row can have."""
    if id_ > MAX_ID:
        return None
    row = conn.execute(Q["get"], (id_,)).fetchone()
    return None if row is None else delivery_of_row(row)


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
    check_state(state)
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
    return [delivery_of_row(row) for row in rows]


def counts(conn: sqlite3.Connection) -> dict[str, int]:
    """How many deliveries are unfinished, by state (`due`, `held`), from the indexes."""
    return dict(conn.execute(Q["counts"]).fetchall())


def one(conn: sqlite3.Connection, name: str, values: Sequence[Any] = ()) -> Any:
    """The one value that a query answers with."""
    return conn.execute(Q[name], values).fetchone()[0]
