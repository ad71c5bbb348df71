"""Acknowledgements: an operator knows of what fires. No more reminders and no more steps of an escalation are sent.

A notification is acknowledged when all that fires in it is: then each receiver (`notify`) that was told of its firing, or of a step
of its escalation, is told so, once. Other actions say nothing. Read `Acknowledgements.acknowledge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.escalations import Escalations
from engine.core.alerting.grouping import Group
from engine.core.alerting.groups import Groups, limit_of
from engine.core.alerting.notification import Notifier
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.planned_delivery import PHASE_ACKNOWLEDGED
from engine.core.alerting.routing import NOTIFY
from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.rules import Rule


class Acknowledgements:
    """What operators acknowledge."""

    def __init__(
        self,
        alerts: OpenAlerts,
        groups: Groups,
        escalations: Escalations,
        notifier: Notifier,
        state_of: Callable[[str], ClientState],
    ) -> None:
        self.rules: Mapping[str, Rule] = {}  # those in force and those that are being retired
        self._alerts = alerts
        self._groups = groups
        self._escalations = escalations
        self._notifier = notifier
        self._state_of: Final = state_of
        self._begun: set[tuple[str, str]] = set()  # groups in which something was acknowledged, by rule and key

    def acknowledge(self, alerts: Sequence[Alert], by: str, at_ms: int) -> int:
        """These alerts are acknowledged, by whom; returns how many fired and were not before."""
        found = [alert for alert in alerts if alert.state == FIRING and not alert.acknowledged]
        notifications: dict[str, Alert] = {}  # one alert of each
        for alert in found:
            alert.acknowledged, alert.acknowledged_by, alert.remind_at_ms = True, by, None
            self._alerts.changed(alert)
            if alert.group is not None:
                self._begun.add((alert.rule, alert.group))
            notifications[alert.name if alert.group is None else f"{alert.rule}\0{alert.group}"] = alert
        for alert in notifications.values():
            if alert.group is not None:
                self._look_at_group(alert, at_ms)
            elif alert.notified:
                self._escalations.stop(alert.id)
                self._tell(alert, at_ms)
        return len(found)

    def left(self, alert: Alert, at_ms: int) -> None:
        """An alert that nobody acknowledged fires no more in its group: what is left of it may be acknowledged as a whole."""
        if self._begun and not alert.acknowledged and (alert.rule, alert.group) in self._begun:
            self._look_at_group(alert, at_ms)

    def _tell(self, alert: Alert, at_ms: int) -> None:
        rule = self._told(alert.rule)
        if rule is not None:
            state = self._state_of(alert.client) if alert.client is not None else NEW_CLIENT
            self._notifier.one(rule, alert, PHASE_ACKNOWLEDGED, at_ms, state)

    def _look_at_group(self, alert: Alert, at_ms: int) -> None:
        """Does nothing fire unacknowledged any more in the alert's group?"""
        group = self._groups.all.get((alert.rule, alert.group or ""))
        if group is None:
            self._begun.discard((alert.rule, alert.group or ""))
            return
        fires = self._acknowledged_in(group) if group.sent_at_ms is not None else []
        if not fires:
            return
        self._escalations.stop(group.name)
        rule = self._told(alert.rule)
        if rule is not None:
            subjects = list(dict.fromkeys([one.subject for one in fires]))
            self._notifier.group(
                rule,
                group,
                PHASE_ACKNOWLEDGED,
                at_ms,
                alerts=fires,
                subjects=subjects,
                count=len(subjects),
                limit=limit_of(rule, group),
            )

    def _acknowledged_in(self, group: Group) -> list[Alert]:
        """All alerts that fire in a group; none when any of them is not acknowledged."""
        found = []
        for alert in self._groups.each_firing(group):
            if not alert.acknowledged:
                return []
            found.append(alert)
        return found

    def _told(self, name: str) -> Rule | None:
        """The rule, when any of its actions is told of acknowledgements."""
        rule = self.rules.get(name)
        if rule is None:
            return None
        actions = [*rule.actions, *[action for step in rule.escalate for action in step.actions]]
        return rule if any(action.kind == NOTIFY for action in actions) else None

    def restore(self) -> None:
        """Find the groups again in which something was acknowledged."""
        self._begun = {
            (alert.rule, alert.group)
            for alert in self._alerts
            if alert.acknowledged and alert.group is not None and alert.state == FIRING
        }
