"""From an alert that is due to its firing, and to its end: through the stages of its rule, in their order.

    trigger ─► pending ─(for)─► condition ─► flapping · mute · silence · inhibited ─► throttle · verify ─► firing ─► notification
                                             one alert after the other                those that are left, together

`stage_compiler.STAGES` is the one place where the order of the stages is written; a rule gets only those that it needs, so a stage
that it lacks costs nothing. `why-not`, `explain`, `deliveries show` and the console walk the same stages.
What is suppressed is looked at again when what suppresses it has ended (`release`): alerts of a rule that pass by then fire
together. Read `Pipeline.due`, `Pipeline.release` and `Pipeline._fire`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from engine.core.alerting import lifecycle
from engine.core.alerting.acknowledgements import Acknowledgements
from engine.core.alerting.alert import FIRING, PENDING, SUPPRESSED, Alert, Throttled
from engine.core.alerting.escalations import Escalations
from engine.core.alerting.group_notifications import GroupNotifications
from engine.core.alerting.groups import Groups
from engine.core.alerting.notification import Notifier
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.parents import STILL_INHIBITING
from engine.core.alerting.planned_delivery import PHASE_FIRING, PHASE_RECOVERY
from engine.core.alerting.reminders import Reminders
from engine.core.alerting.silences import Silences
from engine.core.alerting.stage_compiler import RuleStages, StageCompiler
from engine.core.alerting.stages import flapping, throttle, verification
from engine.core.alerting.stages.base import AWAITS_ANSWER, PASS, Stage, Suppressed, Verdict
from engine.core.alerting.stages.inhibition import Inhibitors
from engine.core.alerting.stages.throttle import Throttles
from engine.core.alerting.stages.verification import Verification
from engine.core.alerting.suppressions import Suppressions, mute_until
from engine.core.alerting.template_variables import VariableSource
from engine.core.matching import Matcher
from engine.core.presence.client_state import NEW_CLIENT, ClientState, Transition
from engine.core.rules import AT_ONCE, Rule, inhibitors_of, tells_recovery
from engine.core.timers import CHILDREN, FORS, OFFLINE_FORS, NextWakeUp, TimerQueue

RESTS_ON_SILENCE: Final = frozenset({"offline", "quorum"})
"""Triggers whose `for` is over only when no event can be waiting to be read that ends it."""


class Pipeline:
    """Every rule's stages, and what becomes of alerts in them."""

    def __init__(
        self,
        *,
        alerts: OpenAlerts,
        wake_up: NextWakeUp,
        variables: VariableSource,
        notifier: Notifier,
        groups: Groups,
        reminders: Reminders,
        escalations: Escalations,
        acknowledgements: Acknowledgements,
        silences: Silences,
        inhibitors: Inhibitors,
        state_of: Callable[[str], ClientState],
        matcher: Matcher,
    ) -> None:
        self.alerts: Final = alerts
        self.notifier: Final = notifier
        self.groups: Final = groups
        self.reminders: Final = reminders
        self.escalations: Final = escalations
        self.acknowledgements: Final = acknowledgements
        self.group_notifications: Final = GroupNotifications(alerts, groups, notifier, reminders, escalations)
        self.inhibitors: Final = inhibitors
        self.variables: Final = variables
        self.silences: Final = silences
        self.suppressions: Final = Suppressions(wake_up, self._suppression_ends_at)
        self.throttles: Final = Throttles(alerts, wake_up)
        self.verification: Final = Verification(alerts, wake_up, variables.current_policy)
        self.fors: Final = TimerQueue(FORS, wake_up, _is_pending)
        self.offline_fors: Final = TimerQueue(OFFLINE_FORS, wake_up, _is_pending)
        self.children: Final = TimerQueue(CHILDREN, wake_up, _is_pending)
        self.matcher = matcher  # the rules in force
        self.rules: dict[str, Rule] = {}  # and those that are being retired
        self.state_of: Final = state_of
        self._depths: dict[str, int] = {}  # how many rules inhibit one another above a rule; most are not in here
        self.stages: Final = StageCompiler(
            silences=silences,
            suppressions=self.suppressions,
            inhibitors=inhibitors,
            throttles=self.throttles,
            verification=self.verification,
            variables=variables,
            state_of=state_of,
        )

    # Rules

    def use(self, matcher: Matcher, rules: dict[str, Rule]) -> None:
        """Work with these rules from now on; `rules` also has those that are being retired."""
        self.matcher, self.rules = matcher, rules
        self.inhibitors.rules, self.inhibitors.matcher = rules, matcher
        self.acknowledgements.rules = rules
        self.inhibitors.parents.use(rules, self.alerts)
        self._depths = _depths(matcher.rules)
        self.stages.use(rules)

    def retire(self, rule: str) -> None:
        """The rule is gone for good."""
        self.rules.pop(rule, None)
        self.stages.retire(rule)
        self.throttles.retire(rule)

    # Opening

    def open(
        self, rule: Rule, trigger: str, client: str, state: ClientState, transition: Transition | None, at_ms: int
    ) -> None:
        """A rule's trigger has happened for a client: a new alert, which is due at once or when `for` is over."""
        due_ms = at_ms
        if rule.for_ms and transition is not None and trigger != "first_seen":
            due_ms = max(at_ms, transition.since_ms + rule.for_ms)
        alert = self.alerts.add(rule, trigger, at_ms, client=client, due_ms=due_ms, transition=transition)
        self.opened(alert, state, at_ms)

    def opened(self, alert: Alert, state: ClientState, at_ms: int) -> None:
        """A new alert is due at `alert.due_at_ms`: now, or when `for` is over."""
        if alert.due_at_ms > at_ms:
            self.alerts.line(alert, at_ms)
            self.await_for(alert)
        elif self.rules[alert.rule].parents:
            self.children.push(at_ms, alert, self._depths.get(alert.rule, 0))
        else:
            self.due(alert, state, at_ms)

    def await_for(self, alert: Alert) -> None:
        """The alert is pending until its `for` is over."""
        queue = self.offline_fors if alert.trigger in RESTS_ON_SILENCE else self.fors
        queue.push(alert.due_at_ms, alert, self._depths.get(alert.rule, 0))

    def for_over(self, alert: Alert, at_ms: int) -> None:
        """The timer of an alert's `for`. Alerts that have parents are decided last of an instant, when all parents are."""
        rule = self.rules.get(alert.rule)
        if rule is not None and rule.parents:
            self.children.push(at_ms, alert, self._depths.get(alert.rule, 0))
        else:
            self.due(alert, self.state_of_subject(alert), at_ms)

    def child_due(self, alert: Alert, at_ms: int) -> None:
        """Everything else of this instant that could inhibit the alert has happened."""
        self.due(alert, self.state_of_subject(alert), at_ms)

    def state_of_subject(self, alert: Alert) -> ClientState:
        """The state of the client that the alert is about; `NEW_CLIENT` when it is about none."""
        return self.state_of(alert.client) if alert.client is not None else NEW_CLIENT

    # Due: firing, or not

    def due(self, alert: Alert, state: ClientState, at_ms: int) -> None:
        """The alert is due: it fires, unless its condition fails or a stage does not pass."""
        compiled = self.stages.of(alert.rule)
        if compiled is None:
            self.drop(alert, at_ms)
            return
        if (
            alert.reason is None
            and not alert.verified
            and not self._condition_holds(compiled.rule, alert, state, at_ms)
        ):
            self.drop(alert, at_ms)
            return
        if self._passes(compiled.one_by_one, alert, state, at_ms):
            if compiled.counting:
                self._fire_what_counts(compiled, [alert], at_ms)
            else:
                self._fire(compiled.rule, [alert], at_ms)

    def _condition_holds(self, rule: Rule, alert: Alert, state: ClientState, at_ms: int) -> bool:
        if rule.condition is None or alert.trigger == "schedule":  # a schedule asks it of each client
            return True
        return rule.condition(self.variables.of_alert(rule, alert, state, at_ms, rule.condition_names))

    def _passes(self, stages: tuple[Stage, ...], alert: Alert, state: ClientState, at_ms: int) -> bool:
        """Does every stage pass? The first that does not decides what becomes of the alert."""
        for stage in stages:
            verdict = stage.check(alert, state, at_ms)
            if verdict is PASS:
                continue
            if verdict is AWAITS_ANSWER:
                self._await_answer(alert, at_ms)
            else:
                assert isinstance(verdict, Suppressed)
                self.suppress(alert, stage, verdict, at_ms)
            return False
        return True

    def release(self, alerts: Iterable[Alert], at_ms: int) -> None:
        """What suppressed these has ended: those of a rule that pass every stage now fire together."""
        by_rule: dict[str, list[Alert]] = {}
        for alert in alerts:
            if alert.open and alert.state == SUPPRESSED:
                by_rule.setdefault(alert.rule, []).append(alert)
            elif alert.state == FIRING:
                self.escalations.look_again(alert, at_ms)
        for name in self._inhibitors_first(by_rule):
            compiled = self.stages.of(name)
            if compiled is None:
                for alert in by_rule[name]:
                    self.drop(alert, at_ms)
                continue
            ready = [
                alert
                for alert in by_rule[name]
                if self._passes(compiled.one_by_one, alert, self.state_of_subject(alert), at_ms)
            ]
            if ready:
                self._fire_what_counts(compiled, ready, at_ms)

    def _inhibitors_first(self, names: Mapping[str, object]) -> Iterable[str]:
        depths = self._depths
        return sorted(names, key=lambda name: depths.get(name, 0)) if depths else names

    def release_freed(self, at_ms: int) -> None:
        """Look at the alerts that nothing suppresses any more."""
        while self.suppressions.freed:
            self.release(self.suppressions.take_freed(), at_ms)

    def _fire_what_counts(self, compiled: RuleStages, alerts: Sequence[Alert], at_ms: int) -> None:
        """These have passed the stages that look at one alert: those that pass the others too fire together."""
        ready = [
            alert for alert in alerts if self._passes(compiled.counting, alert, self.state_of_subject(alert), at_ms)
        ]
        if ready:
            for stage in compiled.counting:
                stage.passed(ready, at_ms)
            self._fire(compiled.rule, ready, at_ms)

    def _await_answer(self, alert: Alert, at_ms: int) -> None:
        """The broker is to be asked before the alert fires."""
        if alert.verify_until_ms is None:
            lifecycle.await_answer(alert)
            self.verification.begin(self.rules[alert.rule], alert, at_ms)

    def suppress(self, alert: Alert, stage: Stage | None, verdict: Suppressed, at_ms: int) -> None:
        """A stage does not pass: the alert waits for what suppresses it. A schedule's does not: its list would grow old."""
        self.throttles.leave(alert)
        self.suppressions.leave(alert)
        if lifecycle.suppress(alert, verdict.reason):
            self.alerts.line(alert, at_ms)
            if alert.trigger == "outage" and verdict.reason not in STILL_INHIBITING:
                self.suppressions.inhibitor_ended(alert, at_ms)
        if self.inhibitors.parents.watched:
            self._note_parent(alert, at_ms)
        if alert.trigger == "schedule" or verdict.is_final:
            self.drop(alert, at_ms)
        elif stage is not None:
            stage.wait(alert, verdict.until, at_ms)

    def flapping_started(self, alert: Alert, state: ClientState, at_ms: int) -> None:
        """The client of a suppressed alert began to flap: from now on it waits for the end of that, if its rule skips flapping."""
        compiled = self.stages.of(alert.rule)
        if compiled is not None and self.stages.flapping in compiled.stages:
            verdict = self.stages.flapping.check(alert, state, at_ms)
            if isinstance(verdict, Suppressed):
                self.suppress(alert, self.stages.flapping, verdict, at_ms)

    def suppressed_after_firing(self, alert: Alert, at_ms: int) -> bool:
        """An alert fires but its group was not notified yet: does a stage suppress it meanwhile?"""
        found = self._muting_stage(alert, at_ms)
        if found is None:
            return False
        stage, verdict = found
        self.suppress(alert, stage, verdict, at_ms)
        return True

    def may_remind(self, alert: Alert, at_ms: int) -> bool:
        """May a reminder of the alert, or a step of its escalation, be sent now?"""
        return self._muting_stage(alert, at_ms) is None

    def await_unmuted(self, alert: Alert, at_ms: int) -> None:
        """Have an alert looked at that fires and is muted, when that ends: see `release`."""
        self.suppressions.leave(alert)
        found = self._muting_stage(alert, at_ms)
        if found is not None:
            found[0].wait(alert, found[1].until, at_ms)

    def _muting_stage(self, alert: Alert, at_ms: int) -> tuple[Stage, Suppressed] | None:
        """The stage that mutes an alert that fires; None for none."""
        compiled = self.stages.of(alert.rule)
        if compiled is not None and compiled.before_reminders:
            state = self.state_of_subject(alert)
            for stage in compiled.before_reminders:
                verdict = stage.check(alert, state, at_ms)
                if isinstance(verdict, Suppressed):
                    return stage, verdict
        return None

    def _fire(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        """Fire alerts of one rule by one decision; several are a bundle, unless the rule groups them."""
        is_grouped = rule.grouping is not None and alerts[0].client is not None
        is_alone = len(alerts) == 1 and not is_grouped
        for alert in alerts:
            lifecycle.fire(alert, at_ms)
            alert.notified = is_alone
            self.alerts.line(alert, at_ms)
            if self.inhibitors.parents.watched:
                self._note_parent(alert, at_ms)
        if is_grouped:
            self.groups.enter(rule, alerts, at_ms)
        elif not is_alone:
            self.group_notifications.bundle(rule, alerts, at_ms)
        else:
            self.notifier.one(rule, alerts[0], PHASE_FIRING, at_ms, self.state_of_subject(alerts[0]))
            if rule.repeat_ms:
                self.reminders.plan(rule, alerts[0], at_ms)
            if rule.escalate:
                self.escalations.begin(rule, alerts[0], at_ms)
        for alert in alerts:
            if alert.trigger in AT_ONCE:
                self._resolve(alert, at_ms)

    # Its end

    def end(
        self,
        alert: Alert,
        at_ms: int,
        state: ClientState,
        transition: Transition | None = None,
        reason: str | None = None,
    ) -> None:
        """What the alert is about has ended: a recovery if its firing was sent, no word if not."""
        if alert.state != FIRING:
            self.drop(alert, at_ms)
            return
        self._resolve(alert, at_ms, reason)
        rule = self.rules.get(alert.rule)
        if rule is not None and tells_recovery(rule) and alert.notified and alert.group is None:
            self.notifier.one(rule, alert, PHASE_RECOVERY, at_ms, state, transition)
        self.escalations.left(alert)

    def _resolve(self, alert: Alert, at_ms: int, reason: str | None = None) -> None:
        lifecycle.resolve(alert, at_ms, reason)
        self.alerts.line(alert, at_ms)
        self._leave(alert, at_ms)

    def drop(self, alert: Alert, at_ms: int) -> None:
        """Nobody was notified of it: it is closed without a line."""
        lifecycle.drop(alert, at_ms)
        self.alerts.changed(alert)
        self._leave(alert, at_ms)
        self.escalations.left(alert)

    def _leave(self, alert: Alert, at_ms: int) -> None:
        self.alerts.remove(alert)
        if alert.throttle_key:
            self.throttles.leave(alert)
        if alert.until:
            self.suppressions.leave(alert)
        if alert.group is not None:
            self.groups.leave(alert, self.rules.get(alert.rule), at_ms)
            self.acknowledgements.left(alert, at_ms)
        if self.suppressions.any_waiting:
            self.suppressions.inhibitor_ended(alert, at_ms)
        if self.inhibitors.parents.watched:
            self._note_parent(alert, at_ms)

    def _note_parent(self, alert: Alert, at_ms: int) -> None:
        """An alert may inhibit others by its values, or no longer: who waited for the last one with these values is looked at."""
        for until in self.inhibitors.parents.note(alert):
            self.suppressions.free(self.suppressions.take(until), at_ms)

    def parent_moved(self, client: str, at_ms: int) -> None:
        """A client's address is another: its alerts inhibit others than before."""
        for until in self.inhibitors.parents.moved(self.alerts.of(client)):
            self.suppressions.free(self.suppressions.take(until), at_ms)

    # Timers

    def _suppression_ends_at(self, until: str) -> int | None:
        kind, _, name = until.partition("\0")
        if kind == "mute":
            intervals = self.stages.intervals.get(name)
            return None if intervals is None else intervals.edge_ms
        open_silence = self.silences.open.get(name)
        return None if open_silence is None else open_silence.until_ms

    def interval_edge(self, rule: str, at_ms: int) -> None:
        """The time intervals of a rule may say otherwise: what they suppressed is looked at, unless they still mute it."""
        intervals = self.stages.intervals.get(rule)
        if intervals is None:
            return
        intervals.edge_ms = None
        if intervals.is_muted(at_ms):
            intervals.await_edge(at_ms)
        else:
            self.suppressions.free(self.suppressions.take(mute_until(rule)), at_ms)

    def throttle_has_room(self, throttled: Throttled, at_ms: int) -> None:
        """The timer of a throttle: those whose status still holds fire together, if there is room."""
        throttled.room_at_ms = None
        rule = self.rules.get(throttled.rule)
        if rule is None:
            return
        if not throttle.has_room(rule.throttle, throttled, at_ms):
            self.throttles.await_room(rule.throttle, throttled)
            return
        waiting = list(throttled.waiting.values())
        throttled.waiting.clear()
        self.release(waiting, at_ms)

    def step(self, now_ms: int) -> None:
        """The clock was set and shows `now_ms`: time intervals may say otherwise now, and what is freed is looked at."""
        for rule, intervals in self.stages.intervals.items():
            if intervals.edge_ms is not None:
                intervals.edge_ms = now_ms
                self.suppressions.await_edge(now_ms, rule)
        self.suppressions.free_again(now_ms)

    # After a restart

    def clear_timers(self) -> None:
        """Start again: no alert waits for anything."""
        self.verification.clear()
        self.fors.clear()
        self.offline_fors.clear()
        self.children.clear()
        self.suppressions.clear()
        for intervals in self.stages.intervals.values():
            intervals.edge_ms = None

    def restore_suppressed(self, alert: Alert, names: Collection[str], at_ms: int) -> bool:
        """Find what suppresses an alert that was suppressed when it was kept. False when nothing does any more.

        `names`: those of all alerts that were kept.
        """
        rule = self.rules.get(alert.rule)
        if alert.reason == throttle.REASON:
            throttled = self.throttles.of(alert.rule, alert.throttle_key)
            if rule is None:
                throttled.waiting[alert.name] = alert
            else:
                self.throttles.wait(rule.throttle, throttled, alert)
        elif alert.reason == verification.REASON:
            self.verification.request(alert, 0)
        elif alert.reason != flapping.REASON and rule is not None:
            return self._find_suppressing_stage(alert, names, max(at_ms, alert.due_at_ms))
        return True

    def restore_muted(self, alert: Alert, names: Collection[str], at_ms: int) -> bool:
        """Have an alert wait again that fires and was muted when it was kept. False when that is over. See `await_unmuted`."""
        until, alert.until = alert.until, ""
        if not self._still_goes_on(alert.rule, until, names, at_ms):
            return False
        intervals = self.stages.intervals.get(alert.rule)
        if intervals is not None and until == mute_until(alert.rule):
            intervals.await_edge(at_ms)
        self.suppressions.wait(until, alert)
        return True

    def _find_suppressing_stage(self, alert: Alert, names: Collection[str], at_ms: int) -> bool:
        until, alert.until = alert.until, ""
        compiled = self.stages.of(alert.rule)
        for stage in compiled.stages if compiled is not None else ():
            if stage.reason != alert.reason:
                continue
            verdict: Verdict = Suppressed(stage.reason, until)
            if not self._still_goes_on(alert.rule, until, names, at_ms):
                verdict = stage.check(alert, self.state_of_subject(alert), at_ms)
            if isinstance(verdict, Suppressed):
                self.suppress(alert, stage, verdict, at_ms)
                return True
        return False

    def _still_goes_on(self, rule: str, until: str, names: Collection[str], at_ms: int) -> bool:
        """Is what the alert waited for when it was kept still going on?"""
        kind, _, name = until.partition("\0")
        if kind == "mute":
            intervals = self.stages.intervals.get(rule)
            return intervals is not None and intervals.is_muted(at_ms)
        if kind == "silence":
            return name in self.silences.open
        if kind == "parent":
            return self.inhibitors.parents.goes_on(until)
        return kind == "alert" and name in names


def _is_pending(alert: Alert, due_ms: int) -> bool:
    return alert.state == PENDING and alert.resolved_at_ms is None


def _depths(rules: Sequence[Rule]) -> dict[str, int]:
    """How many rules inhibit one another above each rule that is inhibited at all; inhibitors come first.

    An outage may inhibit every rule but those that inhibit it: these and it come before all others.
    """
    found: dict[str, int] = {}
    for rule in rules:
        inhibitors = inhibitors_of(rule)
        if inhibitors:
            found[rule.name] = 1 + max([found.get(name, 0) for name in inhibitors])
    first: set[str] = set()
    for rule in reversed(rules):
        if rule.name in first or (rule.outage is not None and rule.outage.inhibit):
            first.add(rule.name)
            first.update(inhibitors_of(rule))
    if first:
        above = 1 + max([found.get(name, 0) for name in first])
        for rule in rules:
            if rule.name not in first:
                found[rule.name] = found.get(rule.name, 0) + above
    return found
