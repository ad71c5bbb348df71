"""What is sent after the first notification: a group's (or bundle's) next list or recovery, and reminders.

When a group is notified is in `grouping`, when a reminder is due in `reminders`. Read `Renotification.notify_group` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.grouping import Group
from engine.core.alerting.groups import terms_of
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.planned_delivery import PHASE_REMINDER
from engine.core.rules import Rule


class Renotification:
    """Acts on the timers of groups and reminders."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._alerts = pipeline.alerts
        self._groups = pipeline.groups
        self._notifier = pipeline.notifier
        self._notifications = pipeline.group_notifications
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
                group.remove(alert.subject)
                alert.group = None
            else:
                alerts.append(alert)
        if not group.fires:
            self._notifications.recovery(rule, group, at_ms)
            self._groups.close(group)
        elif group.differs:
            self._notifications.current(rule, group, alerts, at_ms)

    def retire_groups(self, name: str, at_ms: int) -> None:
        """The rule is gone and its alerts have ended: its groups that were sent get their recovery."""
        rule = self._pipeline.rules.get(name)
        for group in self._groups.of_rule(name):
            if rule is not None:
                self._notifications.recovery(rule, group, at_ms, "rule_removed")
            self._groups.close(group)

    # Reminders

    def remind(self, item: Alert | Group, at_ms: int) -> None:
        """A reminder is due."""
        if isinstance(item, Group):
            self._remind_of_group(item, at_ms)
            return
        rule = self._pipeline.rules.get(item.rule)
        if rule is None:
            return
        if not rule.repeat_ms:
            item.remind_at_ms = None
            return
        if self._pipeline.may_remind(item, at_ms):
            self._notifier.one(rule, item, PHASE_REMINDER, at_ms, self._pipeline.state_of_subject(item))
        self._reminders.plan(rule, item, at_ms)

    def _remind_of_group(self, group: Group, at_ms: int) -> None:
        rule = self._pipeline.rules.get(group.rule)
        if rule is None:
            return
        self._alerts.out.groups[group.name] = group
        waiting = [alert for alert in self._groups.firing(group) if alert.notified and not alert.acknowledged]
        alerts = [alert for alert in waiting if self._pipeline.may_remind(alert, at_ms)]
        if alerts:
            self._notifications.again(rule, group, PHASE_REMINDER, alerts, at_ms)
        group.remind_at_ms = None
        if waiting:
            self._reminders.plan_group(rule, group, at_ms)

    def begin_reminders(self, rules: Iterable[Rule], now_ms: int) -> None:
        """These rules have `repeat` from now on: what fires already is reminded of as well."""
        for rule in rules:
            for alert in self._alerts.of_rule(rule.name):
                if alert.state == FIRING and not alert.acknowledged and alert.group is None:
                    self._reminders.plan(rule, alert, now_ms)
            for group in self._groups.of_rule(rule.name):
                if group.sent:
                    self._reminders.plan_group(rule, group, now_ms)
                    self._alerts.out.groups[group.name] = group

    # After a restart

    def restore(self, groups: Iterable[Group], alerts: Sequence[Alert], base_ms: int) -> None:
        """Groups and reminders as they were kept, at about `base_ms`."""
        self._groups.restore(groups)
        self._reminders.clear()
        for alert in alerts:
            if alert.state != FIRING:
                continue
            if alert.group is not None:
                self._groups.add_restored(alert)
            elif alert.remind_at_ms is not None:
                self._reminders.push(alert.remind_at_ms, alert)
        for group in self._groups.all.values():
            group.restored()
            self._groups.plan(group, terms_of(self._pipeline.rules.get(group.rule)), base_ms)
            if group.remind_at_ms is not None:
                self._reminders.push_group(group.remind_at_ms, group)
