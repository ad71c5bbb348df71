"""The escalations that go on: one for each notification of a rule with `escalate`, and when its next step is due.

What a step is, and which comes next, is in `escalation`; what is sent is in `step_sender`. Read `Escalations.begin`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.bundles import sources_in
from engine.core.alerting.escalation import Escalation, next_step
from engine.core.alerting.grouping import Group
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.rules import AT_ONCE, Rule
from engine.core.timers import ESCALATIONS, OTHER_ESCALATIONS, NextWakeUp, TimerQueue


class Escalations:
    """Every escalation that is not over, by the id of its notification, and the timers of their steps."""

    def __init__(self, alerts: OpenAlerts, wake_up: NextWakeUp) -> None:
        self.all: dict[str, Escalation] = {}
        self._alerts_of: dict[str, Alert] = {}  # what each is about that is no group's
        self._groups_of: dict[str, Group] = {}  # the group of each that is one's
        # Of a device whose reconnect may be waiting to be read only up to the watermark; of a source in trouble, at once, and so
        # what was due before and has waited for the end of a silence.
        self.timers: Final = TimerQueue(ESCALATIONS, wake_up, _is_due)
        self.other_timers: Final = TimerQueue(OTHER_ESCALATIONS, wake_up, _is_due)
        self._alerts = alerts
        self._held: dict[str, Escalation] = {}  # by the name of an alert: the step that waits until it is muted no more

    def begin(self, rule: Rule, alert: Alert, at_ms: int) -> None:
        """The firing of an alert, which has a notification of its own, has been sent."""
        if alert.trigger not in AT_ONCE:
            self._alerts_of[alert.id] = alert
            self._begin(rule, alert.id, at_ms)

    def _begin(self, rule: Rule, id_: str, at_ms: int) -> None:
        escalation = self.all[id_] = Escalation(id_, rule.name, at_ms)
        self.plan(escalation, rule, at_ms)

    def subject_of(self, escalation: Escalation) -> tuple[Alert | None, Group | None]:
        """What an escalation is about: an alert, or a group."""
        return self._alerts_of.get(escalation.id), self._groups_of.get(escalation.id)

    def of(self, alert: Alert) -> Escalation | None:
        """The escalation that an alert is part of."""
        return self.all.get(alert.notification_id or alert.id)

    def listed(self, rule: Rule, group: Group, alerts: Iterable[Alert], at_ms: int) -> None:
        """A group's list is about to be sent, of these alerts, all of which fire: its ladder begins, goes on, or begins anew."""
        escalation = self.all.get(group.name)
        unacknowledged = [alert for alert in alerts if not alert.acknowledged]
        if escalation is None:
            self._groups_of[group.name] = group
            self._begin(rule, group.name, at_ms)
            if not unacknowledged:
                self.stop(group.name)
        elif unacknowledged and not any(alert.notified for alert in unacknowledged):
            escalation.begin_again(at_ms)
            self.plan(escalation, rule, at_ms)
        else:
            self.more_fires(group, at_ms)

    def plan(self, escalation: Escalation, rule: Rule | None, at_ms: int) -> None:
        """Note when the next step is due: not before `at_ms`."""
        steps = rule.escalate if rule is not None else ()
        index = None if escalation.is_stopped else next_step(steps, escalation)
        escalation.is_held, escalation.freed_ms, escalation.due_at_ms = False, None, None
        self._alerts.out.escalations[escalation.id] = escalation
        if index is not None:
            self._push(escalation, max(at_ms, escalation.from_ms + steps[index].after_ms))

    def _push(self, escalation: Escalation, due_ms: int) -> None:
        escalation.due_at_ms = due_ms
        alert, group = self.subject_of(escalation)
        is_about_source = alert is not None and alert.source is not None
        if group is not None:
            is_about_source = bool(sources_in(group.clients[:1]))
        queue = self.other_timers if is_about_source else self.timers
        queue.push(due_ms, escalation)

    def stop(self, id_: str) -> None:
        """Nothing of the notification fires unacknowledged any more."""
        escalation = self.all.get(id_)
        if escalation is not None:
            escalation.is_stopped, escalation.is_held, escalation.freed_ms, escalation.due_at_ms = (
                True,
                False,
                None,
                None,
            )
            self._alerts.out.escalations[id_] = escalation

    def hold(self, escalation: Escalation, alerts: Iterable[Alert]) -> None:
        """The step that is due waits: all of these are muted."""
        escalation.is_held, escalation.freed_ms = True, None
        self._alerts.out.escalations[escalation.id] = escalation
        for alert in alerts:
            self._held[alert.name] = escalation
            self._alerts.changed(alert)

    def look_again(self, alert: Alert, at_ms: int) -> None:
        """What muted an alert that fires has ended: a step that waited for that is due now."""
        escalation = self._held.pop(alert.name, None)
        if escalation is not None:
            self._alerts.changed(alert)
            self._look_at(escalation, at_ms)

    def more_fires(self, group: Group, at_ms: int) -> None:
        """Of what a group tells of fires more than before: a step that waited because all was muted is due now."""
        escalation = self.all.get(group.name)
        if escalation is not None:
            self._look_at(escalation, at_ms)

    def _look_at(self, escalation: Escalation, at_ms: int) -> None:
        if escalation.is_held:
            escalation.is_held, escalation.freed_ms, escalation.due_at_ms = False, at_ms, at_ms
            self._alerts.out.escalations[escalation.id] = escalation
            self.other_timers.push(at_ms, escalation)

    def left(self, alert: Alert) -> None:
        """The alert is closed, and so is its escalation. That of a group is closed with the group."""
        if self.all and alert.fired_at_ms is not None:
            self._held.pop(alert.name, None)
            self.close(alert.id)

    def close(self, id_: str) -> None:
        """The notification is resolved, or was dropped."""
        self._alerts_of.pop(id_, None)
        self._groups_of.pop(id_, None)
        escalation = self.all.pop(id_, None)
        if escalation is not None:
            escalation.is_over, escalation.due_at_ms = True, None
            self._alerts.out.escalations[id_] = escalation

    # Rules, the clock, a restart

    def use(self, rules: Mapping[str, Rule], now_ms: int) -> None:
        """Rules are others than before: what is due next may be, too."""
        for escalation in self.all.values():
            self.plan(escalation, rules.get(escalation.rule), now_ms)

    def adopt(self, rules: Mapping[str, Rule], groups: Iterable[Group], at_ms: int) -> None:
        """What fires already and whose rule had no steps before: they count from here."""
        alone = [alert for alert in self._alerts if alert.state == FIRING and alert.group is None]
        for alert in alone:
            rule = rules.get(alert.rule)
            if rule is not None and rule.escalate and not alert.acknowledged and alert.id not in self.all:
                self.begin(rule, alert, at_ms)
        for group in groups:
            rule = rules.get(group.rule)
            if rule is not None and rule.escalate and group.sent_at_ms is not None and group.name not in self.all:
                self._groups_of[group.name] = group
                self._begin(rule, group.name, at_ms)

    def step(self, step_ms: int) -> None:
        """The clock was set: every step waits for as long as before."""
        for escalation in self.all.values():
            escalation.from_ms += step_ms
            if escalation.due_at_ms is not None:
                escalation.due_at_ms += step_ms
            if escalation.freed_ms is not None:
                escalation.freed_ms += step_ms
            self._alerts.out.escalations[escalation.id] = escalation

    def restore(
        self,
        escalations: Iterable[Escalation],
        groups: Iterable[Group],
        rules: Mapping[str, Rule],
    ) -> None:
        """Escalations as they were kept; what they are about is known by the open alerts and the groups."""
        self.timers.clear()
        self.other_timers.clear()
        self._held.clear()
        self._alerts_of.clear()
        self._groups_of.clear()
        self.all.clear()
        self.all.update({escalation.id: escalation for escalation in escalations})
        if not self.all:
            return
        by_key: dict[tuple[str, str], str] = {}
        for group in groups:
            if group.name in self.all:
                self._groups_of[group.name] = group
                by_key[group.rule, group.place] = group.name
        for alert in self._alerts:
            if alert.state == FIRING:
                self._add_restored(alert, by_key.get((alert.rule, alert.group or "")))
        for id_, escalation in list(self.all.items()):
            if id_ in self._groups_of or id_ in self._alerts_of:
                if escalation.freed_ms is not None:
                    escalation.due_at_ms = escalation.freed_ms
                    self.other_timers.push(escalation.freed_ms, escalation)
                elif not escalation.is_held:
                    self.plan(escalation, rules.get(escalation.rule), 0)
            else:
                del self.all[id_]
        self._alerts.out.escalations.clear()

    def _add_restored(self, alert: Alert, group: str | None) -> None:
        """An alert that fires, and the name of the group that it is in."""
        id_ = group or alert.id
        escalation = self.all.get(id_)
        if escalation is None:
            return
        if group is None:
            self._alerts_of[id_] = alert
        if alert.until and escalation.is_held:
            self._held[alert.name] = escalation


def _is_due(escalation: Escalation, due_ms: int) -> bool:
    return escalation.due_at_ms == due_ms and not escalation.is_over
