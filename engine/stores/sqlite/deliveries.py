"""The outbox in SQLite: what is written to it, inside the writer's transaction.

Read `add` and `record` first. What one row holds, or one answer says, never stops the others: what cannot be written is dead, with the
reason. A fresh delivery costs two index entries; everything that asks for order or for a recovery's
firing looks into partial indexes that hold only what went wrong, so a healthy outbox never pays for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from engine.core import delivery
from engine.core.delivery import (
    DEAD,
    DEFAULT_POLICY,
    DISCARDED,
    DUE,
    HELD,
    Delivered,
    DeliveryPolicy,
    Expired,
    OutboxItem,
    Outcome,
    Standing,
    Untried,
)
from engine.stores import attempts
from engine.stores.attempts import with_one_more
from engine.stores.base import DeliveryRow, NewDelivery, Recorded
from engine.stores.delivery_rows import (
    MAX_ID,
    SIBLINGS,
    TELLING,
    delivered_values,
    item_of_new,
    people_of,
    standing_of,
    that_fits,
)
from engine.stores.sqlite.delivery_reads import delivery_of, one
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.queries import queries
from engine.telemetry import Event, logger

log = logger(__name__)

Q = queries("outbox.sql")

FAULTS_OF_A_ROW: Final = (
    ValueError, TypeError, KeyError, OverflowError, RecursionError, msgspec.MsgspecError,
    sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError,
)  # fmt: skip
"""What the content of a row or an answer can cause; everything else is about the store and fails the transaction."""

PURGE_ROWS = 500
"""Rows removed by one call: a slice that never holds up the writer."""


@translated(COMMIT_FAILED)
class SqliteDeliveries:
    """See `stores.base.Deliveries`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, rows: Sequence[NewDelivery]) -> list[OutboxItem]:
        """Write decided deliveries; returns those that may leave at once. A key that exists already changes nothing.

        One that is too big for the store is written dead, without its request.
        """
        rows = [that_fits(row) for row in rows]
        older: set[str] = set()  # the keys of those that wait in the lane of an older version
        if rows and one(self._connection, "any_blocking"):
            moved = [self._behind_older(row) for row in rows]
            older = {new.key for new, row in zip(moved, rows, strict=True) if new is not row}
            rows = moved
        return self._leaving(rows, self._insert(rows, older))

    def _behind_older(self, row: NewDelivery) -> NewDelivery:
        """A delivery whose lane has one of an older version, which knew a target without its path, waits in that one's lane."""
        origin = delivery.origin_of(row.target)
        if origin == row.target or not row.lane.endswith(row.target):
            return row
        older = row.lane.removesuffix(row.target) + origin
        is_blocked = self._connection.execute(Q["lane_blocked"], (_storable(older), MAX_ID)).fetchone()[0]
        return row._replace(lane=older) if is_blocked else row

    def _insert(self, rows: Sequence[NewDelivery], older: Collection[str] = ()) -> list[int]:
        """Write decided deliveries; the answer holds each row's new id, 0 for a key that exists already and for what is buried.

        A recovery whose firing is known never to have arrived is written dead.
        """
        if not rows:
            return []
        any_lost = bool(one(self._connection, "any_lost"))
        before: int = one(self._connection, "last_id")
        inserted, buried = 0, set[str]()
        try:
            values = [self._values(row, any_lost, row.key in older) for row in rows]
            inserted = self._connection.executemany(Q["insert"], values).rowcount
        except FAULTS_OF_A_ROW:  # those that are in the table already are skipped
            buried = {row.key for row in rows if not self._insert_or_bury(row, any_lost, row.key in older)}
        for row in rows:
            if row.state == DEAD and row.phase in TELLING:  # its recovery may be among the rows
                self._end_recoveries(row.alert, row.target, DEAD, row.decided_at_ms)
        if inserted == len(rows):
            # Ids count up from the largest when nothing was skipped, which is nearly always.
            return list(range(before + 1, before + 1 + len(rows)))
        ids, seen = [], set[int]()
        for row in rows:
            found = self._connection.execute(Q["by_key"], (_storable(row.key),)).fetchone()
            id_ = found[0] if found is not None else 0
            ids.append(id_ if id_ > before and id_ not in seen and row.key not in buried else 0)
            seen.add(id_)
        return ids

    def _insert_or_bury(self, row: NewDelivery, any_lost: bool, waits: bool) -> bool:
        """Write one decided delivery; dead, without its request, when it cannot be written as it is. Returns whether it could."""
        try:
            self._connection.execute(Q["insert"], self._values(row, any_lost, waits))
        except FAULTS_OF_A_ROW as error:
            reason = delivery.kept_text(f"it cannot be stored: {error}", delivery.MAX_ERROR_CHARS)
            log.error(Event.DELIVERY_DEAD, rule=row.rule, client=row.client, action=row.action, error=reason)
            texts = [value if value is None else _storable(value) for value in (*row[:4], None, *row[5:10])]
            at_ms = min(row.decided_at_ms, MAX_ID)
            values = (*texts, DEAD, True, at_ms, at_ms, reason, "{}")
            with suppress(*FAULTS_OF_A_ROW):
                self._connection.execute(Q["insert"], values)
            return False
        return True

    def _values(self, row: NewDelivery, any_lost: bool, waits: bool) -> tuple[Any, ...]:
        state, error = row.state, row.error
        if any_lost and row.phase == "recovery" and state in (DUE, HELD) and self._is_lost(row):
            state, error = DEAD, delivery.RECOVERY_DIES
        request = row.request if isinstance(row.request, str) else msgspec.json.encode(row.request).decode()
        clients = None if row.clients is None else msgspec.json.encode(row.clients).decode()
        return (
            row.key, row.rule, row.client, row.group_key, clients, row.alert, row.action, row.target, row.lane, row.phase,
            state, waits or state == HELD, row.decided_at_ms, row.decided_at_ms, error, request,
        )  # fmt: skip

    def _leaving(self, rows: Sequence[NewDelivery], ids: Sequence[int]) -> list[OutboxItem]:
        """Of what `_insert` just wrote in this transaction, the items that may leave at once: due, new, lane not blocked."""
        check_lanes = one(self._connection, "any_blocking")
        check_lost = one(self._connection, "any_lost")
        items = []
        for row, id_ in zip(rows, ids, strict=True):
            if not id_ or row.state != DUE:
                continue
            if check_lanes and self._connection.execute(Q["lane_blocked"], (_storable(row.lane), id_)).fetchone()[0]:
                continue
            if check_lost and row.phase == "recovery" and self._is_lost(row):
                continue
            items.append(item_of_new(row, id_))
        return items

    def _firing_lost(self, alert: str, target: str, people: frozenset[str]) -> bool:
        """Whether these people at a target certainly never heard of this alert, and never will: see `delivery.never_heard`."""
        where = (
            _storable(alert),
            _storable(target),
            _storable(delivery.origin_of(target)),
        )  # an older version wrote the origin
        lost = self._connection.execute(Q["lost_firings"], where).fetchall()
        if not lost:
            return False
        window = (lost[0][0] - SIBLINGS, lost[-1][0] + SIBLINGS, *where)
        heard = self._connection.execute(Q["told_firings"], where).fetchall()
        heard += self._connection.execute(Q["unfinished_siblings"], window).fetchall()
        missed = [(_people(text), bool(arrived)) for _, arrived, text in lost]
        return delivery.never_heard(people, missed, [_people(text) for (text,) in heard])

    def _is_lost(self, row: NewDelivery) -> bool:
        return self._firing_lost(row.alert, row.target, people_of(row.request))

    def record(
        self,
        outcomes: Sequence[Outcome],
        now_ms: int,
        jitter: Callable[[], float],
        policy: DeliveryPolicy = DEFAULT_POLICY,
    ) -> Recorded:
        """Write what became of attempts; `jitter` gives a number between 0 and 1 for each retry."""
        good = [delivered_values(o, o.answer) for o in outcomes if isinstance(o.answer, Delivered)]
        bound = {"good": msgspec.json.encode(good).decode(), "kept": delivery.MAX_ATTEMPTS_KEPT}
        delivered = self._connection.execute(Q["delivered"], bound).rowcount if good else 0
        retried = dead = 0
        for outcome in outcomes:
            if isinstance(outcome.answer, Delivered):
                continue
            try:
                with self._savepoint():
                    state = self._record_failure(outcome, now_ms, jitter(), policy)
            except FAULTS_OF_A_ROW as error:
                state = self._bury(outcome.id, now_ms, error)
            retried += state == DUE
            dead += state == DEAD
        return Recorded(delivered, retried, dead)

    def _record_failure(self, outcome: Outcome, now_ms: int, jitter: float, policy: DeliveryPolicy) -> str:
        row = self._connection.execute(Q["standing"], (outcome.id,)).fetchone()
        if row is None or row[0] != DUE or isinstance(outcome.answer, Untried):
            return ""
        before = standing_of(row[:6], row[9], row[10])
        if isinstance(outcome.answer, Expired):
            after = delivery.expired(before, now_ms, policy)
        else:
            after = delivery.next_state(before, outcome.answer, now_ms, jitter, policy)
        if after is None:
            return ""
        self._write(outcome.id, before, after, with_one_more(row[11], attempts.one(outcome)))
        alert, phase, target = row[6:9]
        if phase in TELLING and delivery.takes_recovery_along(after):
            self._end_recoveries(alert, target, DEAD, now_ms)
        return after.state

    def _bury(self, id_: int, now_ms: int, error: Exception) -> str:
        """An outcome that cannot be written ends its delivery: sent again, it would most likely come to the same."""
        reason = delivery.kept_text(f"its result cannot be stored: {error}", delivery.MAX_ERROR_CHARS)
        return DEAD if self._connection.execute(Q["bury"], (now_ms, reason, id_)).rowcount else ""

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """What stands inside is undone when it raises; the transaction around it goes on."""
        self._connection.execute("SAVEPOINT one_row")
        try:
            yield
        except FAULTS_OF_A_ROW:
            self._connection.execute("ROLLBACK TO one_row")
            raise
        finally:
            if self._connection.in_transaction:  # SQLite ends it by itself on a full disk
                self._connection.execute("RELEASE one_row")

    def _write(self, id_: int, before: Standing, after: Standing, tries: str | None) -> None:
        """Move one row, provided that it still is where `before` says."""
        renewed = after.decided_at_ms if after.decided_at_ms != before.decided_at_ms else None
        self._connection.execute(
            Q["write_standing"],
            (
                after.state, True, after.attempts, after.due_at_ms, renewed, after.attempts_before,
                after.may_have_arrived, after.last_error, tries, id_, before.state,
            ),
        )  # fmt: skip

    def _end_recoveries(self, alert: str, target: str, state: str, now_ms: int) -> None:
        found = self._connection.execute(Q["unfinished_recoveries"], (_storable(alert), _storable(target))).fetchall()
        for id_, text, its_target in found:
            if self._firing_lost(alert, its_target, _people(text)):
                self._connection.execute(Q["end_recovery"], (state, now_ms, delivery.RECOVERY_DIES, id_))

    def act(self, number: int, what: str, now_ms: int) -> tuple[DeliveryRow | None, bool]:
        """Carry out an operator's act on one delivery: the row as it is then (None: there is none), and was it changed."""
        changed = self._act(number, what, now_ms)
        return delivery_of(self._connection, number), changed

    def act_on_held(self, rule: str, what: str, now_ms: int, limit: int = 1_000) -> int:
        """`release` or `discard` the oldest held deliveries of a rule; how many they were."""
        ids = [id_ for (id_,) in self._connection.execute(Q["held_of_rule"], (rule, limit))]
        return sum(self._act(id_, what, now_ms) for id_ in ids)

    def _act(self, number: int, what: str, now_ms: int) -> bool:
        row = self._connection.execute(Q["standing"], (number,)).fetchone()
        if row is None or (row[0], what) not in delivery.TABLE:
            return False
        before = standing_of(row[:6], row[9], row[10])
        after = delivery.act(before, what, now_ms)
        self._write(number, before, after, row[11])
        alert, phase, target = row[6:9]
        if phase in TELLING and delivery.takes_recovery_along(after):
            self._end_recoveries(alert, target, DISCARDED, now_ms)
        return True

    def purge(self, before_ms: int, limit: int = PURGE_ROWS) -> int:
        """Remove finished deliveries decided before `before_ms`, oldest first, at most `limit`; returns how many went."""
        return self._connection.execute(Q["purge"], (before_ms, limit)).rowcount


def _people(text: str) -> frozenset[str]:
    return delivery.audience(*msgspec.json.decode(text))


def _storable(text: str) -> str:
    """The text itself, or what can be stored of it."""
    return text.encode("utf-8", "backslashreplace").decode()
