"""What is told again or told together: groups of alerts, reminders, and who has acknowledged what.

A reminder leaves `repeat` after an alert's last delivery, while it fires and nobody has acknowledged it. One whose instant
comes while a gate is closed (`mute`, `silence`, `inhibited`) is left out, and the next is due `repeat` later. Alerts told
together are reminded of together. A group is reminded of as a whole. Read `Retelling.pass_group` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.core.alerting.alert import Alert
from engine.core.alerting.grouping import Group
from engine.core.alerting.planning import FIRING, RECOVERY, REMINDER
from engine.core.alerting.verifying import Verifying
from engine.core.keys import key_text, values_of
from engine.core.rules import AT_ONCE, Grouping, Rule
from engine.core.timers import TimerQueue


class Reminder:
    """Alerts that were told by one delivery, to be told again."""

    __slots__ = ("alerts",)

    def __init__(self, alerts: Sequence[Alert]) -> None:
        self.alerts = alerts


class Retelling(Verifying):
    """The ledger's groups and reminders."""

    def _prepare(self) -> None:
        super()._prepare()
        self.groups: dict[tuple[str, str], Group] = {}  # by rule and key
        self.group_deliveries = TimerQueue(self.alarm, _is_group_due)
        self.reminders = TimerQueue(self.alarm, _is_reminder_due)
        # Nobody is to be reminded of a device whose reconnect is waiting to be read; of a dead feed, at once.
        self.silent_reminders = TimerQueue(self.alarm, _is_reminder_due, silent=True)

    # Groups

    def _enter_group(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        grouping = rule.grouping or Grouping()
        for alert in alerts:
            client = alert.client or ""
            values = values_of(grouping.by, client, self._subject_state(alert).ip, self.teller.attributes(client))
            key = key_text(values)
            group = self.groups.get((rule.name, key))
            if group is None:
                group = self.groups[rule.name, key] = Group(rule.name, key, at_ms)
                self.out.groups[group.name] = group
            if alert.trigger in AT_ONCE:
                group.pass_through(client, grouping.limit)
                self.out.groups[group.name] = group
            else:
                alert.group = key
                group.add(client)
            self._plan_group(group, grouping, at_ms)

    def _leave_group(self, alert: Alert, at_ms: int) -> None:
        group = self.groups.get((alert.rule, alert.group or ""))
        if group is not None and alert.fired_at_ms is not None:
            group.remove(alert.client or "")
            rule = self.rules.get(alert.rule)
            self._plan_group(group, (rule.grouping if rule is not None else None) or Grouping(), at_ms)

    def _plan_group(self, group: Group, grouping: Grouping, at_ms: int) -> None:
        """Note when the group has something to tell, if it has."""
        due_ms = group.next_due(at_ms, grouping.wait_ms, grouping.interval_ms)
        if due_ms is None:
            group.due_at_ms = None
        elif group.due_at_ms is None:
            group.due_at_ms = due_ms
            self.group_deliveries.push(due_ms, group)

    def _alerts_of(self, group: Group) -> list[Alert]:
        """The group's alerts that fire, in the order in which their clients began to."""
        return [
            alert
            for client in group.clients
            for alert in self.active.get(client, ())
            if alert.rule == group.rule and alert.group == group.key and alert.state == "firing"
        ]

    def pass_group(self, at_ms: int) -> None:
        """A group's delivery is due.

        Steps: what fires and was not told yet may have met a gate since; then the list, or the recovery, or nothing.
        """
        group: Group = self.group_deliveries.pop(at_ms)
        group.due_at_ms = None
        rule = self.rules.get(group.rule)
        if rule is None:
            self._close_group(group)
            return
        grouping = rule.grouping or Grouping()
        alerts = []
        for alert in self._alerts_of(group):
            reason, holder = "", ""
            if not alert.told:
                reason, holder = self.gates.quiet(rule, alert, self._subject_state(alert), at_ms)
            if reason:
                group.remove(alert.client or "")
                alert.group = None
                self._hold(rule, alert, reason, holder, at_ms)
            else:
                alerts.append(alert)
        if not group.fires:
            if group.sent and rule.on_recovery:
                sent = sorted(group.sent)
                self.teller.group(self.out, rule, group, None, sent, len(sent), grouping.limit, RECOVERY, at_ms)
            self._close_group(group)
        elif group.differs:
            self._tell_group(rule, grouping, group, alerts, at_ms)

    def _tell_group(self, rule: Rule, grouping: Grouping, group: Group, alerts: list[Alert], at_ms: int) -> None:
        clients = [*group.passing, *group.clients]
        count = group.passed + len(group.clients)
        first = alerts[0] if alerts and not group.passing else None
        self.teller.group(self.out, rule, group, first, clients, count, grouping.limit, FIRING, at_ms)
        for alert in alerts:
            if not alert.told:
                alert.told = True
                alert.notification_id = group.name
                self.out.alerts[alert.name] = alert
        group.told(at_ms)
        self.out.groups[group.name] = group
        self._remind_group_later(rule, group, at_ms)
        self._plan_group(group, grouping, at_ms)

    def _remind_group_later(self, rule: Rule, group: Group, at_ms: int) -> None:
        group.remind_at_ms = None
        if rule.repeat_ms and group.clients:
            group.remind_at_ms = at_ms + rule.repeat_ms
            self.silent_reminders.push(group.remind_at_ms, group)

    def _remind_group(self, group: Group, at_ms: int) -> None:
        rule = self.rules.get(group.rule)
        if rule is None:
            return
        self.out.groups[group.name] = group
        waiting = [alert for alert in self._alerts_of(group) if alert.told and not alert.acknowledged]
        alerts = [alert for alert in waiting if self._may_say(rule, alert, at_ms)]
        if alerts:
            limit = (rule.grouping or Grouping()).limit
            clients = list(dict.fromkeys([alert.client or "" for alert in alerts]))
            self.teller.group(self.out, rule, group, alerts[0], clients, len(clients), limit, REMINDER, at_ms)
        group.remind_at_ms = None
        if waiting:
            self._remind_group_later(rule, group, at_ms)

    def _close_group(self, group: Group) -> None:
        group.is_closed = True
        self.groups.pop((group.rule, group.key), None)
        self.out.groups[group.name] = group

    def _retire_groups(self, name: str, at_ms: int) -> None:
        """The rule is gone and its alerts have ended: what its groups told is over now."""
        rule = self.rules.get(name)
        for group in [group for group in self.groups.values() if group.rule == name]:
            if rule is not None and group.sent and rule.on_recovery:
                limit = (rule.grouping or Grouping()).limit
                sent = sorted(group.sent)
                self.teller.group(
                    self.out, rule, group, None, sent, len(sent), limit, RECOVERY, at_ms, reason="rule_removed"
                )
            self._close_group(group)

    # Reminders

    def _await_reminder(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        lasting = [alert for alert in alerts if alert.trigger not in AT_ONCE]
        if not lasting:
            return
        due_ms = at_ms + rule.repeat_ms
        for alert in lasting:
            alert.remind_at_ms = due_ms
            self.out.alerts[alert.name] = alert
        self._push_reminder(due_ms, lasting)

    def _remind_of(self, rules: Iterable[Rule], now_ms: int) -> None:
        """These rules repeat from now on: so do they what fires already."""
        for rule in rules:
            for alerts in self.active.values():
                for alert in alerts:
                    fires = alert.rule == rule.name and alert.state == "firing" and not alert.acknowledged
                    if fires and alert.group is None:
                        self._await_reminder(rule, [alert], now_ms)
            for group in self.groups.values():
                if group.rule == rule.name and group.sent:
                    self._remind_group_later(rule, group, now_ms)
                    self.out.groups[group.name] = group

    def _push_reminder(self, due_ms: int, alerts: Sequence[Alert]) -> None:
        agenda = self.reminders if alerts[0].source is not None else self.silent_reminders
        agenda.push(due_ms, Reminder(alerts))

    def pass_reminder(self, at_ms: int, *, silent: bool) -> None:
        """Somebody is to be told again."""
        item = (self.silent_reminders if silent else self.reminders).pop(at_ms)
        if isinstance(item, Group):
            self._remind_group(item, at_ms)
            return
        alerts = [alert for alert in item.alerts if _is_told_again(alert)]
        rule = self.rules.get(alerts[0].rule) if alerts else None
        if rule is None:
            return
        if not rule.repeat_ms:
            for alert in alerts:
                alert.remind_at_ms = None
            return
        audible = [alert for alert in alerts if self._may_say(rule, alert, at_ms)]
        if len(audible) == 1:
            self.teller.alone(self.out, rule, audible[0], REMINDER, at_ms, self._subject_state(audible[0]))
        elif audible:
            self.teller.together(self.out, rule, audible, REMINDER, at_ms)
        self._await_reminder(rule, alerts, at_ms)

    def _may_say(self, rule: Rule, alert: Alert, at_ms: int) -> bool:
        return not self.gates.quiet(rule, alert, self._subject_state(alert), at_ms)[0]

    def acknowledge(
        self, *, alert_id: str | None = None, rule: str | None = None, client: str | None = None, by: str = ""
    ) -> int:
        """Somebody knows: alerts that fire and were not acknowledged are not told again. Returns how many there were.

        Every criterion that is given must hold; `alert_id` is an alert's, or a group's for all alerts in it.
        """
        found = 0
        subjects: Iterable[str] = list(self.active) if client is None else [client]
        for subject in subjects:
            for alert in self.active.get(subject, ()):
                if alert.state != "firing" or alert.acknowledged or (rule is not None and alert.rule != rule):
                    continue
                if alert_id is not None and alert_id not in (alert.id, alert.notification_id or alert.id):
                    continue
                alert.acknowledged, alert.acknowledged_by, alert.remind_at_ms = True, by, None
                self.out.alerts[alert.name] = alert
                found += 1
        return found

    # After a restart

    def _recall_told(self, groups: Iterable[Group], alerts: Sequence[Alert], base_ms: int) -> None:
        """Groups and reminders as they were kept, at about `base_ms`."""
        self.groups = {(group.rule, group.key): group for group in groups}
        self.group_deliveries.clear()
        self.reminders.clear()
        self.silent_reminders.clear()
        batches: dict[tuple[str, str, int], list[Alert]] = {}
        for alert in alerts:
            if alert.state != "firing":
                continue
            if alert.group is not None:
                group = self.groups.get((alert.rule, alert.group))
                if group is not None:
                    group.add(alert.client or "")
            elif alert.remind_at_ms is not None:
                notification_id = alert.notification_id or alert.name
                batches.setdefault((alert.rule, notification_id, alert.remind_at_ms), []).append(alert)
        for (_, _, due_ms), batch in batches.items():
            self._push_reminder(due_ms, batch)
        for group in self.groups.values():
            rule = self.rules.get(group.rule)
            self._plan_group(group, (rule.grouping if rule is not None else None) or Grouping(), base_ms)
            if group.remind_at_ms is not None:
                self.silent_reminders.push(group.remind_at_ms, group)


def _is_told_again(alert: Alert) -> bool:
    return alert.state == "firing" and not alert.acknowledged and alert.remind_at_ms is not None


def _is_group_due(group: Group, due_ms: int) -> bool:
    return group.due_at_ms == due_ms and not group.is_closed


def _is_reminder_due(item: Reminder | Group, due_ms: int) -> bool:
    if isinstance(item, Group):
        return item.remind_at_ms == due_ms and not item.is_closed
    return any(_is_told_again(alert) and alert.remind_at_ms == due_ms for alert in item.alerts)
