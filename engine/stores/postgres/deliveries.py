"""The outbox in PostgreSQL: what is written to it, inside the writer's transaction.

Read `add` and `record` first. What one row holds, or one answer says, never stops the others: what cannot be written is dead, with the
reason. A statement that fails ends the whole transaction here, so what a row holds is looked at before it is sent, and where the
server found a fault all the same, the next try writes row by row. Each verb is a few statements for all rows together, because each
statement is a journey to the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import psycopg

from engine.core import delivery
from engine.core.delivery import (
    DEAD,
    DEFAULT_POLICY,
    DUE,
    HELD,
    DeliveryPolicy,
    OutboxItem,
    Outcome,
)
from engine.stores.delivery_rows import (
    MAX_ID,
    TELLING,
    item_of_new,
    people_of,
    that_fits,
)
from engine.stores.postgres.delivery_reads import delivery_of
from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.outbox_queries import OutboxQueries
from engine.stores.postgres.outcomes import Outcomes
from engine.stores.postgres.recoveries import Recoveries
from engine.stores.postgres.session import Session
from engine.stores.rows import DeliveryRow, NewDelivery, Recorded
from engine.telemetry import Event, logger

log = logger(__name__)

FAULTS_OF_A_ROW: Final = (
    ValueError, TypeError, KeyError, OverflowError, RecursionError, msgspec.MsgspecError,
    psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded,
)  # fmt: skip
"""What the content of a row or an answer can cause; everything else is about the store and fails the transaction."""

MAX_INDEXED_BYTES: Final = 2_000
"""Longest key, alert or target in UTF-8: an index page takes no longer ones."""

PURGE_ROWS = 500
"""Rows removed by one call: a slice that never holds up the writer."""


@translated(COMMIT_FAILED)
class PostgresDeliveries:
    """See `stores.base.Deliveries`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._queries = OutboxQueries(session, cell)
        self._recoveries = Recoveries(self._queries)
        self._outcomes = Outcomes(self._queries, self._recoveries)
        self._is_careful = False  # did the server find a fault in a row, so that the next ones are written one by one?

    # New ones

    def add(self, rows: Sequence[NewDelivery]) -> list[OutboxItem]:
        """Write decided deliveries; returns those that may leave at once. A key that exists already changes nothing.

        One that is too big for the store is written dead, without its request.
        """
        if not rows:
            return []
        any_lost, any_blocking = self._troubles()
        rows = [_without_nul(that_fits(row)) for row in rows]
        older: set[str] = set()  # the keys of those that wait in the lane of an older version
        if any_blocking:
            moved = [self._behind_older(row) for row in rows]
            older = {new.key for new, row in zip(moved, rows, strict=True) if new is not row}
            rows = moved
        if any_lost:
            rows = [self._dead_if_lost(row) for row in rows]
        ids = self._insert(rows, older)
        dead = [row for row in rows if row.state == DEAD and row.phase in TELLING]
        any_lost = any_lost or bool(dead)
        recovering = self._recoveries.of([row.alert for row in dead])  # a recovery may be among the rows
        for row in dead:
            if row.alert in recovering:
                self._recoveries.end(row.alert, row.target, DEAD, row.decided_at_ms)
        any_blocking = any_blocking or any(row.state == HELD for row in rows)
        return self._leaving(rows, ids, any_lost, any_blocking)

    def _troubles(self) -> tuple[bool, bool]:
        """Is anything lost, and does anything block a lane?"""
        lost, blocking = self._queries.one("troubles")
        return lost, blocking

    def _behind_older(self, row: NewDelivery) -> NewDelivery:
        """A delivery whose lane has one of an older version, which knew a target without its path, waits in that one's lane."""
        origin = delivery.origin_of(row.target)
        if origin == row.target or not row.lane.endswith(row.target):
            return row
        older = row.lane.removesuffix(row.target) + origin
        return row._replace(lane=older) if self._blocked([(older, MAX_ID)]) else row

    def _dead_if_lost(self, row: NewDelivery) -> NewDelivery:
        """A recovery whose firing is known never to have arrived is written dead."""
        if row.phase == "recovery" and row.state in (DUE, HELD) and self._is_lost(row):
            return row._replace(state=DEAD, error=delivery.RECOVERY_DIES)
        return row

    def _insert(self, rows: Sequence[NewDelivery], older: set[str]) -> list[int]:
        """Write decided deliveries; the answer holds each row's new id, 0 for a key that exists already and for what is buried."""
        if not self._is_careful:
            try:
                new = self._write_new([_values(row, row.key in older) for row in rows])
                return [new.pop(row.key, 0) for row in rows]
            except psycopg.Error as error:
                # The server found a fault: this transaction is over, and the next one looks for the row.
                self._is_careful = isinstance(error, FAULTS_OF_A_ROW)
                raise
            except FAULTS_OF_A_ROW:
                pass  # found before anything was sent
        ids = [self._insert_or_bury(row, row.key in older) for row in rows]
        self._is_careful = False
        return ids

    def _write_new(self, values: Sequence[Sequence[Any]]) -> dict[str, int]:
        """The ids that were given, by key."""
        columns = dict(zip(COLUMNS, map(list, zip(*values, strict=True)), strict=True))
        return {key: id_ for id_, key in self._queries.rows("insert", **columns)}

    def _insert_or_bury(self, row: NewDelivery, waits: bool) -> int:
        """Write one decided delivery; dead, without its request, when it cannot be written as it is. 0 unless it is new and whole."""
        try:
            values = _values(row, waits)
            with self._queries.session.savepoint():
                return self._write_new([values]).get(row.key, 0)
        except FAULTS_OF_A_ROW as error:
            reason = delivery.kept_text(f"it cannot be stored: {error}", delivery.MAX_ERROR_CHARS)
            log.error(Event.DELIVERY_DEAD, rule=row.rule, client=row.client, action=row.action, error=reason)
            at_ms = min(row.decided_at_ms, MAX_ID)
            with suppress(*FAULTS_OF_A_ROW), self._queries.session.savepoint():
                self._write_new([(*row[:4], None, *row[5:10], DEAD, True, at_ms, reason, "{}")])
            return 0

    def _leaving(
        self, rows: Sequence[NewDelivery], ids: Sequence[int], any_lost: bool, any_blocking: bool
    ) -> list[OutboxItem]:
        """Of what `_insert` just wrote in this transaction, the items that may leave at once: due, new, lane not blocked."""
        new = [(row, id_) for row, id_ in zip(rows, ids, strict=True) if id_ and row.state == DUE]
        blocked = self._blocked([(row.lane, id_) for row, id_ in new]) if any_blocking else ()
        return [
            item_of_new(row, id_)
            for row, id_ in new
            if id_ not in blocked and not (any_lost and row.phase == "recovery" and self._is_lost(row))
        ]

    def _blocked(self, places: Sequence[tuple[str, int]]) -> set[int]:
        """Of places in lanes, given as (lane, id), the ids that something earlier is before."""
        lanes = [lane for lane, _ in places]
        return {id_ for (id_,) in self._queries.rows("blocked", lane=lanes, id=[id_ for _, id_ in places])}

    def _is_lost(self, row: NewDelivery) -> bool:
        return self._recoveries.is_lost(row.alert, row.target, people_of(row.request))

    # What is written already

    def record(
        self,
        outcomes: Sequence[Outcome],
        now_ms: int,
        jitter: Callable[[], float],
        policy: DeliveryPolicy = DEFAULT_POLICY,
    ) -> Recorded:
        """Write what became of attempts; `jitter` gives a number between 0 and 1 for each retry."""
        return self._outcomes.record(outcomes, now_ms, jitter, policy)

    def act(self, number: int, what: str, now_ms: int) -> tuple[DeliveryRow | None, bool]:
        """Carry out an operator's act on one delivery: the row as it is then (None: there is none), and was it changed."""
        if not 0 < number <= MAX_ID:
            return None, False
        changed = self._outcomes.act(number, what, now_ms)
        return delivery_of(self._queries.session, [self._queries.cell], number), changed

    def act_on_held(self, rule: str, what: str, now_ms: int) -> int:
        """`release` or `discard` the oldest held deliveries of a rule; how many they were."""
        return self._outcomes.act_on_held(rule, what, now_ms)

    def purge(self, before_ms: int, limit: int = PURGE_ROWS) -> int:
        """Remove finished deliveries decided before `before_ms`, oldest first, at most `limit`; returns how many went."""
        return self._queries.changed("purge", before=before_ms, limit=limit)


COLUMNS: Final = (
    "key", "rule", "client", "group_key", "clients", "alert", "action", "target", "lane", "phase",
    "state", "retrying", "at", "error", "request",
)  # fmt: skip


def _without_nul(row: NewDelivery) -> NewDelivery:
    """The same with U+FFFD for the one character that no text of PostgreSQL holds and that only the server notices in an array."""
    texts: dict[str, Any] = {
        name: value for name, value in row._asdict().items() if isinstance(value, str) and "\0" in value
    }
    return row._replace(**{name: value.replace("\0", "\ufffd") for name, value in texts.items()}) if texts else row


def _values(row: NewDelivery, waits: bool) -> tuple[Any, ...]:
    """The values of `COLUMNS`. Raises ValueError for what no column can hold."""
    if row.decided_at_ms > MAX_ID:
        raise ValueError(f"the instant {row.decided_at_ms} is too late to be kept")
    if len(row.key) + len(row.alert) + len(row.target) > MAX_INDEXED_BYTES // 4:
        for name in ("key", "alert", "target"):
            if len(getattr(row, name).encode()) > MAX_INDEXED_BYTES:
                raise ValueError(f"its {name} is longer than {MAX_INDEXED_BYTES} bytes")
    request = row.request if isinstance(row.request, str) else msgspec.json.encode(row.request).decode()
    "".join((row.key, row.rule, row.client or "", row.alert, row.lane, request)).encode()  # halves of surrogate pairs
    clients = None if row.clients is None else msgspec.json.encode(row.clients).decode()
    return (
        row.key, row.rule, row.client, row.group_key, clients, row.alert, row.action, row.target, row.lane, row.phase,
        row.state, waits or row.state == HELD, row.decided_at_ms, row.error, request,
    )  # fmt: skip
