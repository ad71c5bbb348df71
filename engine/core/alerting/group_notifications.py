"""What is sent of a group or a bundle: its lists, what follows them, and its recovery. When, is in `grouping` and `renotification`."""

from __future__ import annotations

from collections.abc import Sequence

from engine.core.alerting.alert import Alert
from engine.core.alerting.escalations import Escalations
from engine.core.alerting.grouping import Group
from engine.core.alerting.groups import Groups, limit_of, terms_of
from engine.core.alerting.notification import Notifier
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.planned_delivery import PHASE_FIRING, PHASE_RECOVERY
from engine.core.alerting.reminders import Reminders
from engine.core.rules import Rule, tells_recovery


class GroupNotifications:
    """Sends what a group has to say, and notes that it was sent."""

    def __init__(
        self,
        alerts: OpenAlerts,
        groups: Groups,
        notifier: Notifier,
        reminders: Reminders,
        escalations: Escalations,
    ) -> None:
        self._alerts = alerts
        self._groups = groups
        self._notifier = notifier
        self._reminders = reminders
        self._escalations = escalations

    def bundle(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        """These alerts fire together by one decision: their first list leaves at once."""
        oldest_first = sorted(alerts, key=_began)  # in whatever order they waited, which a restart may change
        group = self._groups.bundle(rule, oldest_first, at_ms)
        self.current(rule, group, oldest_first, at_ms)
        if not group.fires:  # all of them end in the instant they fire
            self._groups.close(group)

    def current(self, rule: Rule, group: Group, alerts: Sequence[Alert], at_ms: int) -> None:
        """Who fires now: the group's alerts, and what only passed through it."""
        subjects = [*group.passing, *group.clients]
        self._notifier.group(
            rule,
            group,
            PHASE_FIRING,
            at_ms,
            alerts=alerts,
            subjects=subjects,
            count=group.passed + len(group.clients),
            limit=limit_of(rule, group),
        )
        if rule.escalate and alerts:
            self._escalations.listed(rule, group, alerts, at_ms)
        for alert in alerts:
            if not alert.notified:
                alert.notified = True
                alert.notification_id = group.name
                self._alerts.changed(alert)
        group.sent_now(at_ms)
        self._alerts.out.groups[group.name] = group
        self._reminders.plan_group(rule, group, at_ms)
        self._groups.plan(group, terms_of(rule), at_ms)

    def again(self, rule: Rule, group: Group, phase: str, alerts: Sequence[Alert], at_ms: int) -> None:
        """These alerts of the group still fire: a reminder, a step of its escalation, or its acknowledgement."""
        subjects = list(dict.fromkeys([alert.subject for alert in alerts]))
        limit = limit_of(rule, group)
        count = len(subjects)
        self._notifier.group(rule, group, phase, at_ms, alerts=alerts, subjects=subjects, count=count, limit=limit)

    def recovery(self, rule: Rule, group: Group, at_ms: int, reason: str = "") -> None:
        """Nothing of it fires any more: a recovery about those who were sent last, if any were."""
        if group.sent and tells_recovery(rule):
            sent, limit = sorted(group.sent), limit_of(rule, group)
            self._notifier.group(
                rule,
                group,
                PHASE_RECOVERY,
                at_ms,
                alerts=(),
                subjects=sent,
                count=len(sent),
                limit=limit,
                reason=reason,
            )


def _began(alert: Alert) -> int:
    return alert.started_at_ms
