"""Quorums as alerts: when one opens and when it ends. The counting itself is in `quorums`. Read `QuorumAlerts.settled` first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.core.alerting.alert import FIRING, Alert
from engine.core.alerting.outage_alerts import EachClient
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.quorums import Quorums, QuorumWatch
from engine.core.alerting.stages import inhibition
from engine.core.matching import Listing
from engine.core.presence.client_state import (
    NEW_CLIENT,
    OFFLINE,
    UNKNOWN,
    ClientState,
    Transition,
    last_transition,
)
from engine.core.rules import Rule
from engine.core.timers import QUORUM_TEXTS, NextWakeUp, TimerQueue

TRIGGER: Final = "quorum"


class QuorumAlerts:
    """The quorums of all rules with `trigger: quorum`, and their alerts: at most one for each rule and key."""

    def __init__(
        self,
        pipeline: Pipeline,
        wake_up: NextWakeUp,
        quorums: Quorums,
        listing: Listing,
        each_client: EachClient,
        state_of: Callable[[str], ClientState],
    ) -> None:
        self.quorums: Final = quorums
        self.watches: Final = quorums.watches  # by rule, of the rules in force
        self._pipeline = pipeline
        self._alerts = pipeline.alerts
        self._listing = listing
        self._each_client = each_client
        self._state_of = state_of
        self.texts: Final = TimerQueue(QUORUM_TEXTS, wake_up, self._has_grown)
        # By id: those that fired in the instant in hand, before more of their clients settled in it.
        self._grown: dict[str, Alert] = {}
        self._is_to_check = False  # after a restart: the inventory may be another one

    def use(self, now_ms: int) -> None:
        """Watch by the rules and the inventory as they are now: all is counted anew, and alerts that say what is not so any more end."""
        pipeline = self._pipeline
        attributes = pipeline.variables.attributes
        self.watches.clear()
        for rule in pipeline.matcher.rules:
            if rule.quorum is not None and TRIGGER in rule.triggers:
                self.watches[rule.name] = QuorumWatch(rule, attributes, self._listing)
        self.quorums.reads_ip = any(watch.reads_ip for watch in self.watches.values())
        self.count_all()
        self._end_what_is_over(now_ms)

    def count_all(self) -> None:
        """Count every client anew."""
        if not self.watches:
            return
        for watch in self.watches.values():
            watch.clear()
        plan = self._pipeline.matcher.plan
        for client, state in self._each_client():
            if state is not NEW_CLIENT:
                for rule in plan(client, state.ip).quorum:
                    self.watches[rule.name].put(client, state.ip, state.settled)
        for client in self._listing.clients():
            if self._state_of(client) is NEW_CLIENT:
                for rule in plan(client, "").quorum:
                    self.watches[rule.name].put(client, "", UNKNOWN)

    def _end_what_is_over(self, at_ms: int) -> None:
        rules = self._pipeline.rules
        for alert in [alert for alert in self._alerts if alert.trigger == TRIGGER]:
            watch = self.watches.get(alert.rule)
            if watch is not None:
                is_over = not watch.is_reached(alert.key or "")
            else:  # one of a rule that is about to be retired stays until then
                is_over = alert.rule in rules and rules[alert.rule].quorum is None
            if is_over:
                self._pipeline.end(alert, at_ms, NEW_CLIENT)

    # What happens to clients

    def settled(self, transition: Transition, state: ClientState) -> None:
        """A client's settled status changed; called when its own alerts about the old status have ended and no new one is opened.

        To be called for each transition while `watches` is not empty.
        """
        client, ip, at_ms = transition.client, state.ip, transition.settled_at_ms
        inhibitors = self._pipeline.inhibitors
        for rule in self._pipeline.matcher.plan(client, ip).quorum:
            watch = self.watches[rule.name]
            key = watch.change(client, ip, transition.previous, transition.status)
            if key is None:
                continue
            if transition.status != OFFLINE:
                self._end_if_over(watch, key, at_ms)
                continue
            alert = self._open_alert(rule.name, key)
            if alert is None:
                if watch.is_reached(key):
                    self._open(rule, key, transition, at_ms)
            elif alert.state == FIRING and alert.fired_at_ms == at_ms and transition.since_ms < at_ms:
                self._grows(alert, at_ms)
            elif alert.reason == inhibition.REASON and not inhibitors.still_covers_down(rule, alert, client):
                self._pipeline.suppressions.free_one(alert, at_ms)

    def _grows(self, alert: Alert, at_ms: int) -> None:
        """One more hold ends in the very instant in which the quorum was reached: its text says so, when all holds have settled.

        Not for a client without a hold: those settle by one event after the other.
        """
        if not self._grown:
            self.texts.push(at_ms, at_ms)
        self._grown[alert.id] = alert

    def _has_grown(self, item: int, due_ms: int) -> bool:
        return bool(self._grown)

    def on_timer(self, item: int, at_ms: int) -> None:
        """All holds of this instant have settled."""
        grown, self._grown = self._grown, {}
        self._pipeline.notifier.tell_anew(self._pipeline.rules, grown, at_ms)

    def moved(self, client: str, before: ClientState, after: ClientState, at_ms: int) -> None:
        """A client's address is another, or the client is forgotten (`NEW_CLIENT`): it counts elsewhere, or no longer.

        Where fewer are down now, the quorum may be over. None begins: only a client that goes offline does that.
        """
        plan, ended = self._pipeline.matcher.plan, []
        for rule in plan(client, before.ip).quorum:
            watch = self.watches[rule.name]
            key = watch.take(client, before.ip, before.settled)
            if key is not None:
                ended.append((watch, key))
        for rule in plan(client, after.ip).quorum:
            self.watches[rule.name].put(client, after.ip, after.settled)
        for watch, key in ended:
            self._end_if_over(watch, key, at_ms)
        self._pipeline.release_freed(at_ms)

    def _open_alert(self, rule: str, key: str) -> Alert | None:
        """The alert of a key that is going on, whatever its state."""
        for alert in self._alerts.of(f"\0{rule}\0{key}"):
            if alert.trigger == TRIGGER:
                return alert
        return None

    def _open(self, rule: Rule, key: str, transition: Transition, at_ms: int) -> None:
        """The quorum is reached: its alert is due when `for` is over, counted from the transition that reached it."""
        due_ms = max(at_ms, transition.since_ms + rule.for_ms) if rule.for_ms else at_ms
        alert = self._alerts.add(rule, TRIGGER, at_ms, key=key, due_ms=due_ms, transition=transition)
        self._pipeline.opened(alert, NEW_CLIENT, at_ms)

    def _end_if_over(self, watch: QuorumWatch, key: str, at_ms: int) -> None:
        if watch.is_reached(key):
            return
        alert = self._open_alert(watch.rule.name, key)
        if alert is not None:
            self._pipeline.end(alert, at_ms, NEW_CLIENT)

    # Rules come, and restarts

    def adopt(self, rule: Rule, at_ms: int) -> int:
        """A rule is new: with `existing` it fires for keys of which enough are down; returns how many clients are down in such keys."""
        watch = self.watches.get(rule.name)
        if watch is None:
            return 0
        found = 0
        for key in watch.reached():
            down, total = watch.size(key)
            found += down
            if rule.existing and self._open_alert(rule.name, key) is None:
                self._open(rule, key, self._reached_by(watch, key, watch.needed(total)), at_ms)
        return found

    def _reached_by(self, watch: QuorumWatch, key: str, needed: int) -> Transition:
        """The transition that reached a quorum before anybody looked: of those that are down, the one after which enough were."""
        states = [self._state_of(client) for client in watch.down(key)]
        states.sort(key=lambda state: (state.settled_at_ms, state.client))
        return last_transition(states[needed - 1])

    def restore(self) -> None:
        """Start again: count everybody; what does not hold any more, because the inventory is another one, ends when time passes."""
        self.count_all()
        self._is_to_check = bool(self.watches)

    def resume(self, to_ms: int) -> None:
        """Time is about to pass to `to_ms`."""
        if self._is_to_check:
            self._is_to_check = False
            self._end_what_is_over(to_ms)
