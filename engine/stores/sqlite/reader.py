"""What people ask of the SQLite store: the `Reader` of `stores.base` over one connection, which it only reads from.

`reading(data)` opens one and closes it again; whoever has a store open already uses `SqliteReader(store)`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from engine.core.alerting.silences import Silence
from engine.core.history import POSITION_BITS
from engine.errors import StoreError
from engine.stores.base import (
    TOTALS_STOP,
    AlertRow,
    CorrectionRow,
    DeliveryRow,
    GapRow,
    HistoryEntry,
    QuarantineRow,
    ReconciliationRow,
    SourceRow,
    Totals,
)
from engine.stores.sqlite import alert_rows, delivery_rows, store, sweep_rows
from engine.stores.sqlite.store import SqliteStore

OPEN_STATES = frozenset({"pending", "firing"})
"""States of alerts that are never over: an index holds exactly the open ones."""

EVERYTHING = 1 << 62
"""More entries than any history has."""


@cache
def _queries() -> Mapping[str, str]:
    return store.queries((resources.files("engine.stores.sqlite") / "sql/reading.sql").read_text("utf-8"))


@contextmanager
def reading(data: Path) -> Iterator[SqliteReader]:
    """A reader of the store in a folder, beside whoever writes. StoreError when there is none, or it cannot be read."""
    store = SqliteStore.open_read_only(data)
    try:
        yield SqliteReader(store)
    except sqlite3.Error as error:
        raise StoreError(f"the store could not be read: {error}") from error
    finally:
        store.connection.close()


class SqliteReader:
    """Answers from what was committed before each question."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._connection = store.connection

    def alerts(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[AlertRow]:
        """Alerts, newest first; `cursor` is (started_at_ms, id)."""
        at_ms, id_ = cursor if cursor is not None else (None, "")
        wanted = {"state": state, "rule": rule, "client": client, "at": at_ms, "id": id_, "limit": limit}
        query = _queries()["open_alerts" if state in OPEN_STATES else "alerts"]
        return [_alert(row) for row in self._connection.execute(query, wanted)]

    def held_back(self, *, limit: int = 100) -> list[AlertRow]:
        """Alerts that are suppressed at present, newest first."""
        wanted = {"state": "suppressed", "rule": None, "client": None, "at": None, "id": "", "limit": limit}
        return [_alert(row) for row in self._connection.execute(_queries()["open_alerts"], wanted)]

    def alert(self, id_: str) -> AlertRow | None:
        """One alert."""
        row = self._connection.execute(_queries()["alert"], (id_,)).fetchone()
        return None if row is None else _alert(row)

    def deliveries(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        alert: str | None = None,
        limit: int = 100,
        cursor: int | None = None,
    ) -> list[DeliveryRow]:
        """Deliveries, newest first; `cursor` is an id."""
        return delivery_rows.list_(
            self._connection, state=state, rule=rule, client=client, alert=alert, limit=limit, cursor=cursor
        )

    def delivery(self, number: int) -> DeliveryRow | None:
        """One delivery."""
        return delivery_rows.get(self._connection, number)

    def silences(
        self,
        *,
        now_ms: int,
        state: str | None = None,
        author: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[Silence]:
        """Silences, newest first; `cursor` is (from_ms, id)."""
        return alert_rows.silences(
            self._connection, now_ms=now_ms, state=state, author=author, limit=limit, cursor=cursor
        )

    def rule_at(self, rule: str, at_ms: int) -> str | None:
        """The definition of a rule that was in force at an instant."""
        return alert_rows.version_at(self._connection, rule, at_ms)

    def silence(self, id_: str) -> Silence | None:
        """One silence."""
        return alert_rows.silence(self._connection, id_)

    def quarantine(self, *, limit: int = 100, cursor: int | None = None) -> list[QuarantineRow]:
        """What was not accepted, newest first; `cursor` is an id."""
        rows = self._connection.execute(_queries()["quarantine"], {"limit": limit, "cursor": cursor})
        return [
            QuarantineRow(id=id_, received_at_ms=at_ms, source=source, reason=reason, raw=bytes(raw))
            for id_, at_ms, source, reason, raw in rows
        ]

    def sources(self) -> dict[str, SourceRow]:
        """How far each source was read."""
        return {
            name: SourceRow(position=position, caught_up_to_ms=upto_ms, last_event_at_ms=last_ms)
            for name, (position, upto_ms, last_ms) in self._store.sources().items()
        }

    def gaps(self, limit: int = 1000) -> list[GapRow]:
        """Recorded gaps, newest first."""
        return [
            GapRow(
                source=gap.source,
                noted_at_ms=gap.noted_at_ms,
                from_ms=gap.from_ms,
                to_ms=gap.to_ms,
                reason=gap.reason,
            )
            for gap in self._store.gaps(limit)
        ]

    def reconciliations(self, *, limit: int = 100, cursor: int | None = None) -> list[ReconciliationRow]:
        """Sweeps, newest first; `cursor` is an id."""
        return sweep_rows.list_(self._connection, limit, cursor)

    def reconciliation(self, number: int) -> ReconciliationRow | None:
        """One sweep."""
        return sweep_rows.get(self._connection, number)

    def corrections(self, reconciliation: int | None, *, limit: int = 1000, cursor: int = 0) -> list[CorrectionRow]:
        """What was corrected, oldest first; `cursor` is an id."""
        return sweep_rows.corrections(self._connection, reconciliation, limit, cursor)

    def history(self, position: int) -> Iterator[HistoryEntry]:
        """A client's entries from a position backwards; nothing for a position that was purged or never was."""
        if not 0 < position < EVERYTHING:
            return
        try:
            for found, row, item in self._store.history(position, EVERYTHING):
                if isinstance(item, bytes):
                    previous = row.previous[found & ((1 << POSITION_BITS) - 1)]
                    yield HistoryEntry(position=found, previous=previous, at_ms=row.at_ms, source=row.source, raw=item)
                else:
                    yield HistoryEntry(
                        position=found,
                        previous=item.previous,
                        at_ms=item.at_ms,
                        source=row.source,
                        fact=item.kind,
                        answer=item.answer,
                        client=item.client,
                    )
        except IndexError:  # no such place in that row: a position that somebody made up
            return

    def totals(self) -> Totals:
        """How much there is."""
        unfinished = delivery_rows.counts(self._connection)
        return Totals(
            firing=self._count("open_count", "firing"),
            suppressed=self._count("open_count", "suppressed"),
            due=unfinished.get("due", 0),
            held=unfinished.get("held", 0),
            dead=self._count("dead", TOTALS_STOP),
            quarantined=self._count("quarantined", TOTALS_STOP),
        )

    def _count(self, name: str, *values: Any) -> int:
        return int(self._connection.execute(_queries()[name], values).fetchone()[0])


def _alert(row: tuple[Any, ...]) -> AlertRow:
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
