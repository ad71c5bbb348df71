"""Why a rule has not fired for a client: every step of the way, in the order in which it is taken, each passed or not.

`why_not` walks the way of an alert: the rule is loaded, it matches the client, its trigger has happened, its `for` is over, its
condition holds, then the stages of the rule as `pipeline` has compiled them, its group, and what became of the alert. Steps after
the first that does not pass are asked all the same: they may be next. It changes nothing; the sentences are made elsewhere.
"""

from __future__ import annotations

from typing import Any, Final

from engine.core.alerting.alert import FIRING, PENDING, Alert
from engine.core.alerting.escalation import sent_steps
from engine.core.alerting.manager import AlertManager
from engine.core.alerting.outage_watch import OutageWatch
from engine.core.alerting.outages import Outage
from engine.core.alerting.quorums import QuorumWatch
from engine.core.alerting.stage_compiler import STAGES
from engine.core.alerting.stages.base import StageReport
from engine.core.alerting.triggers import STATUS_TRIGGERS
from engine.core.presence.client_state import NEVER, OFFLINE, ONLINE, STATUS_NAMES, ClientState
from engine.core.rules import Rule

RULE: Final = "rule"
MATCH: Final = "match"
TRIGGER: Final = "trigger"
FOR: Final = "for"
CONDITION: Final = "condition"
GROUPING: Final = "grouping"
ALERT: Final = "alert"

WAY: Final = (RULE, MATCH, TRIGGER, FOR, CONDITION, *STAGES, GROUPING, ALERT)
"""The names of all steps, in their order; those that a rule has no use for are left out."""


def why_not(manager: AlertManager, rule_name: str, client: str, state: ClientState, now_ms: int) -> list[StageReport]:
    """Every step between a client, whose state this is, and a firing of the rule. Empty for no rule of that name."""
    rule = manager.rules.get(rule_name)
    if rule is None:
        return []
    is_loaded = rule in manager.matcher.rules
    subject_of = client
    watch = manager.quorums.watches.get(rule_name)
    key = watch.key_if_counted(client, state) if watch is not None else None
    if key is not None:
        subject_of = f"\0{rule_name}\0{key}"  # the alert is about the client's key
    alerts = [alert for alert in manager.open_alerts.of(subject_of) if alert.rule == rule_name]
    alert = alerts[-1] if alerts else None
    outages = manager.outages.watches.get(rule_name)
    outage = outages.outage_about(client, state) if outages is not None else None
    if outage is not None:
        alert = manager.pipeline.inhibitors.alert_of(outage)
    subject = alert or _imagined(rule, client, state, now_ms)
    found = [
        StageReport(RULE, is_loaded, {"name": rule.name, "shadow": rule.shadow, "is_removed": not is_loaded}),
        StageReport(MATCH, rule in manager.matcher.plan(client, state.ip).rules, {"client": client, "ip": state.ip}),
        _trigger(rule, alert, state, manager) if watch is None else _quorum(rule, alert, state, watch, key),
    ]
    if outages is not None:
        found[-1] = _outage(rule, alert, client, state, outages, outage)
    if rule.for_ms:
        found.append(_for(rule, alert, state, now_ms))
    if rule.condition is not None:
        holds = rule.condition(manager.variables.of_alert(rule, subject, state, now_ms, rule.condition_names))
        found.append(StageReport(CONDITION, holds, {"text": rule.condition_text}))
    compiled = manager.pipeline.stages.of(rule_name)
    if compiled is not None:
        found += [stage.report(subject, state, now_ms) for stage in compiled.stages]
    group = manager.pipeline.groups.all.get((rule.name, alert.group or "")) if alert is not None else None
    if alert is not None and group is not None and not group.is_bundle:  # a bundle is notified as soon as it fires
        due_ms = group.due_at_ms
        found.append(StageReport(GROUPING, alert.notified, {"key": alert.group, "notified": alert.notified}, due_ms))
    found.append(_alert(alert, _steps(rule, alert, manager)))
    return found


def _trigger(rule: Rule, alert: Alert | None, state: ClientState, manager: AlertManager) -> StageReport:
    """Has the trigger happened? A hold that is not over is reported with its end."""
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
        until_ms = state.hold_since_ms + manager.variables.policy.hold_ms(state.client, state.observed)
    wanted = {"offline": OFFLINE, "online": ONLINE}
    has_happened = alert is not None or any(wanted.get(trigger) == state.settled for trigger in rule.triggers)
    # A rule fires at a transition: for a status that was settled before the rule was loaded, it waits for the next one.
    detail["has_alert"] = alert is not None
    return StageReport(TRIGGER, has_happened, detail, until_ms)


def _quorum(rule: Rule, alert: Alert | None, state: ClientState, watch: QuorumWatch, key: str | None) -> StageReport:
    """Are enough of the client's key offline, and has that opened an alert?"""
    down, total = watch.size(key) if key is not None else (0, 0)
    detail: dict[str, Any] = {"triggers": list(rule.triggers), "is_known": state.heard_ms != NEVER, "quorum_key": key}
    detail |= {"down": down, "total": total, "needed": watch.needed(total)}
    return StageReport(TRIGGER, alert is not None, detail)


def _outage(
    rule: Rule, alert: Alert | None, client: str, state: ClientState, watch: OutageWatch, outage: Outage | None
) -> StageReport:
    """Is there an outage of the client's key, and is the client in it?"""
    key = outage.key if outage is not None else watch.key_of(client, state.ip)
    counts = watch.counts.get(key) if key is not None else None
    detail: dict[str, Any] = {"triggers": list(rule.triggers), "is_known": state.heard_ms != NEVER, "outage_key": key}
    detail |= {
        "down": 0 if counts is None else len(counts.offline),
        "total": 0 if counts is None else counts.online + len(counts.offline),
    }
    terms = watch.terms
    detail |= {"at_least": terms.at_least, "percent": terms.percent, "within_ms": terms.within_ms}
    if outage is not None:
        detail |= {"down": outage.down, "total": outage.total, "is_member": outage.is_down(client)}
    return StageReport(TRIGGER, alert is not None, detail)


def _for(rule: Rule, alert: Alert | None, state: ClientState, now_ms: int) -> StageReport:
    """Is the rule's `for` over? It counts from the change that triggers the rule, the hold included, so before that it is not."""
    wanted = {"offline": OFFLINE, "online": ONLINE}
    statuses = [wanted[trigger] for trigger in rule.triggers if trigger in wanted]
    detail = {"for_ms": rule.for_ms, "since_ms": state.since_ms, "has_begun": True}
    if alert is not None:
        is_over, due_ms = alert.due_at_ms <= now_ms or alert.state != PENDING, alert.due_at_ms
    elif state.settled in statuses:
        due_ms = state.since_ms + rule.for_ms
        is_over = due_ms <= now_ms
    elif state.on_hold and state.observed in statuses:
        is_over, due_ms = False, state.hold_since_ms + rule.for_ms
    else:
        return StageReport(FOR, False, detail | {"has_begun": False}, None)
    return StageReport(FOR, is_over, detail, None if is_over else due_ms)


def _steps(rule: Rule, alert: Alert | None, manager: AlertManager) -> dict[str, Any]:
    """What the escalation of an alert has done, and when it goes on; nothing for a rule without steps."""
    escalation = manager.pipeline.escalations.of(alert) if alert is not None and rule.escalate else None
    if escalation is None:
        return {}
    sent = len(sent_steps(rule.escalate, escalation))
    return {"steps": len(rule.escalate), "steps_sent": sent, "step_due_ms": escalation.due_at_ms}


def _alert(alert: Alert | None, steps: dict[str, Any]) -> StageReport:
    """The alert that there is already: one that fires is no reason to fire again."""
    if alert is None:
        return StageReport(ALERT, True, {"state": None})
    detail = {
        "id": alert.id,
        "state": alert.state,
        "reason": alert.reason,
        "started_at_ms": alert.started_at_ms,
        "fired_at_ms": alert.fired_at_ms,
        "acknowledged": alert.acknowledged,
        "notified": alert.notified,
    } | steps
    return StageReport(ALERT, alert.state != FIRING, detail)


def _imagined(rule: Rule, client: str, state: ClientState, now_ms: int) -> Alert:
    """The alert that there would be, of the rule's first trigger that could be about the client's status."""
    status = STATUS_NAMES[state.settled]
    trigger = status if status in rule.triggers else rule.triggers[0]
    since_ms = state.since_ms if trigger in STATUS_TRIGGERS else now_ms
    return Alert(
        name="",
        rule=rule.name,
        client=client,
        source=None,
        trigger=trigger,
        started_at_ms=since_ms,
        due_at_ms=now_ms,
    )
