"""What the templates of a rule may read: the shape of every variable. Read `names_of`.

Shapes describe values: a mapping of names (closed: any other name is a mistake), a list of one shape, text, a number, or `ANYTHING`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine.core.alerting.alert import DROPPED, FIRING, PENDING, RESOLVED, SUPPRESSED
from engine.core.alerting.planned_delivery import (
    PHASE_ACKNOWLEDGED,
    PHASE_ESCALATION,
    PHASE_FIRING,
    PHASE_RECOVERY,
    PHASE_REMINDER,
    PHASE_SUMMARY,
    PHASE_UPDATE,
)
from engine.core.presence.client_state import STATUS_NAMES
from engine.core.rules import TRIGGERS


class Anything:
    """A value about which nothing is known."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text, which has methods that templates may call. `values`: all that it can be, when that is known."""

    values: frozenset[str] | None = None


class _Number:
    """A number or a boolean, which has no attributes."""


ANYTHING = Anything()
TEXT = Text()
NUMBER = _Number()
Shape = Any  # ANYTHING, a Text, NUMBER, a mapping of names to shapes, or a list of one shape


def one_of(*values: str) -> Text:
    """A text that is always one of these."""
    return Text(frozenset(values))


_STATUS = one_of(*STATUS_NAMES)
_SEVERITY = one_of("info", "warning", "critical")
_STATE = one_of(PENDING, FIRING, SUPPRESSED, RESOLVED, DROPPED)
_PHASE = one_of(
    PHASE_FIRING,
    PHASE_RECOVERY,
    PHASE_REMINDER,
    PHASE_ESCALATION,
    PHASE_ACKNOWLEDGED,
    PHASE_UPDATE,
    PHASE_SUMMARY,
)

_RULE: Shape = {"name": TEXT, "severity": _SEVERITY, "description": TEXT, "labels": ANYTHING}
_ALERT: Shape = {
    "id": TEXT,
    "state": _STATE,
    "reason": TEXT,
    "trigger": one_of(*TRIGGERS),
    "phase": _PHASE,
    "started_at": TEXT,
    "ended_at": TEXT,
    "duration": NUMBER,
    "url": TEXT,
    "acknowledged_by": TEXT,
    "escalation": NUMBER,
    "source": TEXT,
    "target": TEXT,
    "detail": TEXT,
    "count": NUMBER,
    "clients": [TEXT],
    "key": ANYTHING,
    "unverified": NUMBER,
}
_MEMBER: Mapping[str, Shape] = {
    "id": TEXT,
    "name": TEXT,
    "group": TEXT,
    "device": TEXT,
    "ip": TEXT,
    "status": _STATUS,
    "since": TEXT,
    "occurred_at": TEXT,
}
_EVIDENCE: Shape = [{"type": TEXT, "time": TEXT, "channel": TEXT, "used": NUMBER, "why": TEXT}]

ABOUT_CLIENT: Mapping[str, Shape] = {
    "status": _STATUS,
    "previous": _STATUS,
    "occurred_at": TEXT,
    "settled_at": TEXT,
    "since": TEXT,
    "duration": NUMBER,
    "graceful": NUMBER,
    "flaps": NUMBER,
    "flapping": NUMBER,
    "doubtful": NUMBER,
    "verified_at": ANYTHING,
    "evidence": _EVIDENCE,
}

_INSTANTS = ("occurred_at", "since", "settled_at", "duration")
_CHANGE = (*_INSTANTS, "status", "previous")
_OF_MANY = {"schedule": _INSTANTS, "outage": _CHANGE, "quorum": _CHANGE}
"""Variables beside `alert` and `rule` of alerts that are about many clients."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Names:
    """What the templates of one rule may read. Made by `names_of`, which returns the same object for the same arguments: compared by identity."""

    variables: Mapping[str, Shape]
    secrets: Mapping[str, Shape] | Anything = ANYTHING
    about: str = ""  # the trigger that is about many clients


@lru_cache(maxsize=1_000)
def names_of(
    *,
    columns: tuple[str, ...] | None = None,
    labels: tuple[str, ...] | None = (),
    secrets: tuple[str, ...] | None = None,
    feed_only: bool = False,
    about_many: str = "",
    key: tuple[str, ...] | None = None,
    any_trigger: bool = False,
    looks_back: bool = False,
) -> Names:
    """The names known to one rule's templates. `columns` (of the inventory), `labels`, `secrets` and `key`: None when they are not known.

    A rule of the trigger `feed` alone is about no client, so it has only `alert` and `rule`.
    `about_many`: `outage`, `quorum`, `schedule` or `group` for a rule whose alerts list many clients; only a group has a `client`, its first.
    `key`: what `alert.key` may have, by the `by` of the rule. `any_trigger`: the trigger is not known, so `alert` may have anything.
    `looks_back`: it is a roll call that has `over`.
    """
    known = ANYTHING if secrets is None else dict.fromkeys(secrets, TEXT)
    rule = _RULE if labels is None else {**_RULE, "labels": dict.fromkeys(labels, TEXT)}
    alert = _ALERT if key is None else {**_ALERT, "key": dict.fromkeys(key, TEXT)}
    if any_trigger:
        about_many, alert = "", ANYTHING
    elif feed_only:
        return Names(variables={"alert": alert, "rule": rule}, secrets=known)
    attributes: Shape = ANYTHING if columns is None else dict.fromkeys(columns, TEXT)
    if about_many:
        member = dict(_MEMBER)
        if looks_back or about_many in ("outage", "quorum"):
            member["flaps"] = NUMBER
        if looks_back:
            member["downtime"] = NUMBER
        alert = {**alert, "members": [{**member, "attributes": attributes}], "shared": attributes}
    if about_many == "outage":
        alert |= {"total": NUMBER, "back": NUMBER}
    if about_many in ("schedule", "quorum"):
        alert |= {"total": NUMBER}
    if about_many in _OF_MANY:
        known_here = {name: ABOUT_CLIENT[name] for name in _OF_MANY[about_many]}
        return Names(variables={**known_here, "alert": alert, "rule": rule}, secrets=known, about=about_many)
    client = {"id": TEXT, "group": TEXT, "device": TEXT, "ip": TEXT, "attributes": attributes}
    return Names(variables={**ABOUT_CLIENT, "client": client, "alert": alert, "rule": rule}, secrets=known)
