"""When operators are to be reminded of what still fires.

A reminder leaves `repeat` after an alert's last delivery, while it fires and is not acknowledged. One that comes while a
stage mutes it (`mute`, `silence`, `inhibited`) is left out, and the next is due `repeat` later. A group or a bundle is reminded of as a
whole. What is sent is in `renotification`.
"""

from __future__ import annotations

from typing import Final

from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.bundles import sources_in
from engine.core.alerting.grouping import Group
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.rules import AT_ONCE, UNDELIVERED, Rule
from engine.core.timers import FEED_REMINDERS, REMINDERS, NextWakeUp, TimerQueue


class Reminders:
    """The timers of reminders. Items are an `Alert` or a `Group`."""

    def __init__(self, alerts: OpenAlerts, wake_up: NextWakeUp) -> None:
        # Of a device whose reconnect may be waiting to be read only up to the watermark; of a source in trouble, at once.
        self.timers: Final = TimerQueue(REMINDERS, wake_up, _is_due)
        self.feed_timers: Final = TimerQueue(FEED_REMINDERS, wake_up, _is_due)
        self._alerts = alerts

    def plan(self, rule: Rule, alert: Alert, at_ms: int) -> None:
        """The alert is reminded of `repeat` after `at_ms`."""
        if alert.trigger in AT_ONCE:
            return
        alert.remind_at_ms = at_ms + rule.repeat_ms
        self._alerts.changed(alert)
        self.push(alert.remind_at_ms, alert)

    def push(self, due_ms: int, alert: Alert) -> None:
        """Enter the timer of a reminder that the alert knows of already."""
        queue = self.feed_timers if alert.source is not None or alert.trigger == UNDELIVERED else self.timers
        queue.push(due_ms, alert)

    def plan_group(self, rule: Rule, group: Group, at_ms: int) -> None:
        """The group is reminded of `repeat` after `at_ms`, when the rule says so and anything fires."""
        group.remind_at_ms = None
        if rule.repeat_ms and group.clients:
            group.remind_at_ms = at_ms + rule.repeat_ms
            self.push_group(group.remind_at_ms, group)

    def push_group(self, due_ms: int, group: Group) -> None:
        """Enter the timer of a reminder that the group knows of already."""
        queue = self.feed_timers if group.is_bundle and sources_in(group.clients[:1]) else self.timers
        queue.push(due_ms, group)

    def clear(self) -> None:
        """Forget every reminder."""
        self.timers.clear()
        self.feed_timers.clear()


def is_reminded_of(alert: Alert) -> bool:
    """Does a reminder of the alert still make sense?"""
    return alert.state == FIRING and not alert.acknowledged and alert.remind_at_ms is not None


def _is_due(item: Alert | Group, due_ms: int) -> bool:
    if isinstance(item, Group):
        return item.remind_at_ms == due_ms and not item.is_closed
    return is_reminded_of(item) and item.remind_at_ms == due_ms
