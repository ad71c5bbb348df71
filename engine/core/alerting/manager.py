"""Every open alert and all they share: the half of the engine that concerns many clients.

It never reads a clock and never does I/O. What happens to clients and sources goes to `triggers`, which opens and ends alerts; the
way of an alert to its firing and its end is `pipeline`, its states are `lifecycle`. Nothing here inherits: each part is given the
parts that it needs.

| part | what it does |
|---|---|
| `OpenAlerts` | holds the open alerts and the output of the step |
| `Pipeline` with its stages | due -> suppressed or firing -> resolved |
| `Triggers` | what happens to a client, a source or an answer opens and ends alerts |
| `OutageAlerts`, `QuorumAlerts`, `ScheduledAlerts` | alerts about many clients |
| `Groups`, `Reminders`, `Renotification`, `Escalations`, `StepSender` | what is sent after the first notification |
| `Acknowledgements` | an operator knows of it |
| `Notifier`, `VariableSource`, `RateLimits` | from alerts to deliveries |

`AlertManager` puts them together, in one `TimerTable`, and is what the fleet and operators speak to. Read `Pipeline.due` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from engine.core.alerting.acknowledgements import Acknowledgements
from engine.core.alerting.alert import FIRING, PENDING, SUPPRESSED, Alert, Kept, Output, Throttled
from engine.core.alerting.escalations import Escalations
from engine.core.alerting.groups import Groups
from engine.core.alerting.lookback import LookBack
from engine.core.alerting.notification import Notifier
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.outage_alerts import EachClient, OutageAlerts
from engine.core.alerting.parents import Parents
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.quorum_alerts import QuorumAlerts
from engine.core.alerting.quorums import Quorums
from engine.core.alerting.rate_limit import Burst, RateLimits
from engine.core.alerting.reminders import Reminders
from engine.core.alerting.renotification import Renotification
from engine.core.alerting.routing import Routing
from engine.core.alerting.scheduled_alerts import ScheduledAlerts
from engine.core.alerting.silences import Silence, Silences
from engine.core.alerting.stages.inhibition import Inhibitors
from engine.core.alerting.step_sender import StepSender
from engine.core.alerting.suppressions import FREED, silence_until
from engine.core.alerting.template_variables import EvidenceVariable, VariableSource, as_codes
from engine.core.alerting.triggers import Triggers
from engine.core.matching import NO_LISTING, Attributes, Listing, Matcher
from engine.core.presence.client_state import ClientState
from engine.core.presence.debounce import Policy
from engine.core.presence.query import QueryRequest
from engine.core.rules import Rule
from engine.core.timers import NextWakeUp, Timer, TimerTable
from engine.core.times import FOREVER

PURGED_AT_ONCE: Final = 20_000
"""Throttles that one purge looks at: about 10 ms."""


def no_clients() -> Iterable[tuple[str, ClientState]]:
    """No client at all."""
    return ()


class AlertManager:
    """The alerts of all rules. Changes are written to `out`, which the caller replaces after each commit."""

    def __init__(
        self,
        matcher: Matcher,
        policy: Policy,
        attributes: Attributes,
        state_of: Callable[[str], ClientState],
        names_used: Callable[[Rule], frozenset[str]],
        *,
        each_client: EachClient = no_clients,
        burst: int = 0,
        evidence_variable: EvidenceVariable = as_codes,
        listing: Listing = NO_LISTING,
    ) -> None:
        """`burst`: deliveries that one rule may decide in a minute, what is beyond is held; 0: no such limit.

        `listing`: whom the inventory lists by whole ids, known or not.
        """
        self._names_used = names_used
        wake_up = NextWakeUp()
        alerts = OpenAlerts()
        quorums = Quorums()
        lookback = LookBack(alerts)
        inhibitors = Inhibitors(alerts, quorums, Parents(attributes, state_of), state_of)
        variables = VariableSource(
            policy, attributes, state_of, inhibitors.outages, quorums, lookback, evidence_variable
        )
        rate_limits = RateLimits(burst, wake_up)
        routing = Routing(alerts)
        escalations = Escalations(alerts, wake_up)
        notifier = Notifier(alerts, variables, state_of, rate_limits, routing, escalations)
        groups = Groups(alerts, wake_up, variables, state_of, escalations)
        acknowledgements = Acknowledgements(alerts, groups, escalations, notifier, state_of)
        reminders = Reminders(alerts, wake_up)
        silences = Silences()
        pipeline = Pipeline(
            alerts=alerts,
            wake_up=wake_up,
            variables=variables,
            notifier=notifier,
            groups=groups,
            reminders=reminders,
            escalations=escalations,
            acknowledgements=acknowledgements,
            silences=silences,
            inhibitors=inhibitors,
            state_of=state_of,
            matcher=matcher,
        )
        outages = OutageAlerts(pipeline, wake_up, each_client)
        schedules = ScheduledAlerts(pipeline, wake_up, each_client, lookback)
        self.lookback: Final = lookback
        self.quorums: Final = QuorumAlerts(pipeline, wake_up, quorums, listing, each_client, state_of)
        triggers = Triggers(pipeline, outages, self.quorums)
        renotification = Renotification(pipeline)
        self.wake_up: Final = wake_up
        self.open_alerts: Final = alerts
        self.inhibitors: Final = inhibitors
        self.variables: Final = variables
        self.rate_limits: Final = rate_limits
        self.routing: Final = routing
        self.silences: Final = silences
        self.pipeline: Final = pipeline
        self.outages: Final = outages
        self.schedules: Final = schedules
        self.triggers: Final = triggers
        self._notifier: Final = notifier
        self._renotification: Final = renotification
        self._to_look_at: list[Alert] = []  # of a restart: suppressed ones that nothing seems to suppress any more
        self._is_restored = False  # of a restart: what fires may have been given steps meanwhile
        self._timers: Final = self._timer_table(groups, reminders)
        self.watches_addresses = False  # does anything depend on a client's address alone?
        self.watches_duplicates = False  # is there a rule of trigger `duplicate`?
        self.use(matcher)

    def _timer_table(self, groups: Groups, reminders: Reminders) -> TimerTable:
        """Every queue and what is done with its items, in the order of `timers.TIMERS`."""
        pipeline, renotification, steps = self.pipeline, self._renotification, StepSender(self.pipeline)
        return TimerTable(
            [
                Timer(self.quorums.texts, self.quorums.on_timer),
                Timer(self.outages.timers, self.outages.on_timer),
                Timer(pipeline.suppressions.timers, self._suppression_over),
                Timer(pipeline.throttles.timers, pipeline.throttle_has_room),
                Timer(pipeline.fors, pipeline.for_over),
                Timer(pipeline.offline_fors, pipeline.for_over),
                Timer(pipeline.children, pipeline.child_due),
                Timer(pipeline.verification.timers, self.triggers.answer_overdue),
                Timer(groups.timers, renotification.notify_group),
                Timer(reminders.feed_timers, renotification.remind),
                Timer(reminders.timers, renotification.remind),
                Timer(pipeline.escalations.other_timers, steps.on_timer),
                Timer(pipeline.escalations.timers, steps.on_timer),
                Timer(self.schedules.timers, self.schedules.on_timer),
                Timer(self.rate_limits.timers, self._rate_limited),
            ]
        )

    # What the step brought about

    @property
    def out(self) -> Output:
        """What the step in hand brought about."""
        return self.open_alerts.out

    def begin(self) -> None:
        """Start a step: what the last one brought about has been committed, or undone."""
        self.open_alerts.out = Output()

    # Rules

    @property
    def rules(self) -> dict[str, Rule]:
        """The rules in force and those that are being retired, by name."""
        return self.pipeline.rules

    @property
    def matcher(self) -> Matcher:
        """The rules in force."""
        return self.pipeline.matcher

    def use(self, matcher: Matcher, retired: Iterable[Rule] = (), now_ms: int = 0) -> None:
        """Work with these rules from `now_ms` on; `retired` ones only end the alerts they have."""
        pipeline, before = self.pipeline, self.pipeline.rules
        self.watches_duplicates = any("duplicate" in rule.triggers for rule in matcher.rules)
        rules = {rule.name: rule for rule in retired} | {rule.name: rule for rule in matcher.rules}
        self._notifier.names = {name: self._names_used(rule) for name, rule in rules.items()}
        pipeline.use(matcher, rules)
        self.outages.use(now_ms)
        self.quorums.use(now_ms)
        self.lookback.use(matcher.rules, now_ms)
        self.watches_addresses = self.quorums.quorums.reads_ip or pipeline.inhibitors.parents.reads_ip
        self.schedules.use(now_ms)
        self._compile_silences(self.silences.open.values())
        pipeline.stages.compile()
        # By other time intervals and other inhibitors than before.
        pipeline.suppressions.free(pipeline.suppressions.take_all(), now_ms)
        newly_repeated = [
            rule for name, rule in rules.items() if rule.repeat_ms and name in before and not before[name].repeat_ms
        ]
        self._renotification.begin_reminders(newly_repeated, now_ms)
        pipeline.escalations.use(rules, now_ms)
        if any(rule.escalate and name in before and not before[name].escalate for name, rule in rules.items()):
            pipeline.escalations.adopt(rules, pipeline.groups.all.values(), now_ms)

    def retire(self, rule: str, at_ms: int) -> None:
        """The rule is gone: alerts that were sent get their recovery, the others vanish."""
        for alert in self.open_alerts.of_rule(rule):
            if alert.open:
                state = self.pipeline.state_of_subject(alert)
                self.outages.end_alert(alert, at_ms, state, "rule_removed")
        self._renotification.retire_groups(rule, at_ms)
        self.outages.retire(rule)
        self.pipeline.retire(rule)
        self.pipeline.release_freed(at_ms)

    @property
    def throttles(self) -> dict[tuple[str, str], Throttled]:
        """Every throttle in which something counts or an alert waits, by rule and key."""
        return self.pipeline.throttles.all

    # What operators do

    def silence(self, silence: Silence, now_ms: int) -> None:
        """From `silence.from_ms` on, nothing that it covers fires; what fires already goes on."""
        self.out.silences[silence.id] = silence
        if silence.until_ms > now_ms:
            self._compile_silences([*self.silences.open.values(), silence])
            self.pipeline.suppressions.timers.push(silence.until_ms, silence_until(silence.id))

    def expire_silence(self, silence_id: str, now_ms: int) -> bool:
        """The silence is over now: what it suppressed and still holds fires, together. Was there such a silence?

        One that has not begun never does: its beginning is put where its end is.
        """
        known = self.silences.open.get(silence_id)
        if known is None:
            return False
        until_ms = min(known.until_ms, now_ms)
        freed = self._end_silence(replace(known, from_ms=min(known.from_ms, until_ms), until_ms=until_ms))
        self.pipeline.release(freed, now_ms)
        return True

    def _end_silence(self, silence: Silence) -> list[Alert]:
        """The silence is over: the alerts that waited for it."""
        self.out.silences[silence.id] = silence
        self._compile_silences([one for one in self.silences.open.values() if one.id != silence.id])
        return self.pipeline.suppressions.take(silence_until(silence.id))

    def _compile_silences(self, silences: Iterable[Silence]) -> None:
        before = bool(self.silences.open)
        self.silences.set(list(silences), self.variables.attributes, self.matcher.compile_patterns)
        if bool(self.silences.open) != before:
            self.pipeline.stages.compile()

    def acknowledge(
        self,
        now_ms: int,
        *,
        alert_id: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        by: str = "",
    ) -> int:
        """An operator knows of these alerts: no more reminders are sent. Returns how many were firing and not acknowledged.

        Every criterion that is given must hold; `alert_id` is an alert's, or a group's for all alerts in it. A client that is down in
        an outage or a quorum of the rule stands for it.
        """
        found = [
            alert
            for alert in (self.open_alerts if client is None else self.open_alerts.of(client))
            if (rule is None or alert.rule == rule)
            and (alert_id is None or alert_id in (alert.id, alert.notification_id))
        ]
        if not found and rule is not None and client is not None:
            key = self.quorums.quorums.key_where_down(rule, client)
            found = [
                alert
                for alert in self.open_alerts.of_rule(rule)
                if self.outages.is_down_in(client, alert) or (alert.trigger == "quorum" and alert.key == key)
            ]
        return self.pipeline.acknowledgements.acknowledge(found, by, now_ms)

    # Queries

    def take_requests(self) -> list[QueryRequest]:
        """Clients that alerts want queried, since they were taken last."""
        verification = self.pipeline.verification
        requests, verification.requests = verification.requests, []
        return requests

    @property
    def has_requests(self) -> bool:
        """Does an alert want a client queried?"""
        return bool(self.pipeline.verification.requests)

    # Timers

    @property
    def wake_ms(self) -> int:
        """No timer is due before this instant: it may be too early, never too late."""
        return self.wake_up.at_ms

    def next_timer(self, watermark_ms: int) -> tuple[int, Timer | None]:
        """When the earliest timer acts, and which one; (`FOREVER`, None) when none may."""
        return self._timers.next(watermark_ms)

    def next_keeping_replay_running(self) -> int:
        """When the earliest timer acts that keeps a replay running; alerts that are to be looked at at once count as well."""
        return 0 if self.pipeline.suppressions.freed else self._timers.next_keeping_replay_running()

    def rest(self) -> None:
        """Everything due has acted: note when something is due next, be it held back or not."""
        self.wake_up.at_ms = self._timers.next(FOREVER)[0]

    def release(self, due_by_ms: int, to_ms: int) -> None:
        """Event-time timers that should have acted by `due_by_ms` and were held back by the watermark act at `to_ms`."""
        self._timers.release(due_by_ms, to_ms)

    def resume(self, to_ms: int) -> None:
        """Time is about to pass to `to_ms`."""
        self.quorums.resume(to_ms)
        self.lookback.resume(to_ms)
        self.schedules.resume(to_ms)
        if self._to_look_at:
            self.pipeline.suppressions.free(self._to_look_at, to_ms)
            self._to_look_at = []
        if self._is_restored:
            self._is_restored = False
            self.pipeline.escalations.adopt(self.rules, self.pipeline.groups.all.values(), to_ms)

    def step(self, step_ms: int, now_ms: int, era: str) -> None:
        """The wall clock was set by `step_ms` and shows `now_ms`: what waits goes on waiting for as long as before.

        What people wrote down as an instant stays: the edges of time intervals, the ticks of schedules, the ends of a planned silence.
        A silence that began at once was made for so long, and lasts that long. `era`: see `OpenAlerts.era`.
        """
        self.open_alerts.era = era
        self._timers.shift(step_ms)
        self.open_alerts.step(step_ms, now_ms)
        self.pipeline.throttles.step(step_ms)
        self.pipeline.groups.step(step_ms)
        self.pipeline.escalations.step(step_ms)
        self.outages.step(step_ms)
        self.lookback.step(step_ms)
        self.rate_limits.step(step_ms)
        for burst in self.rate_limits.bursts.values():
            self.out.bursts[burst.rule] = burst
        self._step_silences(step_ms, now_ms)
        self.pipeline.step(now_ms)
        self.schedules.step(now_ms)
        self.wake_up.by(0)

    def _step_silences(self, step_ms: int, now_ms: int) -> None:
        """Silences that began at once last as long as before; a planned one whose end the clock has skipped ends now, and not in the past."""
        moved: list[Silence] = []
        for one in list(self.silences.open.values()):
            if one.planned:
                if one.until_ms <= now_ms:
                    self.pipeline.suppressions.free(self._end_silence(one), now_ms)
                continue
            from_ms = one.from_ms + step_ms if one.from_ms > now_ms else one.from_ms
            moved.append(replace(one, from_ms=from_ms, until_ms=one.until_ms + step_ms))
        for one in moved:
            self.out.silences[one.id] = one
            self.pipeline.suppressions.timers.push(one.until_ms, silence_until(one.id))
        if moved:
            self._compile_silences((self.silences.open | {one.id: one for one in moved}).values())

    def _suppression_over(self, until: str, at_ms: int) -> None:
        """The edge of a time interval, a silence's end, or alerts that nothing suppresses any more.

        What ends in one instant ends before any of them is looked at: they fire together.
        """
        kind, _, name = until.partition("\0")
        if until == FREED:
            self.pipeline.release_freed(at_ms)
        elif kind == "silence":
            self.pipeline.suppressions.free(self._end_silence(self.silences.open[name]), at_ms)
        else:
            self.pipeline.interval_edge(name, at_ms)

    def _rate_limited(self, burst: Burst, at_ms: int) -> None:
        self._notifier.rate_limited(self.rules.get(burst.rule), burst, at_ms)

    def purge(self, at_ms: int, limit: int = PURGED_AT_ONCE) -> None:
        """Forget throttles and bursts in which nothing counts any more; looks at some, and at the next at the next call."""
        self.pipeline.throttles.purge(self.rules, at_ms, limit)
        for burst in self.rate_limits.purge(at_ms):
            self.out.bursts[burst.rule] = burst
        self.routing.purge(self.pipeline.groups.names(), at_ms)

    # After a restart

    def restore(
        self, alerts: Iterable[Alert], throttles: Iterable[Throttled], kept: Kept | None = None, now_ms: int = 0
    ) -> None:
        """Start again from what the store holds: open alerts, counted firings, and what else was going on.

        `now_ms`: the instant as of which that is, as far as it is known.
        """
        kept, pipeline = kept or Kept(), self.pipeline
        alerts = list(alerts)
        base_ms = max([now_ms, *[alert.fired_at_ms or alert.started_at_ms for alert in alerts]])
        self._to_look_at = []
        pipeline.clear_timers()
        pipeline.throttles.restore(throttles)
        self.rate_limits.restore(kept.bursts)
        self.routing.restore(kept.routed)
        self.open_alerts.restore(alerts)
        self._compile_silences([silence for silence in kept.silences if silence.until_ms > base_ms])
        for silence in self.silences.open.values():
            pipeline.suppressions.timers.push(silence.until_ms, silence_until(silence.id))
        self.outages.restore(alerts, kept.outages, kept.members)
        self.outages.count_all()
        self.quorums.restore()
        self.lookback.restore(kept.past)
        self.inhibitors.parents.file_all(alerts)
        self._renotification.restore(kept.groups, alerts, base_ms)
        pipeline.escalations.restore(kept.escalations, kept.groups, self.rules)
        pipeline.acknowledgements.restore()
        self._is_restored = any(rule.escalate for rule in self.rules.values())
        self.schedules.restore(kept.schedules)
        names = {alert.name for alert in alerts}
        for alert in alerts:
            if alert.state == PENDING:
                pipeline.await_for(alert)
            elif alert.state == SUPPRESSED and not pipeline.restore_suppressed(alert, names, base_ms):
                self._to_look_at.append(alert)
            elif alert.state == FIRING and alert.until and not pipeline.restore_muted(alert, names, base_ms):
                pipeline.escalations.look_again(alert, base_ms)
