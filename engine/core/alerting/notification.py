"""Notifications: from what was decided about alerts to the deliveries of a rule's actions.

One alert has a notification of its own; a group, a bundle and an outage have one with a list. What one rule says of one client,
throttle key, group or outage stays in one lane, so that no recovery overtakes its firing. Which deliveries a notification has is in
`delivery_plan`. Read `Notifier.one` first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine.core.alerting import bundles
from engine.core.alerting.alert import FIRING, RESOLVED, Alert
from engine.core.alerting.delivery_plan import Notification, delivery_of, planned
from engine.core.alerting.escalation import number_of_latest
from engine.core.alerting.escalations import Escalations
from engine.core.alerting.grouping import Group
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.planned_delivery import (
    PHASE_ACKNOWLEDGED,
    PHASE_ESCALATION,
    PHASE_FIRING,
    PHASE_RECOVERY,
    PHASE_SUMMARY,
    PHASE_UPDATE,
    PlannedDelivery,
    delivery_key,
    stamped,
)
from engine.core.alerting.rate_limit import Burst, RateLimits
from engine.core.alerting.routing import NOTIFY, Routing
from engine.core.alerting.template_variables import NO_NAMES, VariableSource, rule_variables
from engine.core.keys import key_values
from engine.core.presence.client_state import NEW_CLIENT, ClientState, Transition
from engine.core.rules import UNDELIVERED, Action, Rule


class Notifier:
    """Makes notifications and their deliveries, which it adds to the output of the step."""

    def __init__(
        self,
        alerts: OpenAlerts,
        variables: VariableSource,
        state_of: Callable[[str], ClientState],
        rate_limits: RateLimits,
        routing: Routing,
        escalations: Escalations,
    ) -> None:
        self.names: dict[str, frozenset[str]] = {}  # of each rule: the costly names that its templates read
        self._alerts = alerts
        self._variables = variables
        self._state_of = state_of
        self._rate_limits = rate_limits
        self._escalations = escalations
        self._routing = routing

    def one(
        self,
        rule: Rule,
        alert: Alert,
        phase: str,
        at_ms: int,
        state: ClientState,
        transition: Transition | None = None,
    ) -> None:
        """One alert's firing, reminder or recovery."""
        variables = self._variables.of_alert(rule, alert, state, at_ms, self._names_of(rule), transition)
        variables["alert"]["phase"] = phase
        notification = Notification(
            # A recovery carries the id of its firing, whose fate it shares when that never arrived.
            id=alert.notification_id or alert.id,
            decision=alert.id,
            lane=_lane(alert),
            variables=variables,
            client=alert.client,
            key=alert.shown_key,
            clients=tuple(variables["alert"]["clients"]) if alert.key is not None else None,
            first_sent_ms=alert.fired_at_ms,
            decided_ms=alert.decided_ms,
        )
        self._deliver(rule, phase, notification, at_ms)

    def tell_anew(self, rules: Mapping[str, Rule], alerts: Mapping[str, Alert], at_ms: int) -> None:
        """Firings of this instant, by their ids, are about more clients than when they were decided: what they say is made anew."""
        out = self._alerts.out
        renewed: dict[str, PlannedDelivery] = {}  # by key
        for number, one in enumerate(out.deliveries):
            alert, rule = alerts.get(one.alert), rules.get(one.rule.name)
            if alert is not None and rule is not None and one.phase == PHASE_FIRING and one.at_ms == at_ms:
                variables = self._variables.of_alert(rule, alert, NEW_CLIENT, at_ms, self._names_of(rule))
                clients = tuple(variables["alert"]["clients"])
                out.deliveries[number] = renewed[one.key] = one.evolve(variables=variables, clients=clients)
        for number, line in enumerate(out.lines if renewed else ()):
            if isinstance(line, PlannedDelivery):
                out.lines[number] = renewed.get(line.key, line)

    def group(
        self,
        rule: Rule,
        group: Group,
        phase: str,
        at_ms: int,
        *,
        alerts: Sequence[Alert],
        subjects: Sequence[str],
        count: int,
        limit: int,
        reason: str = "",
    ) -> None:
        """A group's notification: `subjects` (of alerts) in the order in which they are listed, `alerts` those that fire."""
        is_recovery = phase == PHASE_RECOVERY
        is_listed = group.is_bundle or phase != PHASE_FIRING or not group.passing  # else the list begins with others
        first = alerts[0] if alerts and is_listed else None
        keyed: list[dict[str, Any]] = []  # what each alert about a key says
        listed = tuple(subjects[:limit])
        if group.is_bundle:
            keyed = [self._of_key(rule, alert, at_ms) for alert in alerts if alert.key is not None]
            listed = tuple(bundles.clients_in(subjects, keyed)[:limit])
        client = first.client if first is not None else listed[0] if listed else None
        transition = first.transition if first is not None else None
        variables = self._variables.of_group(rule, client, transition, at_ms, self._names_of(rule))
        key = bundles.key_of(group.key, subjects) if group.is_bundle else key_values(group.key)
        ended_at_ms = at_ms if is_recovery else None
        trigger = first.trigger if first is not None else rule.triggers[0]
        alert = self._variables.alert_mapping(
            group.name, RESOLVED if is_recovery else FIRING, group.first_ms, at_ms, ended_at_ms, reason, trigger
        )
        alert |= self._variables.of_several(listed) | {"count": count, "key": key}
        if group.is_bundle:
            alert |= bundles.about_sources(subjects, alerts)
            alert |= bundles.about_keys(keyed, group.ended if is_recovery else [])
        alert["unverified"] = first is not None and first.verified == "failed"
        alert["acknowledged_by"] = first.acknowledged_by if first is not None else ""
        alert["phase"] = PHASE_UPDATE if phase == PHASE_FIRING and group.sent_at_ms is not None else phase
        variables["alert"] = alert
        notification = Notification(
            id=group.name,
            decision=group.name,
            lane=group.lane,
            variables=variables,
            key=key,
            clients=listed,
            first_sent_ms=group.sent_at_ms,
        )
        self._deliver(rule, phase, notification, at_ms)

    def _of_key(self, rule: Rule, alert: Alert, at_ms: int) -> dict[str, Any]:
        shown: dict[str, Any] = self._variables.of_alert(rule, alert, NEW_CLIENT, at_ms, self._names_of(rule))["alert"]
        return shown

    def rate_limited(self, rule: Rule | None, burst: Burst, at_ms: int) -> None:
        """Deliveries of a rule are held by `deliveries.burst`: one delivery, by its first action, is to say so."""
        burst.is_announced = True
        out = self._alerts.out
        out.bursts[burst.rule] = burst
        if rule is None or not rule.actions:
            return
        id_ = stamped(at_ms, self._alerts.in_era(f"burst\0{rule.name}\0{at_ms}"))
        alert = self._variables.alert_mapping(id_, "held", at_ms, at_ms, None, "burst", rule.triggers[0])
        alert |= {"count": burst.held, "limit": self._rate_limits.limit, "clients": [], "phase": PHASE_SUMMARY}
        summary = PlannedDelivery(
            key=stamped(at_ms, f"{id_}\0{PHASE_SUMMARY}"),
            rule=rule,
            action=rule.actions[0],
            phase=PHASE_SUMMARY,
            client=None,
            group_key={},
            clients=(),
            alert=id_,
            lane=f"{rule.name}\nburst",
            at_ms=at_ms,
            variables={"client": None, "rule": rule_variables(rule), "alert": alert},
        )
        if summary.action.kind == NOTIFY:
            summary = self._addressed(summary)
        out.lines.append(summary)
        out.deliveries.append(summary)

    def _names_of(self, rule: Rule) -> frozenset[str]:
        return self.names.get(rule.name, NO_NAMES)

    def _deliver(self, rule: Rule, phase: str, notification: Notification, at_ms: int) -> None:
        limits, out = self._rate_limits, self._alerts.out
        burst = limits.of(rule.name) if not rule.shadow else None
        escalation = self._escalations.all.get(notification.id)
        if phase == PHASE_ESCALATION and escalation is not None:
            notification.variables["alert"]["escalation"] = number_of_latest(rule.escalate, escalation)
        found = planned(rule, phase, notification, at_ms, burst, limits.limit, self._alerts.era, escalation)
        if any(one.action.kind == NOTIFY for one in found):
            found = self._all_addressed(found)
        if phase in _ONCE:
            found = self._to_those_who_got_it(rule, phase, notification, found, at_ms)
        about = notification.variables["alert"]
        if about.get("trigger") == UNDELIVERED:
            targets = (about.get("key") or {}).get("target", "").split(", ")
            found = [one for one in found if self._routing.target_of(one.action) not in targets]
        out.lines.extend(found)
        out.deliveries.extend(found)
        if burst is not None and found:
            out.bursts[rule.name] = burst
            if burst.held and not burst.is_announced:
                limits.timers.push(at_ms, burst)

    def _all_addressed(self, planned: Sequence[PlannedDelivery]) -> list[PlannedDelivery]:
        """The same deliveries, each to its receiver.

        One that a route chooses beside its own name gets only one of a list. And each gets one recovery of each list, and one acknowledgement of
        the rule and all its steps.
        """
        found = []
        by_route: dict[tuple[int, str], bool] = {}  # list and receiver -> did a route choose it?
        for one in planned:
            addressed = self._addressed(one) if one.action.kind == NOTIFY else one
            if one.action.kind == NOTIFY:
                receiver: str = addressed.action.spec["receiver"]
                is_by_route = "via" in addressed.action.spec
                place = (0 if one.phase == PHASE_ACKNOWLEDGED else one.part, receiver)
                is_again = place in by_route and (is_by_route or by_route[place] or one.phase in _ONCE)
                if receiver and is_again:
                    continue
                by_route[place] = is_by_route
            found.append(addressed)
        return found

    def _to_those_who_got_it(
        self, rule: Rule, phase: str, notification: Notification, found: list[PlannedDelivery], at_ms: int
    ) -> list[PlannedDelivery]:
        """The same deliveries, unless an edit has replaced receivers since the firing: then those who got it, not who did not."""
        left_out = self._routing.left_out(notification.id, rule)
        if not left_out:
            return found
        lists = [rule.actions, *[step.actions for step in rule.escalate]]
        told = {action.spec["receiver"] for actions in lists for action in actions if action.kind == NOTIFY}
        kept = [
            one
            for one in found
            if one.action.kind != NOTIFY
            or one.action.spec["receiver"] not in told
            or self._routing.got(notification.id, one.action.spec["receiver"])
        ]
        for receiver in left_out:
            decision = f"{notification.decision}\0{self._alerts.era}\0{receiver}"
            action = Action(kind=NOTIFY, spec={"receiver": receiver})
            key = delivery_key(notification.key_ms(phase, at_ms), decision, phase, 0, NOTIFY)
            kept.append(delivery_of(rule, action, phase, notification, at_ms, key))
        return kept

    def _addressed(self, planned: PlannedDelivery) -> PlannedDelivery:
        """The delivery to the receiver that a route decides; to the very one that its action names, when that is no route."""
        action = self._routing.addressed(planned)
        return planned if action is planned.action else planned.evolve(action=action)


_ONCE: Final = frozenset({PHASE_RECOVERY, PHASE_ACKNOWLEDGED})
"""Phases in which no list speaks twice to a receiver, however many of its actions name it."""


def _lane(alert: Alert) -> str:
    # A throttled rule may speak of many clients at once, so all it says to one throttle key stays in one order.
    return alert.throttle_key or alert.notification_id or alert.subject
