"""Outages as alerts: when one opens, which clients join it, what its end sets free. The counting itself is in `outage_watch`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from engine.core.alerting.alert import SUPPRESSED, Alert
from engine.core.alerting.outage_watch import OutageWatch
from engine.core.alerting.outages import BACK, DOWN, GONE_AGAIN, Outage, offline_since
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.stages import inhibition
from engine.core.alerting.suppressions import cover_until, covering_alert
from engine.core.presence.client_state import NEVER, NEW_CLIENT, OFFLINE, ONLINE, ClientState, settled_just_now
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
        for watch in watches.values():
            for outages in watch.outages.values():
                for outage in outages:
                    self._await_end(watch, outage)

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
        for watch in self.watches.values():
            for outages in watch.outages.values():
                for outage in outages:
                    for client in outage.offline_members():
                        watch.put_member(client, self._pipeline.state_of(client))

    def moved(self, client: str, before: ClientState, after: ClientState, at_ms: int) -> None:
        """A client's observed status, the time of its change, or its address is another: outages count anew.

        To be called for each such change while `watches` is not empty. `NEW_CLIENT` stands for one that is not known.
        """
        plan = self._pipeline.matcher.plan
        keys: list[tuple[OutageWatch, str | None]] = []
        for rule in plan(client, before.ip).outage:
            watch = self.watches[rule.name]
            keys.append((watch, watch.take(client, before)))
        for rule in plan(client, after.ip).outage:
            watch = self.watches[rule.name]
            keys.append((watch, watch.put(client, after)))
        for watch in self.watches.values():
            if watch.outages:
                watch.take_member(client, before)
                watch.put_member(client, after)
        if after.observed == ONLINE and after.settled != OFFLINE:  # else it is back when that has settled
            self.came_back(client, at_ms)
        for watch, key in keys:
            if key is not None:
                self._coverage_changed(watch, key, at_ms)

    def went_offline(self, client: str, state: ClientState, rules: Iterable[Rule], at_ms: int) -> None:
        """A client has settled offline; called before any alert about it is opened."""
        joined = []
        for rule in rules:
            watch = self.watches[rule.name]
            if watch.is_down(client):
                continue  # it was counted while it was on hold
            outage, founders = watch.settled_offline(client, state)
            if outage is not None:
                self._join(watch, outage, client, state, at_ms)
                joined.append(outage)
            elif not founders or not self._open(rule, watch, client, state, founders, at_ms):
                left = watch.gone_again(client)
                if left is not None:
                    self._alerts.out.members[left.name, client] = GONE_AGAIN
        for outage in joined:
            alert = self._inhibitors.alert_of(outage)
            is_inhibited = alert is not None and alert.state == SUPPRESSED and alert.reason == inhibition.REASON
            if alert is not None and is_inhibited and not self._inhibitors.still_covers(alert, client):
                self._pipeline.suppressions.free_one(alert, at_ms)
        self._uncovered(client, at_ms)

    def _open(
        self, rule: Rule, watch: OutageWatch, client: str, state: ClientState, founders: Sequence[str], at_ms: int
    ) -> bool:
        """An outage opens, unless the rule's condition says that it is none. Does it?"""
        key = watch.key_of(client, state.ip) or ""
        alert = self._alerts.add(rule, "outage", at_ms, key=key, because=settled_just_now(state))
        outage = Outage(alert.name, rule.name, key, offline_since(state), at_ms, 0)
        watch.open(outage)
        self._inhibitors.outage_began(outage, alert)
        left = [self._join(watch, outage, founder, self._pipeline.state_of(founder), at_ms) for founder in founders]
        self._pipeline.due(alert, NEW_CLIENT, at_ms)
        if alert.open:
            return True
        watch.refuse(outage)
        self._inhibitors.outage_ended(outage)
        out = self._alerts.out
        del out.outages[outage.name]
        for founder, other in zip(founders, left, strict=True):
            del out.members[outage.name, founder]
            if other is not None:
                watch.return_to(other, founder)
                out.members[other.name, founder] = BACK
        return False

    def _join(self, watch: OutageWatch, outage: Outage, client: str, state: ClientState, at_ms: int) -> Outage | None:
        """The client joins. Returns another outage that it had come back from, if any."""
        out = self._alerts.out
        left = watch.join(outage, client, state, at_ms)
        if left is not None:
            out.members[left.name, client] = GONE_AGAIN
        out.members[outage.name, client] = DOWN
        out.outages[outage.name] = outage
        self._await_end(watch, outage)
        return left

    def came_back(self, client: str, at_ms: int) -> None:
        """A client is online, or forgotten: it is counted back for good, and the outage may be over."""
        for watch in self.watches.values():
            outage = watch.back(client, at_ms)
            if outage is None:
                continue
            self._alerts.out.members[outage.name, client] = BACK
            self._alerts.out.outages[outage.name] = outage
            if not outage.down:
                self._end(outage, at_ms)
            else:
                self._await_end(watch, outage)
                self._coverage_changed(watch, outage.key, at_ms)
        self._uncovered(client, at_ms)

    def _uncovered(self, client: str, at_ms: int) -> None:
        """No outage may cover the client any more: what one suppressed of it is looked at."""
        suppressions = self._pipeline.suppressions
        if not suppressions.any_waiting:
            return
        for alert in list(self._alerts.of(client)):
            if alert.until and covering_alert(alert.until) in self._inhibitors.outages:
                suppressions.free_one(alert, at_ms)

    def _coverage_changed(self, watch: OutageWatch, key: str, at_ms: int) -> None:
        """The outages of a key may cover fewer of those on hold than before: what they suppressed of them is looked at."""
        suppressions = self._pipeline.suppressions
        for outage in watch.outages.get(key, ()):
            until = cover_until(outage.name)
            if suppressions.is_awaited(until) and not watch.is_that_big(outage, outage.loosest_ms):
                outage.loosest_ms = NEVER
                suppressions.free(suppressions.take(until), at_ms)

    def _await_end(self, watch: OutageWatch, outage: Outage) -> None:
        """Have the outage looked at when it may be over. What was planned for an earlier instant stays: `on_timer` plans anew."""
        due_ms = watch.ends_at(outage)
        if due_ms is None:
            outage.end_at_ms = None
        elif outage.end_at_ms is None or due_ms < outage.end_at_ms:
            outage.end_at_ms = due_ms
            self.timers.push(due_ms, outage)

    def on_timer(self, outage: Outage, at_ms: int) -> None:
        """Is the outage over, because no member joined or came back for long enough? If not, look again later."""
        planned_ms, outage.end_at_ms = outage.end_at_ms, None
        watch = self.watches.get(outage.rule)
        due_ms = watch.ends_at(outage) if watch is not None else None
        if watch is None or due_ms is None or planned_ms is None:
            return
        if due_ms <= planned_ms:
            self._end(outage, at_ms)  # what it frees is looked at when every outage that ends in this instant has ended
        else:
            self._await_end(watch, outage)

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
        """The clock was set: an outage has as long left from now as before. When its members' changes occurred is the broker's."""
        for outage in self._inhibitors.outages.values():
            outage.quiet_since_ms += step_ms
            if outage.end_at_ms is not None:
                outage.end_at_ms += step_ms
            self._alerts.out.outages[outage.name] = outage

    def retire(self, rule: str) -> None:
        """The rule is gone."""
        self.watches.pop(rule, None)

    def restore(
        self, alerts: Iterable[Alert], outages: Iterable[Outage], members: Iterable[tuple[str, str, int]]
    ) -> None:
        """Outages as they were kept, and their members; every client is to be counted anew."""
        self.timers.clear()
        self._inhibitors.clear()
        known = {outage.name: outage for outage in outages}
        named = {alert.name: alert for alert in alerts if alert.trigger == "outage"}
        for name, client, standing in members:
            if name in known:
                known[name].members[client] = standing
        for watch in self.watches.values():
            watch.outages, watch.member_of = {}, {}
        for name, alert in named.items():  # the earlier ones first
            outage = known.get(name)
            watch_of = self.watches.get(alert.rule)
            if outage is None or watch_of is None:
                continue
            watch_of.restore(outage)
            self._inhibitors.outage_began(outage, alert)
            self._await_end(watch_of, outage)


def _is_due(outage: Outage, due_ms: int) -> bool:
    return outage.end_at_ms == due_ms and not outage.is_over
