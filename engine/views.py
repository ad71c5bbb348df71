"""The objects of the HTTP interface and of `--format jsonl`, from states and rows. Pure."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from engine.core import resolver
from engine.core.presence import FLAPPING, GRACEFUL, STATUS_NAMES, ClientState, address, split_id
from engine.core.times import rfc3339
from engine.sources.base import SourceHealth


def instant(value: int | None) -> str | None:
    """An instant as people read it; nothing stays nothing."""
    return rfc3339(value) if value else None


def client_object(client: str, state: ClientState, attributes: Mapping[str, str], skew_ms: int) -> dict[str, Any]:
    """One client as the interface shows it."""
    group, device = split_id(client)
    return {
        "client": client,
        "group": group,
        "device": device,
        "status": STATUS_NAMES[state.settled],
        "observed": STATUS_NAMES[state.observed],
        "since": instant(state.since_ms),
        "settled_at": instant(state.settled_at_ms),
        "graceful": bool(state.flags & GRACEFUL),
        "flaps": state.flaps,
        "flapping": bool(state.flags & FLAPPING),
        "doubtful": bool(resolver.doubts(state, skew_ms)),
        "verified_at": None,
        "ip": address(state.ip),
        "attributes": dict(attributes),
    }


def source_object(health: SourceHealth) -> dict[str, Any]:
    """One source as the interface shows it."""
    return {
        "name": health.name,
        "type": health.type,
        "connected": health.connected,
        "detail": health.detail,
        "caught_up_to": instant(health.caught_up_to_ms),
        "last_event_at": instant(health.last_event_at_ms),
        "lag": health.lag,
    }


def _rows(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def alert_objects(connection: sqlite3.Connection, limit: int, state: str | None = None) -> list[dict[str, Any]]:
    """Alerts, newest first."""
    sql = (
        "SELECT id, rule, client, source, state, reason, started_at, resolved_at FROM alerts "
        "WHERE (?1 IS NULL OR state = ?1) ORDER BY started_at DESC LIMIT ?2"
    )
    found = _rows(connection, sql, (state, limit))
    for row in found:
        source = row.pop("source")
        row["key"] = {"source": source} if source is not None else None
        row["started_at"], row["resolved_at"] = instant(row["started_at"]), instant(row["resolved_at"])
    return found


def quarantine_objects(connection: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """What was not accepted, newest first."""
    found = _rows(
        connection, "SELECT id, received_at, source, reason, raw FROM quarantine ORDER BY id DESC LIMIT ?", (limit,)
    )
    for row in found:
        row["received_at"] = instant(row["received_at"])
        row["raw"] = bytes(row["raw"]).decode("utf-8", "backslashreplace")
    return found


def delivery_object(row: Any) -> dict[str, Any]:
    """One delivery as the interface shows it; `row` is a `DeliveryRow`."""
    return {
        "id": row.id,
        "key": row.key,
        "rule": row.rule,
        "client": row.client,
        "alert": row.alert,
        "action": row.action,
        "target": row.target,
        "state": row.state,
        "attempts": row.attempts,
        "due_at": instant(row.due_at_ms),
        "last_error": row.last_error,
    }


def as_line(found: Mapping[str, Any]) -> str:
    """One object as a line of JSON."""
    return json.dumps(found, ensure_ascii=False)
