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

from engine.core import delivery
from engine.core.delivery import (
    DEAD,
    DEFAULT_POLICY,
    DISCARDED,
    DUE,
    HELD,
    Delivered,
    Expired,
    OutboxItem,
    Outcome,
    Policy,
    Standing,
    Untried,
)
from engine.stores.base import DeliveryRow, NewDelivery, Share, Waiting

MAX_TARGETS = 10_000
"""Targets named by one look at what is waiting."""

SIBLINGS = 64
"""How far apart, in ids, the deliveries of one decision may lie: more than the actions of any rule."""

PURGE_ROWS = 500
"""Rows removed by one call: a slice that never holds up the writer."""


@cache
def queries(file: str = "outbox.sql") -> Mapping[str, str]:
    """The statements of an SQL file by name, without their comments."""
    text = (resources.files("engine.stores.sqlite") / "sql" / file).read_text("utf-8")
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
    for row in rows:
        if row.state == DEAD and row.phase == "firing":  # its recovery may be among the rows
            _end_recoveries(conn, row.alert, row.target, DEAD, row.decided_at_ms)
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
    if any_lost and row.phase == "recovery" and state in (DUE, HELD) and _is_lost(conn, row):
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
        if check_lost and row.phase == "recovery" and _is_lost(conn, row):
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


def firing_lost(conn: sqlite3.Connection, alert: str, target: str, people: frozenset[str]) -> bool:
    """Whether these people at a target certainly never heard of this alert, and never will: see `delivery.never_heard`."""
    lost = conn.execute(queries()["lost_firings"], (alert, target)).fetchall()
    if not lost:
        return False
    window = (lost[0][0] - SIBLINGS, lost[-1][0] + SIBLINGS, alert, target)
    told = conn.execute(queries()["told_firings"], (alert, target)).fetchall()
    told += conn.execute(queries()["unfinished_siblings"], window).fetchall()
    missed = [(_people(text), bool(arrived)) for _, arrived, text in lost]
    return delivery.never_heard(people, missed, [_people(text) for (text,) in told])


def _is_lost(conn: sqlite3.Connection, row: NewDelivery) -> bool:
    return firing_lost(conn, row.alert, row.target, _people_of(row.request))


def _people(text: str) -> frozenset[str]:
    return delivery.audience(*msgspec.json.decode(text))


def _people_of(request: Mapping[str, Any] | str) -> frozenset[str]:
    found = msgspec.json.decode(request) if isinstance(request, str) else request
    return delivery.audience(found.get("to"), found.get("cc"))


def waiting(conn: sqlite3.Connection, now_ms: int) -> Waiting:
    """The targets that have something to send now, and the instant (epoch ms) at which the next retry is due."""
    targets = dict.fromkeys(row[0] for row in _skip(conn, "next_fresh_target"))
    later: int | None = None
    for target, due_at in _skip(conn, "next_retrying_target"):
        if due_at <= now_ms:
            targets[target] = None
            # What is due may be under way or wait for its lane; the retry after it has its own time.
            due_at = _one(conn, "next_retry_of_target", (target, now_ms))
        if due_at is not None and (later is None or due_at < later):
            later = due_at
    return Waiting(tuple(targets), later)


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
        rows = _rows(_one(conn, "retrying", (share.target, now_ms, holding, share.limit)))
        left = share.limit - len(rows)
        if left > 0:
            rows += _rows(_one(conn, "fresh", (share.target, holding, left)))
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
    policy: Policy = DEFAULT_POLICY,
) -> Recorded:
    """Write what became of attempts. Rows that are no longer due stay as they are: someone else decided meanwhile.

    `jitter` gives a number between 0 and 1 for each retry. Inside the caller's transaction.
    """
    good = [(o.id, o.attempted_at_ms, o.answer.detail or None) for o in outcomes if isinstance(o.answer, Delivered)]
    delivered = conn.execute(queries()["delivered"], (msgspec.json.encode(good).decode(),)).rowcount if good else 0
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
    if row is None or row[0] != DUE or isinstance(outcome.answer, Untried):
        return ""
    before = _standing(row)
    if isinstance(outcome.answer, Expired):
        after = delivery.expired(before, now_ms, policy)
    else:
        after = delivery.next_state(before, outcome.answer, now_ms, jitter, policy)
    if after is None:
        return ""
    _write(conn, outcome.id, before, after, retrying=True)
    alert, phase, target = row[6:9]
    if phase == "firing" and delivery.takes_recovery_along(after):
        _end_recoveries(conn, alert, target, DEAD, now_ms)
    return after.state


def _standing(row: Sequence[Any]) -> Standing:
    (state, attempts, due_at, decided_at, arrived, error), life_ms = row[:6], row[9]
    return Standing(
        state=state,
        attempts=attempts,
        due_at_ms=due_at,
        decided_at_ms=decided_at,
        may_have_arrived=bool(arrived),
        last_error=error,
        life_ms=life_ms,
    )


def _write(conn: sqlite3.Connection, id_: int, before: Standing, after: Standing, *, retrying: bool) -> None:
    """Move one row, provided that it still is where `before` says."""
    conn.execute(
        queries()["write_standing"],
        (
            after.state, retrying, after.attempts, after.due_at_ms, after.decided_at_ms, after.may_have_arrived,
            after.last_error, id_, before.state,
        ),
    )  # fmt: skip


def _end_recoveries(conn: sqlite3.Connection, alert: str, target: str, state: str, now_ms: int) -> None:
    for id_, text in conn.execute(queries()["unfinished_recoveries"], (alert, target)).fetchall():
        if firing_lost(conn, alert, target, _people(text)):
            conn.execute(queries()["end_recovery"], (state, now_ms, delivery.RECOVERY_DIES, id_))


def act(conn: sqlite3.Connection, what: str, ids: Sequence[int], now_ms: int) -> list[int]:
    """Carry out an operator's `release`, `retry` or `discard`; returns the ids it changed, passing over the others.

    Discarding a firing that never arrived discards its recovery too. Inside the caller's transaction; wake the dispatcher after.
    """
    changed = []
    for id_ in ids:
        row = conn.execute(queries()["standing"], (id_,)).fetchone()
        if row is None or (row[0], what) not in delivery.TABLE:
            continue
        before = _standing(row)
        after = delivery.act(before, what, now_ms)
        _write(conn, id_, before, after, retrying=True)
        alert, phase, target = row[6:9]
        if phase == "firing" and delivery.takes_recovery_along(after):
            _end_recoveries(conn, alert, target, DISCARDED, now_ms)
        changed.append(id_)
    return changed


def act_on_held(conn: sqlite3.Connection, what: str, rule: str, now_ms: int, limit: int = 1_000) -> int:
    """`release` or `discard` the oldest held deliveries of a rule; how many they were: fewer than `limit` were all."""
    ids = [id_ for (id_,) in conn.execute(queries()["held_of_rule"], (rule, limit))]
    return len(act(conn, what, ids, now_ms))


def retry(conn: sqlite3.Connection, ids: Sequence[int], now_ms: int) -> list[int]:
    """Send dead deliveries once more, beginning anew; returns the ids that were dead."""
    return act(conn, delivery.RETRY, ids, now_ms)


def release(conn: sqlite3.Connection, ids: Sequence[int], now_ms: int) -> list[int]:
    """Let held deliveries go; returns the ids that were held."""
    return act(conn, delivery.RELEASE, ids, now_ms)


def discard(conn: sqlite3.Connection, ids: Sequence[int], now_ms: int) -> list[int]:
    """Give up deliveries that are due, held or dead; returns the ids that were."""
    return act(conn, delivery.DISCARD, ids, now_ms)


def get(conn: sqlite3.Connection, id_: int) -> DeliveryRow | None:
    """One delivery, or None."""
    row = conn.execute(queries()["get"], (id_,)).fetchone()
    return None if row is None else _row(row)


def list_(
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
        raise ValueError(f"no delivery is ever {state!r}: one of {', '.join(delivery.STATES)}")
    wanted = {"rule": rule, "client": client, "alert": alert, "state": state}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = [f"{name} = :{name}" for name in given]
    if cursor is not None:
        where.append("id < :cursor")
    # Both are names of columns from this function, never text from outside.
    select = queries()["get"].partition(" WHERE ")[0]
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    bound = {**given, "cursor": cursor, "limit": limit}
    rows = conn.execute(f"{select}{clause} ORDER BY id DESC LIMIT :limit", bound)
    return [_row(row) for row in rows]


def _row(row: tuple[Any, ...]) -> DeliveryRow:
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


def purge(conn: sqlite3.Connection, before_ms: int, limit: int = PURGE_ROWS) -> int:
    """Remove finished deliveries decided before `before_ms`, oldest first, at most `limit`; returns how many went."""
    return conn.execute(queries()["purge"], (before_ms, limit)).rowcount


def counts(conn: sqlite3.Connection) -> dict[str, int]:
    """How many deliveries are unfinished, by state (`due`, `held`), from the indexes."""
    return dict(conn.execute(queries()["counts"]).fetchall())


def _one(conn: sqlite3.Connection, name: str, values: Sequence[Any] = ()) -> Any:
    return conn.execute(queries()[name], values).fetchone()[0]
