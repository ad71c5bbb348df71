"""The outbox in SQLite: functions over a connection. Writers run inside the caller's transaction, readers on any connection.

Read `insert`, `due` and `record` first. A fresh delivery costs two index entries; everything that asks for order or for a
recovery's firing looks into partial indexes that hold only what went wrong, so a healthy outbox never pays for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from engine.actions.base import Answer, Delivered, Outcome, OutboxItem, Rejected, RetryLater
from engine.core import delivery
from engine.core.delivery import DEAD, DELIVERED, DISCARDED, DUE, HELD, Policy, Standing
from engine.stores.base import DeliveryRow, NewDelivery, Share, Waiting

MAX_TARGETS = 10_000
"""Targets named by one look at what is waiting."""

SIBLINGS = 64
"""How far apart, in ids, the deliveries of one decision may lie: more than the actions of any rule."""

PURGE_ROWS = 500
"""Rows removed by one call: a slice that never holds up the writer."""


@cache
def queries() -> Mapping[str, str]:
    """The statements of `outbox.sql` by name, without their comments."""
    text = (resources.files("engine.stores") / "sql/sqlite/outbox.sql").read_text("utf-8")
    found = {}
    for part in text.split("-- name: ")[1:]:
        name, _, body = part.partition("\n")
        lines = (line for line in body.splitlines() if not line.startswith("--"))
        found[name.strip()] = "\n".join(lines).strip()
    return found


def create(conn: sqlite3.Connection) -> None:
    """Make the table and its indexes, statement by statement: inside the caller's transaction."""
    for statement in queries()["create"].split(";"):
        if statement.strip():
            conn.execute(statement)


def insert(conn: sqlite3.Connection, rows: Sequence[NewDelivery]) -> list[int]:
    """Write decided deliveries; the answer holds each row's new id, 0 for a key that exists already.

    A recovery whose firing is known never to have arrived is written dead. Inside the caller's transaction.
    """
    if not rows:
        return []
    any_lost = _one(conn, "any_lost")
    values = [_values(conn, row, bool(any_lost)) for row in rows]
    before: int = _one(conn, "last_id")
    cursor = conn.executemany(queries()["insert"], values)
    if cursor.rowcount == len(rows):
        # Ids count up from the largest when nothing was skipped, which is nearly always.
        return list(range(before + 1, before + 1 + len(rows)))
    ids, seen = [], set[int]()
    for row in rows:
        id_ = conn.execute(queries()["by_key"], (row.key,)).fetchone()[0]
        ids.append(id_ if id_ > before and id_ not in seen else 0)
        seen.add(id_)
    return ids


def _values(conn: sqlite3.Connection, row: NewDelivery, any_lost: bool) -> tuple[Any, ...]:
    state, error = row.state, row.error
    if any_lost and row.phase == "recovery" and state in (DUE, HELD) and firing_lost(conn, row.alert, row.target):
        state, error = DEAD, delivery.RECOVERY_DIES
    request = row.request if isinstance(row.request, str) else msgspec.json.encode(row.request).decode()
    clients = None if row.clients is None else msgspec.json.encode(row.clients).decode()
    return (
        row.key, row.rule, row.client, row.group_key, clients, row.alert, row.action, row.target, row.lane, row.phase,
        state, state == HELD, row.decided_at_ms, row.decided_at_ms, error, request,
    )  # fmt: skip


def fresh_items(conn: sqlite3.Connection, rows: Sequence[NewDelivery], ids: Sequence[int]) -> list[OutboxItem]:
    """Of what `insert` just wrote in this transaction, the items that may leave at once: due, new, lane not blocked."""
    check_lanes = _one(conn, "any_blocking")
    check_lost = _one(conn, "any_lost")
    items = []
    for row, id_ in zip(rows, ids, strict=True):
        if not id_ or row.state != DUE:
            continue
        if check_lanes and conn.execute(queries()["lane_blocked"], (row.lane, id_)).fetchone()[0]:
            continue
        if check_lost and row.phase == "recovery" and firing_lost(conn, row.alert, row.target):
            continue
        items.append(
            OutboxItem(
                id=id_,
                key=row.key,
                rule=row.rule,
                lane=row.lane,
                action=row.action,
                target=row.target,
                request=msgspec.json.decode(row.request) if isinstance(row.request, str) else row.request,
                attempts=0,
                decided_at_ms=row.decided_at_ms,
                phase=row.phase,
                alert=row.alert,
            )
        )
    return items


def firing_lost(conn: sqlite3.Connection, alert: str, target: str) -> bool:
    """Whether the target certainly never heard of this alert, and never will: its recovery must not be sent."""
    lost = conn.execute(queries()["lost_firings"], (alert, target)).fetchall()
    if not lost or any(arrived for _, arrived in lost):
        return False
    if conn.execute(queries()["told_firing"], (alert, target)).fetchone()[0]:
        return False
    window = (lost[0][0] - SIBLINGS, lost[-1][0] + SIBLINGS, alert, target)
    return not conn.execute(queries()["unfinished_sibling"], window).fetchone()[0]


def waiting(conn: sqlite3.Connection, now_ms: int) -> Waiting:
    """The targets that have something to send now, and the instant (epoch ms) at which the next retry is due."""
    targets = dict.fromkeys(row[0] for row in _skip(conn, "next_fresh_target"))
    later: int | None = None
    for target, due_at in _skip(conn, "next_retrying_target"):
        if due_at <= now_ms:
            targets[target] = None
        elif later is None or due_at < later:
            later = due_at
    return Waiting(tuple(targets), later)


def next_due_at(conn: sqlite3.Connection, now_ms: int) -> int | None:
    """The instant (epoch ms) of the next thing to do: `now_ms` when something is due, None when nothing is left."""
    found = waiting(conn, now_ms)
    return now_ms if found.targets else found.next_due_at_ms


def _skip(conn: sqlite3.Connection, name: str) -> Iterable[tuple[Any, ...]]:
    """One row a target, jumping over the rest of its rows in the index."""
    last = ""
    for _ in range(MAX_TARGETS):
        row = conn.execute(queries()[name], (last,)).fetchone()
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
        rows = conn.execute(queries()["retrying"], (share.target, now_ms, holding, share.limit)).fetchall()
        left = share.limit - len(rows)
        if left > 0:
            rows += conn.execute(queries()["fresh"], (share.target, holding, left)).fetchall()
        items.extend(map(_item, rows))
    return items


def _item(row: tuple[Any, ...]) -> OutboxItem:
    id_, key, rule, lane, action, target, request, attempts, decided_at, phase, alert = row
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


class Recorded(NamedTuple):
    """What a `record` changed, as counts."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0


def record(
    conn: sqlite3.Connection,
    outcomes: Sequence[Outcome],
    now_ms: int,
    jitter: Callable[[], float],
    policy: Policy = Policy(),
) -> Recorded:
    """Write what became of attempts. Rows that are no longer due stay as they are: someone else decided meanwhile.

    `jitter` gives a number between 0 and 1 for each retry. Inside the caller's transaction.
    """
    good = [(o.attempted_at_ms, o.id) for o in outcomes if isinstance(o.answer, Delivered)]
    delivered = conn.executemany(queries()["delivered"], good).rowcount if good else 0
    retried = dead = 0
    for outcome in outcomes:
        if isinstance(outcome.answer, Delivered):
            continue
        state = _record_failure(conn, outcome, now_ms, jitter(), policy)
        retried += state == DUE
        dead += state == DEAD
    return Recorded(delivered, retried, dead)


def _record_failure(conn: sqlite3.Connection, outcome: Outcome, now_ms: int, jitter: float, policy: Policy) -> str:
    row = conn.execute(queries()["standing"], (outcome.id,)).fetchone()
    if row is None or row[0] != DUE:
        return ""
    before = _standing(row)
    attempt = None if isinstance(outcome.answer, Rejected) and outcome.answer.reason == EXPIRED else outcome.answer
    after = (
        delivery.expired(before, now_ms, policy)
        if attempt is None
        else delivery.next_state(before, _attempt(attempt), now_ms, jitter, policy)
    )
    if after is None:
        return ""
    _write(conn, outcome.id, before, after, retrying=True)
    alert, phase, target = row[6:]
    if phase == "firing" and delivery.takes_recovery_along(after):
        _end_recoveries(conn, alert, target, DEAD, now_ms)
    return after.state
