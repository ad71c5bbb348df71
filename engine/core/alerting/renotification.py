"""What is sent after the first notification: a group's next list or recovery, and reminders.

When a group is notified is in `grouping`, when a reminder is due in `reminders`. Read `Renotification.notify_group` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.grouping import Group
from engine.core.alerting.groups import terms_of
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.planned_delivery import PHASE_FIRING, PHASE_RECOVERY, PHASE_REMINDER
from engine.core.alerting.reminders import Reminder, is_reminded_of
from engine.core.rules import Rule, tells_recovery


class Renotification:
    """Acts on the timers of groups and reminders."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._alerts = pipeline.alerts
        self._groups = pipeline.groups
        self._notifier = pipeline.notifier
        self._reminders = pipeline.reminders

    # Groups

    def notify_group(self, group: Group, at_ms: int) -> None:
        """A group's delivery is due.

        Steps: what fires and was not in a notification yet may have met a stage since; then the list, or the recovery, or nothing.
        """
        group.due_at_ms = None
        rule = self._pipeline.rules.get(group.rule)
        if rule is None:
            self._groups.close(group)
            return
        alerts = []
        for alert in self._groups.firing(group):
            if not alert.notified and self._pipeline.suppressed_after_firing(alert, at_ms):
                group.remove(alert.client or "")
                alert.group = None
            else:
                alerts.append(alert)
        if not group.fires:
            self._send_recovery(rule, group, at_ms)
            self._groups.close(group)
        elif group.differs:
            self._send_list(rule, group, alerts, at_ms)

    def _send_recovery(self, rule: Rule, group: Group, at_ms: int, reason: str = "") -> None:
        if group.sent and tells_recovery(rule):
            sent, limit = sorted(group.sent), terms_of(rule).limit
            self._notifier.group(
                rule,
                group,
                PHASE_RECOVERY,
                at_ms,
                first=None,
                clients=sent,
                count=len(sent),
                limit=limit,
                reason=reason,
            )

    def _send_list(self, rule: Rule, group: Group, alerts: Sequence[Alert], at_ms: int) -> None:
        clients = [*group.passing, *group.clients]
        count = group.passed + len(group.clients)
        first = alerts[0] if alerts and not group.passing else None
        terms = terms_of(rule)
        self._notifier.group(
            rule, group, PHASE_FIRING, at_ms, first=first, clients=clients, count=count, limit=terms.limit
        )
        if rule.escalate and alerts:
            self._pipeline.escalations.listed(rule, group, alerts, at_ms)
        for alert in alerts:
            if not alert.notified:
                alert.notified = True
                alert.notification_id = group.name
                self._alerts.changed(alert)
        group.sent_now(at_ms)
        self._alerts.out.groups[group.name] = group
        self._reminders.plan_group(rule, group, at_ms)
        self._groups.plan(group, terms, at_ms)

    def retire_groups(self, name: str, at_ms: int) -> None:
        """The rule is gone and its alerts have ended: its groups that were sent get their recovery."""
        rule = self._pipeline.rules.get(name)
        for group in self._groups.of_rule(name):
            if rule is not None:
                self._send_recovery(rule, group, at_ms, "rule_removed")
            self._groups.close(group)

    # Reminders

    def remind(self, item: Reminder | Group, at_ms: int) -> None:
        """A reminder is due."""
        if isinstance(item, Group):
            self._remind_of_group(item, at_ms)
            return
        alerts = [alert for alert in item.alerts if is_reminded_of(alert)]
        rule = self._pipeline.rules.get(alerts[0].rule) if alerts else None
        if rule is None:
            return
        if not rule.repeat_ms:
            for alert in alerts:
                alert.remind_at_ms = None
            return
        listed = [alert for alert in alerts if self._pipeline.may_remind(alert, at_ms)]
        if len(listed) == 1:
            state = self._pipeline.state_of_subject(listed[0])
            self._notifier.one(rule, listed[0], PHASE_REMINDER, at_ms, state)
        elif listed:
            self._notifier.together(rule, listed, PHASE_REMINDER, at_ms)
        self._reminders.plan(rule, alerts, at_ms)

    def _remind_of_group(self, group: Group, at_ms: int) -> None:
        rule = self._pipeline.rules.get(group.rule)
        if rule is None:
            return
        self._alerts.out.groups[group.name] = group
        waiting = [alert for alert in self._groups.firing(group) if alert.notified and not alert.acknowledged]
        alerts = [alert for alert in waiting if self._pipeline.may_remind(alert, at_ms)]
        if alerts:
            clients = list(dict.fromkeys([alert.client or "" for alert in alerts]))
            limit = terms_of(rule).limit
            self._notifier.group(
                rule, group, PHASE_REMINDER, at_ms, first=alerts[0], clients=clients, count=len(clients), limit=limit
            )
        group.remind_at_ms = None
        if waiting:
            self._reminders.plan_group(rule, group, at_ms)

    def begin_reminders(self, rules: Iterable[Rule], now_ms: int) -> None:
        """These rules have `repeat` from now on: what fires already is reminded of as well."""
        for rule in rules:
            for alert in self._alerts.of_rule(rule.name):
                if alert.state == FIRING and not alert.acknowledged and alert.group is None:
                    self._reminders.plan(rule, [alert], now_ms)
            for group in self._groups.of_rule(rule.name):
                if group.sent:
                    self._reminders.plan_group(rule, group, now_ms)
                    self._alerts.out.groups[group.name] = group

    # After a restart

    def restore(self, groups: Iterable[Group], alerts: Sequence[Alert], base_ms: int) -> None:
        """Groups and reminders as they were kept, at about `base_ms`."""
        self._groups.restore(groups)
        self._reminders.clear()
        batches: dict[tuple[str, str, int], list[Alert]] = {}
        for alert in alerts:
            if alert.state != FIRING:
                continue
            if alert.group is not None:
                self._groups.add_restored(alert)
            elif alert.remind_at_ms is not None:
                id_ = alert.notification_id or alert.name
                batches.setdefault((alert.rule, id_, alert.remind_at_ms), []).append(alert)
        for (_, _, due_ms), batch in batches.items():
            self._reminders.push(due_ms, batch)
        for group in self._groups.all.values():
            self._groups.plan(group, terms_of(self._pipeline.rules.get(group.rule)), base_ms)
            if group.remind_at_ms is not None:
                self._reminders.timers.push(group.remind_at_ms, group)
