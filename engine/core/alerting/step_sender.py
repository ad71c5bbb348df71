"""What is sent when a step of an escalation is due. When that is, is in `escalations`. Read `StepSender.on_timer`."""

from __future__ import annotations

from collections.abc import Sequence

from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.escalation import Escalation, next_step
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.planned_delivery import PHASE_ESCALATION
from engine.core.rules import Rule


class StepSender:
    """Acts on the timers of escalations."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._escalations = pipeline.escalations
        self._groups = pipeline.groups

    def on_timer(self, escalation: Escalation, at_ms: int) -> None:
        """A step is due.

        Steps: what fires unacknowledged, else the ladder stops; of that, what no stage mutes, else the step waits for the end of one.
        """
        escalation.due_at_ms = None
        rule = self._pipeline.rules.get(escalation.rule)
        index = next_step(rule.escalate, escalation) if rule is not None else None
        if rule is None or index is None:
            return
        waiting = self._unacknowledged(escalation)
        if not waiting:
            self._escalations.stop(escalation.id)
            return
        alerts = [alert for alert in waiting if self._pipeline.may_remind(alert, at_ms)]
        if not alerts:
            for alert in waiting:
                self._pipeline.await_unmuted(alert, at_ms)
            self._escalations.hold(escalation, waiting)
            return
        escalation.took(rule.escalate, index, at_ms)
        self._send(rule, escalation, alerts, at_ms)
        self._escalations.plan(escalation, rule, at_ms)

    def _unacknowledged(self, escalation: Escalation) -> list[Alert]:
        alert, group = self._escalations.subject_of(escalation)
        if group is None:
            return [alert] if alert is not None and alert.state == FIRING and not alert.acknowledged else []
        return [
            alert
            for alert in self._groups.firing(group)
            if not alert.acknowledged and (alert.notified or alert.subject in group.sent)
        ]

    def _send(self, rule: Rule, escalation: Escalation, alerts: Sequence[Alert], at_ms: int) -> None:
        _, group = self._escalations.subject_of(escalation)
        if group is not None:
            self._pipeline.group_notifications.again(rule, group, PHASE_ESCALATION, alerts, at_ms)
        else:
            state = self._pipeline.state_of_subject(alerts[0])
            self._pipeline.notifier.one(rule, alerts[0], PHASE_ESCALATION, at_ms, state)
