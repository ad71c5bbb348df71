"""Why a rule has not fired for a client: every gate on the way, in the order in which they are passed, each open or closed.

`why_not` reads the book and changes nothing; what it returns is put into words elsewhere. Steps of the way: the rule is loaded,
it matches the client, its trigger is met, its `for` is over, its condition holds, then the gates of `gates`, the throttle, the
verification, and what became of the alert. Gates after the first closed one are asked all the same: they may be next.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from engine.core.alerting.alert import Alert
from engine.core.alerting.gates import is_restless
from engine.core.alerting.happenings import STATUS_TRIGGERS
from engine.core.alerting.manager import AlertManager
from engine.core.presence.client_state import NEVER, OFFLINE, ONLINE, STATUS_NAMES, ClientState
from engine.core.rules import Rule
from engine.core.times import FOREVER

PATH: Final = (
    "rule", "match", "trigger", "for", "condition", "flapping", "mute", "silence", "inhibited", "throttle", "verify",
    "grouping", "alert",
)  # fmt: skip
"""The names of the gates, in their order; those that a rule has no use for are left out."""


class Gate(NamedTuple):
    """One gate on the way to a firing."""

    name: str  # one of PATH
    is_open: bool
    detail: dict[str, Any]  # what the words are made of: ids and names as plain values, instants in `_ms`
    until_ms: int | None = None  # when a closed one opens by itself at the earliest, as far as it is known


def why_not(book: AlertManager, rule_name: str, client: str, state: ClientState, now_ms: int) -> list[Gate]:
    """Every gate between a client, whose state this is, and a firing of the rule. Empty for no rule of that name."""
    rule = book.rules.get(rule_name)
    if rule is None:
        return []
    is_loaded = rule in book.matcher.rules
    found = [
        Gate("rule", is_loaded, {"name": rule.name, "shadow": rule.shadow, "is_removed": not is_loaded}),
        Gate("match", rule in book.matcher.plan(client, state.ip).rules, {"client": client, "ip": state.ip}),
    ]
    alerts = [alert for alert in book.active.get(client, ()) if alert.rule == rule_name]
    alert = alerts[-1] if alerts else None
    found.append(_trigger(rule, alert, state, book))
    if rule.for_ms:
        found.append(_for(rule, alert, state, now_ms))
    if rule.condition is not None:
        found.append(_condition(rule, alert, state, now_ms, book))
    found += _gates(book, rule, alert or _imagined(rule, client, state, now_ms), state, now_ms)
    if rule.grouping is not None and alert is not None and alert.group is not None:
        group = book.groups.get((rule.name, alert.group))
        due_ms = group.due_at_ms if group is not None else None
        found.append(Gate("grouping", alert.told, {"key": alert.group, "told": alert.told}, due_ms))
    found.append(_alert(alert))
    return found


def _trigger(rule: Rule, alert: Alert | None, state: ClientState, book: AlertManager) -> Gate:
    """Is what the rule is about the case? A hold that is not over is told with its end."""
    detail: dict[str, Any] = {
        "triggers": list(rule.triggers),
        "status": STATUS_NAMES[state.settled],
        "observed": STATUS_NAMES[state.observed],
        "since_ms": state.since_ms,
        "is_known": state.heard_ms != NEVER,
    }
    until_ms = None
    if state.on_hold:
        detail["hold_since_ms"] = state.hold_since_ms
        until_ms = state.hold_since_ms + book.policy.hold_ms(state.client, state.observed)
    wanted = {"offline": OFFLINE, "online": ONLINE}
    is_met = alert is not None or any(wanted.get(trigger) == state.settled for trigger in rule.triggers)
    # A rule fires at a transition: for a status that was settled before the rule was loaded, it waits for the next one.
    detail["has_alert"] = alert is not None
    return Gate("trigger", is_met, detail, until_ms)


def _for(rule: Rule, alert: Alert | None, state: ClientState, now_ms: int) -> Gate:
    due_ms = alert.due_at_ms if alert is not None else state.since_ms + rule.for_ms
    is_over = alert.state != "pending" or due_ms <= now_ms if alert is not None else due_ms <= now_ms
    return Gate("for", is_over, {"for_ms": rule.for_ms, "since_ms": state.since_ms}, None if is_over else due_ms)


def _condition(rule: Rule, alert: Alert | None, state: ClientState, now_ms: int, book: AlertManager) -> Gate:
    assert rule.condition is not None
    client = state.client
    about = alert or _imagined(rule, client, state, now_ms)
    holds = rule.condition(book.teller.variables(rule, about, state, now_ms, rule.condition_names))
    return Gate("condition", holds, {"text": rule.condition_text})


def _gates(book: AlertManager, rule: Rule, alert: Alert, state: ClientState, now_ms: int) -> list[Gate]:
    gates, found = book.gates, []
    if rule.flapping_skip:
        found.append(Gate("flapping", not is_restless(rule, alert, state), {"changes": list(state.changes)}))
    if rule.mute is not None or rule.active is not None:
        edge_ms = gates.window_edge(rule, now_ms)
        is_muted = gates.is_muted(rule, now_ms)
        found.append(Gate("mute", not is_muted, {}, edge_ms if is_muted and edge_ms < FOREVER else None))
    silence = gates.silences.open.get(gates.silence(alert, state, now_ms))
    if silence is not None:
        about = {"id": silence.id, "author": silence.author, "comment": silence.comment}
        found.append(Gate("silence", False, about, silence.until_ms))
    elif gates.silences.open:
        found.append(Gate("silence", True, {}))
    inhibitor = gates.inhibitor(rule, alert) if gates.inhibits else ""
    if inhibitor:
        found.append(Gate("inhibited", False, _about_inhibitor(book, alert, inhibitor)))
    elif rule.inhibited_by or gates.watches:
        found.append(Gate("inhibited", True, {"inhibited_by": list(rule.inhibited_by)}))
    if rule.throttle is not None:
        found.append(_throttle(book, rule, alert, state, now_ms))
    if rule.verify:
        is_closed = alert.verify_until_ms is not None or (alert.state == "suppressed" and alert.reason == "verify")
        found.append(Gate("verify", not is_closed, {"verified": alert.verified}, alert.verify_until_ms))
    return found


def _about_inhibitor(book: AlertManager, alert: Alert, inhibitor: str) -> dict[str, Any]:
    outage = book.gates.outages.get(inhibitor)
    if outage is not None:
        return {"rule": outage.rule, "key": outage.key, "down": outage.down, "total": outage.total}
    by = [other.rule for other in book.active.get(alert.client or "", ()) if other.name == inhibitor]
    return {"rule": by[0] if by else ""}


def _throttle(book: AlertManager, rule: Rule, alert: Alert, state: ClientState, now_ms: int) -> Gate:
    assert rule.throttle is not None
    key = book.throttling.key_of(rule, alert, state.ip, book.attributes)
    throttled = book.throttles.get((rule.name, key))
    firings = [at_ms for at_ms in throttled.firings if now_ms - at_ms < rule.throttle.per_ms] if throttled else []
    detail = {"key": key, "max": rule.throttle.max, "per_ms": rule.throttle.per_ms, "counted": len(firings)}
    is_open = alert.state == "firing" or len(firings) < rule.throttle.max
    until_ms = None if is_open else firings[-rule.throttle.max] + rule.throttle.per_ms
    return Gate("throttle", is_open, detail, until_ms)


def _alert(alert: Alert | None) -> Gate:
    """What there is already: a firing is no reason to fire again."""
    if alert is None:
        return Gate("alert", True, {"state": None})
    detail = {
        "id": alert.id,
        "state": alert.state,
        "reason": alert.reason,
        "started_at_ms": alert.started_at_ms,
        "fired_at_ms": alert.fired_at_ms,
        "acknowledged": alert.acknowledged,
        "told": alert.told,
    }
    return Gate("alert", alert.state != "firing", detail)


def _imagined(rule: Rule, client: str, state: ClientState, now_ms: int) -> Alert:
    """The alert that there would be, of the rule's first trigger that could be about the client's status."""
    status = STATUS_NAMES[state.settled]
    trigger = status if status in rule.triggers else rule.triggers[0]
    since_ms = state.since_ms if trigger in STATUS_TRIGGERS else now_ms
    return Alert("", rule.name, client, None, trigger, "pending", since_ms, now_ms)
