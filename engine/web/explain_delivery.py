"""The stages that a delivery's decision passed, in words, from the rule's definition at that time. Read `stages`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.core.rules import UNFLAPPABLE
from engine.core.times import rfc3339
from engine.stores.base import DeliveryRow

Object = dict[str, Any]


def stages(definition: str | None, row: DeliveryRow) -> list[Object]:
    """Each stage with what it decided; empty when the rule's definition at that time has expired (`definition` is None)."""
    if definition is None:
        return []
    return [{"gate": gate, "why": why} for gate, why in _reasons(json.loads(definition), row)]


def _reasons(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[tuple[str, str]]:
    triggers = _words(rule["trigger"])
    if row.phase == "summary":
        yield "burst", "it reports that deliveries of the rule are held"
        return
    if row.phase == "recovery":
        yield "alert", "the alert is over: its recovery goes to the recipients that got the firing"
    else:
        yield from _way_to_firing(rule, triggers, row)
    if row.phase == "reminder":
        yield "repeat", f"`repeat: {rule.get('repeat', '')}` was over, and the alert was not acknowledged"
    if rule.get("shadow"):
        yield "shadow", "the rule is a shadow rule: its deliveries are recorded and never sent"
    if row.state == "held":
        yield (
            "burst",
            "held: the rule decided more than `deliveries.burst` deliveries in a minute; an operator releases or discards it",
        )


def _way_to_firing(rule: Mapping[str, Any], triggers: Sequence[str], row: DeliveryRow) -> Iterator[tuple[str, str]]:
    about = row.client if row.client is not None else f"{row.group_key or 'several clients'}"
    if "match" in rule:
        yield "match", f"its match held for {about}: {_shown(rule['match'])}"
    yield "trigger", f"{' or '.join(triggers)} happened, decided at {rfc3339(row.decided_at_ms)}"
    if "for" in rule:
        yield "for", f"`for: {rule['for']}` was over"
    if "condition" in rule:
        yield "condition", f"the condition held: {rule['condition']}"
    if rule.get("flapping", "skip") == "skip" and not set(triggers) <= UNFLAPPABLE:
        yield "flapping", "the client was not flapping"
    for key in ("active", "mute"):
        if key in rule:
            yield "mute", f"not muted by a time interval: `{key}: {_shown(rule[key])}`"
    yield "silence", "no active silence matched it"
    names = ", ".join(_words(rule.get("inhibited_by", ())))
    yield "inhibited", f"not inhibited by an outage{f' or by {names}' if names else ''}"
    if "throttle" in rule:
        yield "throttle", f"the throttle was not full: `throttle: {_shown(rule['throttle'])}`"
    if rule.get("verify"):
        failure = rule.get("verify_failure", "send")
        unless = ", or gave no answer in time" if failure == "send" else ""
        yield "verify", f"the broker confirmed the status{unless}"
    if "grouping" in rule:
        yield "grouping", f"notified with its group: `grouping: {_shown(rule['grouping'])}`"


def _words(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
