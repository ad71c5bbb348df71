"""Silences, and what goes on for many alerts together, as rows of a store and back: rows from the values of the core.

Each is (kind, id, value) with the value as JSON, the arguments that make the value of the core again. Read `kept_rows` and `kept_of`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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

GROUP, OUTAGE, SCHEDULE, BURST = "group", "outage", "schedule", "burst"
ROUTED, ESCALATION, PAST = "routed", "escalation", "past"


def kept_rows(out: Output) -> Iterator[tuple[str, str, str | None]]:
    """What a step changed, as (kind, id, value); None: over."""
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


def member_rows(out: Output) -> tuple[list[tuple[str, str, int]], list[str]]:
    """Members of outages whose row changed, as (outage, client, standing), and the outages that are over, whose members go."""
    over = [name for name, outage in out.outages.items() if outage.is_over]
    gone = frozenset(over)
    return [(*key, standing) for key, standing in out.members.items() if key[0] not in gone], over


def kept_of(
    rows: Iterable[tuple[str, str]], members: Iterable[tuple[str, str, int]], silences: Iterable[Sequence[Any]]
) -> Kept:
    """Everything that is kept: (kind, value) of all rows in the order of their kinds and ids, the members, the silences' rows."""
    kinds = (GROUP, OUTAGE, SCHEDULE, BURST, ROUTED, ESCALATION, PAST)
    found: dict[str, list[list[Any]]] = {kind: [] for kind in kinds}
    for kind, value in rows:
        found[kind].append(json.loads(value))
    return Kept(
        groups=[Group(*arguments) for arguments in found[GROUP]],
        outages=[Outage(*arguments) for arguments in found[OUTAGE]],
        members=[(outage, client, standing) for outage, client, standing in members],
        silences=[silence_of_row(row) for row in silences],
        schedules=[Tick(*arguments) for arguments in found[SCHEDULE]],
        bursts=[
            Burst(rule, [(at_ms, count) for at_ms, count in times], held, is_announced)
            for rule, times, held, is_announced in found[BURST]
        ],
        escalations=[_escalation(row) for row in found[ESCALATION]],
        routed=[Routed(*arguments) for arguments in found[ROUTED]],
        past=[PastRecord(client, {number: numbers for number, *numbers in parts}) for client, parts in found[PAST]],
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def silence_row(silence: Silence) -> tuple[Any, ...]:
    """The row of a silence: id, match, from, until, author, comment, rules, planned."""
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


def silence_of_row(row: Sequence[Any]) -> Silence:
    """The silence of a row, in the order of `silence_row`."""
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
