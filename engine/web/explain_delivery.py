"""The stages that a delivery's decision passed, in words, from the rule's definition at that time. Read `stages`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from engine.core.alerting.explain import WAY
from engine.core.rules import UNFLAPPABLE, WITHOUT_CLIENTS
from engine.core.times import rfc3339
from engine.stores.base import DeliveryRow

Object = dict[str, Any]

NAMES_NO_CLIENT: Final = WITHOUT_CLIENTS | {"outage", "quorum", "schedule"}
"""Triggers whose deliveries name no client, be they in a bundle or not."""


def stages(definition: str | None, row: DeliveryRow) -> list[Object]:
    """Each stage with what it decided; empty when the rule's definition at that time has expired (`definition` is None)."""
    if definition is None:
        return []
    return [{"gate": gate, "why": why} for gate, why in _reasons(json.loads(definition), row)]


def _reasons(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[tuple[str, str]]:
    if row.phase == "summary":
        yield "burst", "this is the summary: it reports that deliveries of the rule are held"
        return
    if row.phase == "acknowledged":
        yield "alert", "an operator acknowledged it: the receivers of the firing get the acknowledgement"
    elif row.phase == "recovery":
        yield "alert", "the alert was resolved: its recovery goes to the recipients that got the firing"
    else:
        yield from _way_to_firing(rule, row)
    if row.phase == "reminder":
        yield "repeat", f"`repeat: {rule.get('repeat', '')}` was over, and the alert was not acknowledged"
    if row.phase == "escalation":
        steps = ", ".join(str(step.get("after")) for step in rule.get("escalate", ()))
        yield "escalate", f"a step of `escalate` (after {steps}) was due, and the alert was not acknowledged"
    if rule.get("shadow"):
        yield "shadow", "the rule is a shadow rule: its deliveries are recorded and never sent"
    if row.state == "held":
        yield (
            "burst",
            "held: the rule decided more than `deliveries.burst` deliveries in a minute; an operator releases or discards it",
        )


def _way_to_firing(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[tuple[str, str]]:
    """What each step said, in the order in which the core takes them."""
    for step in WAY:
        for why in PASSED[step](rule, row):
            yield step, why


def _match(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    if "match" in rule:
        about = row.client if row.client is not None else f"{row.group_key or 'several clients'}"
        yield f"its match included {about}: {_shown(rule['match'])}"


def _trigger(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    yield f"{' or '.join(_words(rule['trigger']))} happened, decided at {rfc3339(row.decided_at_ms)}"


def _for(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    if "for" in rule:
        yield f"`for: {rule['for']}` was over"


def _condition(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    if "condition" in rule:
        yield f"the condition was true: {rule['condition']}"


def _flapping(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    if rule.get("flapping", "skip") == "skip" and not set(_words(rule["trigger"])) <= UNFLAPPABLE:
        yield "the client was not flapping"


def _mute(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    for key in ("active", "mute"):
        if key in rule:
            yield f"not muted by a time interval: `{key}: {_shown(rule[key])}`"


def _silence(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    yield "no active silence matched it"


def _inhibited(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    written = rule.get("inhibited_by", ())
    entries = written if isinstance(written, list) else [written] if written else []
    names = ", ".join(one if isinstance(one, str) else str(one.get("rule", "")) for one in entries)
    yield f"not inhibited by an outage{f' or by {names}' if names else ''}"


def _throttle(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    if "throttle" in rule:
        yield f"the throttle was not full: `throttle: {_shown(rule['throttle'])}`"


def _verify(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    if rule.get("verify"):
        unless = ", or gave no answer in time" if rule.get("verify_failure", "send") == "send" else ""
        yield f"the broker confirmed the status{unless}"


def _grouping(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    if "grouping" in rule:
        yield f"notified with its group: `grouping: {_shown(rule['grouping'])}`"
    elif row.client is None and not set(_words(rule["trigger"])) & NAMES_NO_CLIENT:
        yield "notified as a bundle: its alerts fired together because one thing ended"


def _nothing(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[str]:
    """A step that goes without saying for a delivery that there is."""
    return iter(())


PASSED: Mapping[str, Callable[[Mapping[str, Any], DeliveryRow], Iterator[str]]] = {
    "rule": _nothing,
    "match": _match,
    "trigger": _trigger,
    "for": _for,
    "condition": _condition,
    "flapping": _flapping,
    "mute": _mute,
    "silence": _silence,
    "inhibited": _inhibited,
    "throttle": _throttle,
    "verify": _verify,
    "grouping": _grouping,
    "alert": _nothing,
}
"""What each step of `core.alerting.explain.WAY` said: (the rule's definition, the delivery) -> sentences."""


def _words(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
