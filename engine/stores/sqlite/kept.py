"""Silences, and what goes on for many alerts together, in the SQLite store: rows from the values of the core and back.

`write` is called with what a step changed, inside the writer's transaction; `read` after a start and after a failed commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from engine.core.alerting.alert import Kept, Output
from engine.core.alerting.escalation import Escalation, SentStep
from engine.core.alerting.grouping import Group
from engine.core.alerting.outages import Outage
from engine.core.alerting.past import PastRecord
from engine.core.alerting.rate_limit import Burst
from engine.core.alerting.routing import Routed
from engine.core.alerting.schedules import Tick
from engine.core.alerting.silences import Silence
from engine.core.rules import Match
from engine.stores.sqlite.queries import queries

Q = queries("kept.sql")

GROUP, OUTAGE, SCHEDULE, BURST = "group", "outage", "schedule", "burst"
ROUTED, ESCALATION, PAST = "routed", "escalation", "past"


def write(connection: sqlite3.Connection, out: Output) -> None:
    """Write what a step changed; what is over leaves no row."""
    if out.silences:
        connection.executemany(Q["write_silence"], [_silence_row(one) for one in out.silences.values()])
    kinds_changed = (
        out.groups,
        out.outages,
        out.schedules,
        out.bursts,
        out.members,
        out.routed,
        out.escalations,
        out.past,
    )
    if not any(kinds_changed):
        return
    kept = list(_rows(out))
    connection.executemany(Q["write_kept"], [row for row in kept if row[2] is not None])
    connection.executemany(Q["delete_kept"], [row[:2] for row in kept if row[2] is None])
    over = {name for name, outage in out.outages.items() if outage.is_over}
    members = [(*key, standing) for key, standing in out.members.items() if key[0] not in over]
    connection.executemany(Q["write_member"], members)
    connection.executemany(Q["delete_members"], [(name,) for name in over])


def _rows(out: Output) -> Iterator[tuple[str, str, str | None]]:
    """(kind, id, value); None: over."""
    for name, group in out.groups.items():
        arguments = [
            group.rule,
            group.key,
            group.first_ms,
            group.sent_at_ms,
            list(group.sent),
            group.passing,
            group.passed,
            group.remind_at_ms,
            group.name,
            group.is_bundle,
            group.ended,
        ]
        yield GROUP, name, None if group.is_closed else _json(arguments)
    for name, outage in out.outages.items():
        arguments = [
            outage.name,
            outage.rule,
            outage.key,
            outage.earliest_ms,
            outage.quiet_since_ms,
            outage.peak,
        ]
        yield OUTAGE, name, None if outage.is_over else _json(arguments)
    for rule, tick in out.schedules.items():
        yield SCHEDULE, rule, _json([tick.rule, tick.at_ms])
    for rule, burst in out.bursts.items():
        yield BURST, rule, _json([burst.rule, burst.times, burst.held, burst.is_announced]) if burst.times else None
    for id_, routed in out.routed.items():
        yield ROUTED, id_, None if routed.is_over else _json([id_, routed.choices, routed.used_ms])
    for id_, escalation in out.escalations.items():
        yield ESCALATION, id_, None if escalation.is_over else _json(_escalation_arguments(escalation))
    for client, record in out.past.items():
        parts = [[number, *numbers] for number, numbers in record.parts.items()]
        yield PAST, client, _json([client, parts]) if parts else None


def _escalation_arguments(escalation: Escalation) -> list[Any]:
    return [
        escalation.id,
        escalation.rule,
        escalation.from_ms,
        escalation.ladder,
        escalation.reached_ms,
        escalation.is_stopped,
        escalation.is_held,
        escalation.freed_ms,
        [[step.actions, step.after_ms, step.at_ms, step.ladder] for step in escalation.sent],
    ]


def _escalation(row: Sequence[Any]) -> Escalation:
    id_, rule, from_ms, ladder, reached_ms, is_stopped, is_held, freed_ms, sent = row
    steps = [SentStep(*step) for step in sent]
    return Escalation(id_, rule, from_ms, ladder, reached_ms, is_stopped, is_held, freed_ms, steps)


def read(connection: sqlite3.Connection) -> Kept:
    """Everything that is kept, silences included that are over."""
    kinds = (GROUP, OUTAGE, SCHEDULE, BURST, ROUTED, ESCALATION, PAST)
    found: dict[str, list[list[Any]]] = {kind: [] for kind in kinds}
    for kind, value in connection.execute(Q["all_kept"]):
        found[kind].append(json.loads(value))
    return Kept(
        groups=[Group(*arguments) for arguments in found[GROUP]],
        outages=[Outage(*arguments) for arguments in found[OUTAGE]],
        members=[(outage, client, standing) for outage, client, standing in connection.execute(Q["all_members"])],
        silences=[_silence(row) for row in connection.execute(Q["all_silences"])],
        schedules=[Tick(*arguments) for arguments in found[SCHEDULE]],
        bursts=[
            Burst(rule, [(at_ms, count) for at_ms, count in times], held, is_announced)
            for rule, times, held, is_announced in found[BURST]
        ],
        escalations=[_escalation(row) for row in found[ESCALATION]],
        routed=[Routed(*arguments) for arguments in found[ROUTED]],
        past=[PastRecord(client, {number: numbers for number, *numbers in parts}) for client, parts in found[PAST]],
    )


def silences(
    connection: sqlite3.Connection,
    *,
    now_ms: int,
    state: str | None,
    author: str | None,
    limit: int,
    cursor: tuple[int, str] | None,
) -> list[Silence]:
    """Silences, newest first; `state`: planned, active or expired; `cursor` is (from_ms, id)."""
    at_ms, id_ = cursor if cursor is not None else (None, "")
    wanted = {"state": state, "now": now_ms, "author": author, "at": at_ms, "id": id_, "limit": limit}
    return [_silence(row) for row in connection.execute(Q["silences"], wanted)]


def silence(connection: sqlite3.Connection, id_: str) -> Silence | None:
    """One silence, None when there is none."""
    row = connection.execute(Q["silence"], (id_,)).fetchone()
    return None if row is None else _silence(row)


def purge(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Drop silences, and what rules said, that were over before an instant; returns how many."""
    gone = connection.execute(Q["purge_silences"], (before_ms, limit)).rowcount
    return gone + connection.execute(Q["purge_versions"], (before_ms,)).rowcount


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _silence_row(silence: Silence) -> tuple[Any, ...]:
    match = {field.name: getattr(silence.match, field.name) for field in fields(Match)}
    written = _json({name: value for name, value in match.items() if value})
    rules = _json(silence.rules)
    return (
        silence.id,
        written,
        silence.from_ms,
        silence.until_ms,
        silence.author,
        silence.comment,
        rules,
        silence.planned,
    )


def _silence(row: Sequence[Any]) -> Silence:
    id_, match, from_ms, until_ms, author, comment, rules, planned = row
    written = json.loads(match)
    attributes = tuple((column, tuple(patterns)) for column, patterns in written.pop("attributes", ()))
    found = Match(**{name: tuple(patterns) for name, patterns in written.items()}, attributes=attributes)
    return Silence(
        id=id_,
        match=found,
        rules=tuple(json.loads(rules)),
        from_ms=from_ms,
        until_ms=until_ms,
        author=author,
        comment=comment,
        planned=bool(planned),
    )
