"""Outages as alerts: when one opens, which clients join it, what its end sets free. The counting itself is in `outages`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from engine.core.alerting.alert import Alert
from engine.core.alerting.outages import Outage, OutageWatch, offline_since
from engine.core.alerting.pipeline import Pipeline
from engine.core.presence.client_state import NEW_CLIENT, OFFLINE, ONLINE, ClientState
from engine.core.rules import Rule
from engine.core.timers import OUTAGES, NextWakeUp, TimerQueue

EachClient = Callable[[], Iterable[tuple[str, ClientState]]]
"""Every client that is known, with its state."""


class OutageAlerts:
    """The outages of all rules with `trigger: outage`, and their alerts."""

    def __init__(self, pipeline: Pipeline, wake_up: NextWakeUp, each_client: EachClient) -> None:
        self.timers: Final = TimerQueue(OUTAGES, wake_up, _is_due)
        self.watches: Final = pipeline.inhibitors.watches  # by rule
        self._pipeline = pipeline
        self._inhibitors = pipeline.inhibitors
        self._alerts = pipeline.alerts
        self._each_client = each_client

    def use(self, now_ms: int) -> None:
        """Watch by the rules as they are now: outages go on, every client is counted anew; those of no outage rule are over."""
        watches = {}
        attributes = self._pipeline.variables.attributes
        for name, rule in self._pipeline.rules.items():
            if rule.outage is not None and "outage" in rule.triggers:
                before = self.watches.get(name)
                watches[name] = before.edited(rule, attributes) if before else OutageWatch(rule, attributes)
        for outage in list(self._inhibitors.outages.values()):
            if outage.rule not in watches:
                self._end(outage, now_ms)
        self.watches.clear()
        self.watches.update(watches)
        self.count_all()

    def count_all(self) -> None:
        """Count every client anew."""
        if not self.watches:
            return
        for watch in self.watches.values():
            watch.clear()
        plan = self._pipeline.matcher.plan
        for client, state in self._each_client():
            for rule in plan(client, state.ip).outage:
                self.watches[rule.name].put(client, state)

    def moved(self, client: str, before: ClientState, after: ClientState, at_ms: int) -> None:
        """A client's observed status, the time of its change, or its address is another: outages count anew.

        To be called for each such change while `watches` is not empty. `NEW_CLIENT` stands for one that is not known.
        """
        plan = self._pipeline.matcher.plan
        for rule in plan(client, before.ip).outage:
            self.watches[rule.name].take(client, before)
        for rule in plan(client, after.ip).outage:
            self.watches[rule.name].put(client, after)
        if after.observed == ONLINE and after.settled != OFFLINE:
            self.came_back(client, at_ms)
            self._pipeline.release_freed(at_ms)

    def went_offline(self, client: str, state: ClientState, rules: Iterable[Rule], at_ms: int) -> None:
        """A client has settled offline; called before any alert about it is opened."""
        for rule in rules:
            watch = self.watches[rule.name]
            outage, founders = watch.settled_offline(client, state, at_ms)
            if outage is not None:
                self._join(watch, outage, client, state.occurred_at_ms, at_ms)
                self._alerts.out.outages[outage.name] = outage
            elif founders:
                self._open(rule, watch, watch.key_of(client, state.ip) or "", founders, at_ms)

    def _open(self, rule: Rule, watch: OutageWatch, key: str, founders: Sequence[str], at_ms: int) -> None:
        alert = self._alerts.add(rule, "outage", at_ms, key=key)
        changes = [offline_since(self._pipeline.state_of(client)) for client in founders]
        outage = Outage(alert.name, rule.name, key, min(changes), max(changes), at_ms, 0)
        watch.open(outage)
        self._inhibitors.outage_began(outage, alert)
        for client, occurred_ms in zip(founders, changes, strict=True):
            self._join(watch, outage, client, occurred_ms, at_ms)
        self._pipeline.due(alert, NEW_CLIENT, at_ms)
        if alert.open:
            self._alerts.out.outages[outage.name] = outage
            return
        watch.refuse(outage)
        self._inhibitors.outage_ended(outage)
        for client in founders:
            del self._alerts.out.members[outage.name, client]

    def _join(self, watch: OutageWatch, outage: Outage, client: str, occurred_ms: int, at_ms: int) -> None:
        watch.join(outage, client, occurred_ms, at_ms)
        if outage.calm_at_ms is not None and not watch.looks_calm(outage):
            outage.calm_at_ms = None
        self._alerts.out.members[outage.name, client] = True

    def came_back(self, client: str, at_ms: int) -> None:
        """A client is online, or forgotten: it is counted back, and the outage may be over."""
        for watch in self.watches.values():
            outage = watch.back(client, at_ms)
            if outage is None:
                continue
            self._alerts.out.members[outage.name, client] = False
            self._alerts.out.outages[outage.name] = outage
            if not outage.down:
                self._end(outage, at_ms)
            elif outage.calm_at_ms is None:
                self._await_calm(watch, outage)

    def _await_calm(self, watch: OutageWatch, outage: Outage) -> None:
        if watch.looks_calm(outage):
            outage.calm_at_ms = outage.quiet_since_ms + watch.terms.within_ms
            self.timers.push(outage.calm_at_ms, outage)

    def on_timer(self, outage: Outage, at_ms: int) -> None:
        """Is the outage over, because few are offline and no member joined or came back for long enough? If not, look again later."""
        outage.calm_at_ms = None
        watch = self.watches.get(outage.rule)
        if watch is None or not watch.looks_calm(outage):
            return
        if outage.quiet_since_ms + watch.terms.within_ms <= at_ms:
            self._end(outage, at_ms)
            self._pipeline.release_freed(at_ms)
        else:
            self._await_calm(watch, outage)

    def _end(self, outage: Outage, at_ms: int, reason: str | None = None) -> None:
        """It is over, and so is its alert; the alerts of members that are still offline are looked at by `release_freed`."""
        alert = self._inhibitors.alert_of(outage)
        if alert is not None and alert.open:
            self._pipeline.end(alert, at_ms, NEW_CLIENT, None, reason)
        watch = self.watches.get(outage.rule)
        if watch is not None:
            watch.close(outage)
        outage.is_over = True
        self._inhibitors.outage_ended(outage)
        self._alerts.out.outages[outage.name] = outage

    def end_alert(self, alert: Alert, at_ms: int, state: ClientState, reason: str | None = None) -> None:
        """End an alert, and the outage that it is about if there is one."""
        outage = self._inhibitors.outages.get(alert.name)
        if outage is not None:
            self._end(outage, at_ms, reason)
        else:
            self._pipeline.end(alert, at_ms, state, None, reason)

    def is_down_in(self, client: str, alert: Alert) -> bool:
        """Is the alert that of an outage in which the client is down?"""
        outage = self._inhibitors.outages.get(alert.name)
        return outage is not None and outage.is_down(client)

    def step(self, step_ms: int) -> None:
        """The clock was set: an outage is calm for as long from now as before. When its members' changes occurred is the broker's."""
        for outage in self._inhibitors.outages.values():
            outage.quiet_since_ms += step_ms
            if outage.calm_at_ms is not None:
                outage.calm_at_ms += step_ms
            self._alerts.out.outages[outage.name] = outage

    def retire(self, rule: str) -> None:
        """The rule is gone."""
        self.watches.pop(rule, None)

    def restore(
        self, alerts: Iterable[Alert], outages: Iterable[Outage], members: Iterable[tuple[str, str, bool]]
    ) -> None:
        """Outages as they were kept, and their members."""
        self.timers.clear()
        self._inhibitors.clear()
        known = {outage.name: outage for outage in outages}
        named = {alert.name: alert for alert in alerts if alert.trigger == "outage"}
        for name, client, is_offline in members:
            if name in known:
                known[name].members[client] = is_offline
        for watch in self.watches.values():
            watch.outages, watch.member_of = {}, {}
        for name, alert in named.items():  # the earlier ones first
            outage = known.get(name)
            watch_of = self.watches.get(alert.rule)
            if outage is None or watch_of is None:
                continue
            watch_of.restore(outage)
            self._inhibitors.outage_began(outage, alert)
            self._await_calm(watch_of, outage)


def _is_due(outage: Outage, due_ms: int) -> bool:
    return outage.calm_at_ms == due_ms and not outage.is_over
