"""Which alerts are in which group, and when each group is to be notified. What a group is, and when, is in `grouping`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from engine.core.alerting import bundles
from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.escalations import Escalations
from engine.core.alerting.grouping import Group, group_name
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.planned_delivery import stamped
from engine.core.alerting.schedules import LISTED
from engine.core.alerting.template_variables import NO_NAMES, VariableSource
from engine.core.keys import key_text, values_of
from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.rules import AT_ONCE, Grouping, Rule
from engine.core.timers import GROUPS, NextWakeUp, TimerQueue

DEFAULT_GROUPING: Final = Grouping()
"""The terms of a group whose rule has no `grouping` any more."""


def terms_of(rule: Rule | None) -> Grouping:
    """The terms of a rule's groups."""
    return DEFAULT_GROUPING if rule is None or rule.grouping is None else rule.grouping


def limit_of(rule: Rule, group: Group) -> int:
    """How many one delivery of a group lists at most."""
    return LISTED if group.is_bundle and rule.grouping is None else terms_of(rule).limit


class Groups:
    """Every group that is not closed."""

    def __init__(
        self,
        alerts: OpenAlerts,
        wake_up: NextWakeUp,
        variables: VariableSource,
        state_of: Callable[[str], ClientState],
        escalations: Escalations,
    ) -> None:
        self.all: dict[tuple[str, str], Group] = {}  # by rule and place
        self.timers: Final = TimerQueue(GROUPS, wake_up, _is_due)
        self._alerts = alerts
        self._variables = variables
        self._state_of = state_of
        self._escalations = escalations

    def enter(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        """These alerts fire: they are listed with the others of their group."""
        terms, out = terms_of(rule), self._alerts.out
        for alert in alerts:
            client = alert.client or ""
            ip = self._state_of(client).ip
            key = key_text(values_of(terms.by, client, ip, self._variables.attributes(client)))
            group = self.all.get((rule.name, key))
            if group is None:
                name = None
                if self._alerts.era:
                    name = group_name(at_ms, rule.name, self._alerts.in_era(key))
                group = self.all[rule.name, key] = Group(rule.name, key, at_ms, name=name)
                out.groups[group.name] = group
            if alert.trigger in AT_ONCE:
                group.pass_through(client, terms.limit)
                out.groups[group.name] = group
            else:
                alert.group = key
                group.add(client)
                if client in group.sent:
                    self._escalations.more_fires(group, at_ms)
            self.plan(group, terms, at_ms)

    def bundle(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> Group:
        """These alerts (the oldest first) fire together by one decision: a bundle of their own, which has not been notified yet."""
        first = alerts[0]
        is_shared = all(alert.throttle_key == first.throttle_key for alert in alerts)
        name = stamped(at_ms, "\0".join(["bundle", *sorted([alert.id for alert in alerts])]))
        started_ms = min([alert.started_at_ms for alert in alerts])
        key = first.throttle_key if is_shared else ""
        group = self.all[rule.name, name] = Group(rule.name, key, started_ms, name=name, is_bundle=True)
        for alert in alerts:
            if alert.trigger in AT_ONCE:
                group.pass_through(alert.subject, LISTED)
            else:
                alert.group = group.place
                group.add(alert.subject)
        return group

    def leave(self, alert: Alert, rule: Rule | None, at_ms: int) -> None:
        """The alert fires no more."""
        group = self.all.get((alert.rule, alert.group or ""))
        if group is not None and alert.fired_at_ms is not None:
            group.remove(alert.subject)
            if rule is not None and alert.key is not None:
                self._note_end(group, rule, alert, at_ms)
            self.plan(group, terms_of(rule), at_ms)

    def _note_end(self, group: Group, rule: Rule, alert: Alert, at_ms: int) -> None:
        """An outage of a bundle is over: the bundle's recovery will say how many it was."""
        shown = self._variables.of_alert(rule, alert, NEW_CLIENT, at_ms, NO_NAMES)["alert"]
        group.ended = bundles.counted([shown], group.ended)
        self._alerts.out.groups[group.name] = group

    def plan(self, group: Group, terms: Grouping, at_ms: int) -> None:
        """Note when the group is to be notified, if it has anything to say."""
        due_ms = group.next_due(at_ms, terms.wait_ms, terms.interval_ms)
        if due_ms is None:
            group.due_at_ms = None
        elif group.due_at_ms is None:
            group.due_at_ms = due_ms
            self.timers.push(due_ms, group)

    def names(self) -> list[str]:
        """The names of all groups that are not closed: the ids of their notifications."""
        return [group.name for group in self.all.values()]

    def firing(self, group: Group) -> list[Alert]:
        """The group's alerts that fire, in the order in which their clients began to."""
        return list(self.each_firing(group))

    def each_firing(self, group: Group) -> Iterator[Alert]:
        """The same, one after the other."""
        for subject in group.clients:
            for alert in self._alerts.of(subject):
                if alert.rule == group.rule and alert.group == group.place and alert.state == FIRING:
                    yield alert

    def of_rule(self, rule: str) -> list[Group]:
        """The groups of a rule."""
        return [group for group in self.all.values() if group.rule == rule]

    def close(self, group: Group) -> None:
        """Nothing fires any more in the group."""
        group.is_closed = True
        self.all.pop((group.rule, group.place), None)
        self._alerts.out.groups[group.name] = group
        self._escalations.close(group.name)

    def step(self, step_ms: int) -> None:
        """The clock was set: every group waits for as long as before."""
        for group in self.all.values():
            group.step(step_ms)
            self._alerts.out.groups[group.name] = group

    def restore(self, groups: Iterable[Group]) -> None:
        """Groups as they were kept; the members follow from the open alerts, see `add_restored`."""
        self.all = {(group.rule, group.place): group for group in groups}
        self.timers.clear()

    def add_restored(self, alert: Alert) -> None:
        """An alert that fires and is in a group."""
        group = self.all.get((alert.rule, alert.group or ""))
        if group is not None:
            group.add(alert.subject)


def _is_due(group: Group, due_ms: int) -> bool:
    return group.due_at_ms == due_ms and not group.is_closed
