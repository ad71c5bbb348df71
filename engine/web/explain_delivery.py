"""Which gates the decision behind a delivery passed, in words: from the rule as it was when that was decided. Read `passed`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.core.rules import UNFLAPPABLE
from engine.core.times import rfc3339
from engine.stores.base import DeliveryRow

Object = dict[str, Any]


def passed(definition: str | None, row: DeliveryRow) -> list[Object]:
    """Each gate with what it said; empty when the rule as it was then is not kept any more."""
    if definition is None:
        return []
    return [{"gate": gate, "why": why} for gate, why in _gates(json.loads(definition), row)]


def _gates(rule: Mapping[str, Any], row: DeliveryRow) -> Iterator[tuple[str, str]]:
    triggers = _words(rule["trigger"])
    if row.phase == "summary":
        yield "burst", "it says that deliveries of the rule are held"
        return
    if row.phase == "recovery":
        yield "alert", "what was told is over, and this goes to whoever was told"
    else:
        yield from _way(rule, triggers, row)
    if row.phase == "reminder":
        yield "repeat", f"`repeat: {rule.get('repeat', '')}` was over, and nobody had acknowledged it"
    if rule.get("shadow"):
        yield "shadow", "the rule is a shadow rule: it is recorded and never sent"
    if row.state == "held":
        yield "burst", "stopped: the rule decided more than `deliveries.burst` in a minute; an operator decides"


def _way(rule: Mapping[str, Any], triggers: Sequence[str], row: DeliveryRow) -> Iterator[tuple[str, str]]:
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
            yield "mute", f"its windows let it speak: `{key}: {_shown(rule[key])}`"
    yield "silence", "no silence covered it"
    names = ", ".join(_words(rule.get("inhibited_by", ())))
    yield "inhibited", f"no outage inhibited it{f', nor did {names}' if names else ''}"
    if "throttle" in rule:
        yield "throttle", f"there was room: `throttle: {_shown(rule['throttle'])}`"
    if rule.get("verify"):
        failure = rule.get("verify_failure", "send")
        unless = " or nobody could say in time" if failure == "send" else ""
        yield "verify", f"the broker was asked and agreed{unless}"
    if "grouping" in rule:
        yield "grouping", f"it was told with its group: `grouping: {_shown(rule['grouping'])}`"


def _words(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
