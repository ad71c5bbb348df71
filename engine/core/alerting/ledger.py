"""The life of one alert, from opening to its end, and what keeps it from firing meanwhile.

`Ledger` holds every open alert and all they share; `alerting.AlertManager` is the ledger that is told what happens. Read
`Ledger._gate` and `Ledger._release` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from engine.core.alerting.alert import Alert, AlertLine, Output, Throttled
from engine.core.alerting.gates import Gates, Held
from engine.core.alerting.notification import Notifier
from engine.core.alerting.planning import FIRING, RECOVERY
from engine.core.alerting.stages.throttle import Throttles
from engine.core.matching import Attributes
from engine.core.presence.client_state import NEW_CLIENT, ClientState, Transition
from engine.core.presence.debounce import Policy
from engine.core.rules import AT_ONCE, Rule
from engine.core.timers import NextWakeUp, TimerQueue

FREED = "freed"
"""An entry of `Ledger.endings`: alerts whose holder has ended are to be looked at."""


class Ledger:
    """Every open alert, and what they wait for."""

    def __init__(
        self, policy: Policy, attributes: Attributes, state_of: Callable[[str], ClientState], burst: int
    ) -> None:
        self.out = Output()
        self.alarm = NextWakeUp()
        self.rules: dict[str, Rule] = {}
        self.active: dict[str, list[Alert]] = {}
        self.gates = Gates(self.active, state_of)
        self.teller = Notifier(policy, attributes, state_of, self.alarm, burst)
        self.teller.outages = self.gates.outages
        self.throttling = Throttles(self.alarm)
        self.held = Held()
        self.endings = TimerQueue(self.alarm, self._is_ending)  # of windows and silences: (what, which)
        self.edges: dict[str, int] = {}  # rule -> when its windows are looked at
        self.silent_fors = TimerQueue(self.alarm, _is_pending, silent=True)
        self.fors = TimerQueue(self.alarm, _is_pending)
        self._depths: dict[str, int] = {}  # how many rules inhibit one another above a rule; most are not in here
        self._freed: list[Alert] = []
        self._state_of = state_of
        self._born_ms = -1  # the instant of the newest alert, and how often each id was asked for in it
        self._born: dict[str, int] = {}

    # Opening

    def _open(
        self, rule: Rule, trigger: str, client: str, state: ClientState, transition: Transition | None, at_ms: int
    ) -> None:
        due_ms = at_ms
        if rule.for_ms and transition is not None and trigger != "first_seen":
            due_ms = max(at_ms, transition.since_ms + rule.for_ms)
        alert = self._new(rule, trigger, client, None, at_ms, due_ms, transition)
        if due_ms > at_ms:
            self._line(alert, at_ms)
            self._await_for(alert)
        else:
            self._gate(alert, state, at_ms)

    def _new(
        self,
        rule: Rule,
        trigger: str,
        client: str | None,
        source: str | None,
        at_ms: int,
        due_ms: int,
        transition: Transition | None,
        key: str | None = None,
    ) -> Alert:
        since = transition.since_ms if transition else at_ms
        about = source if key is None else key
        name = self._distinct(f"{rule.name}\0{client}\0{about}\0{trigger}\0{since}\0{at_ms}", at_ms)
        alert = Alert(name, rule.name, client, source, trigger, "pending", at_ms, due_ms, transition, key=key)
        self.active.setdefault(alert.subject, []).append(alert)
        self.out.alerts[name] = alert
        return alert

    def _distinct(self, name: str, at_ms: int) -> str:
        """A name of its own for what happens more than once in one instant: without a hold, a client can come and go."""
        if at_ms != self._born_ms:
            self._born_ms, self._born = at_ms, {}
        before = self._born.get(name, 0)
        self._born[name] = before + 1
        return f"{name}\0{before}" if before else name

    def _await_for(self, alert: Alert) -> None:
        agenda = self.silent_fors if alert.trigger == "offline" else self.fors
        agenda.push(alert.due_at_ms, alert, self._depths.get(alert.rule, 0))

    # Due: firing, or not

    def _gate(self, alert: Alert, state: ClientState, at_ms: int) -> None:
        """The alert is due: it fires, unless its condition fails or a gate is closed."""
        rule = self.rules.get(alert.rule)
        if rule is None:
            self._drop(alert, at_ms)
            return
        if alert.reason is None and not alert.verified and not self._condition_holds(rule, alert, state, at_ms):
            self._drop(alert, at_ms)
            return
        reason, holder = self.gates.closed(rule, alert, state, at_ms)
        if reason:
            self._hold(rule, alert, reason, holder, at_ms)
            return
        self._pass_throttle(rule, [alert], at_ms)

    def _condition_holds(self, rule: Rule, alert: Alert, state: ClientState, at_ms: int) -> bool:
        if rule.condition is None or alert.trigger == "schedule":  # a roll call asks it of each client
            return True
        return rule.condition(self.teller.variables(rule, alert, state, at_ms, rule.condition_names))

    def _release(self, alerts: Iterable[Alert], at_ms: int) -> None:
        """What held these back has ended: those of a rule that no other gate holds fire together."""
        by_rule: dict[str, list[Alert]] = {}
        for alert in alerts:
            if alert.open and alert.state == "suppressed":
                by_rule.setdefault(alert.rule, []).append(alert)
        depths = self._depths
        for name in sorted(by_rule, key=lambda name: depths.get(name, 0)) if depths else by_rule:
            rule = self.rules.get(name)
            ready = []
            for alert in by_rule[name]:
                if rule is None:
                    self._drop(alert, at_ms)
                    continue
                reason, holder = self.gates.closed(rule, alert, self._subject_state(alert), at_ms)
                if reason:
                    self._hold(rule, alert, reason, holder, at_ms)
                else:
                    ready.append(alert)
            if rule is not None and ready:
                self._pass_throttle(rule, ready, at_ms)

    def _pass_throttle(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        """All gates before are open: those of a throttle with room that need no verdict (any more) fire together."""
        throttle = rule.throttle
        if throttle is None and not rule.verify:
            self._fire_together(rule, alerts, at_ms)
            return
        throttling, attributes = self.throttling, self.teller.attributes
        rooms: dict[str, bool] = {}
        counted: dict[str, Throttled] = {}
        ready = []
        for alert in alerts:
            throttled = None
            if throttle is not None:
                throttled = throttling.of(rule, alert, self._subject_state(alert).ip, attributes)
                has_room = rooms.get(throttled.key)
                if has_room is None:
                    has_room = rooms[throttled.key] = throttling.has_room(rule, throttled, at_ms)
                if not has_room:
                    self._hold(rule, alert, "throttle", "", at_ms)
                    if alert.open:
                        throttling.wait(rule, throttled, alert)
                    continue
            if self._needs_verdict(rule, alert):
                self._await_verdict(rule, alert, at_ms)
                continue
            if throttled is not None:
                counted[throttled.key] = throttled
            ready.append(alert)
        for throttled in counted.values():
            throttling.count(self.out, throttled, at_ms)
        if ready:
            self._fire_together(rule, ready, at_ms)

    def _needs_verdict(self, rule: Rule, alert: Alert) -> bool:
        """Is the alert to be verified before it fires, and not yet?"""
        raise NotImplementedError

    def _await_verdict(self, rule: Rule, alert: Alert, at_ms: int) -> None:
        """Somebody is to be asked whether it is true."""
        raise NotImplementedError

    def _hold(self, rule: Rule, alert: Alert, reason: str, holder: str, at_ms: int) -> None:
        """A gate is closed: the alert waits for what holds it. A roll call does not: its list would grow old."""
        self.throttling.leave(alert)
        self.held.drop(alert)
        self._suppress(alert, reason, at_ms)
        if alert.trigger == "schedule":
            self._drop(alert, at_ms)
        elif holder:
            if reason == "mute":
                self._await_edge(rule, at_ms)
            self.held.add(holder, alert)

    def _await_edge(self, rule: Rule, at_ms: int) -> None:
        """Look at what the rule's windows hold when they may say otherwise."""
        due_ms = self.gates.window_edge(rule, at_ms)
        if self.edges.get(rule.name) != due_ms:
            self.edges[rule.name] = due_ms
            self.endings.push(due_ms, ("mute", rule.name))

    def _suppress(self, alert: Alert, reason: str, at_ms: int) -> None:
        if alert.state == "suppressed" and alert.reason == reason:
            return
        alert.state, alert.reason = "suppressed", reason
        self._line(alert, at_ms)

    def _fire_together(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        """Fire alerts of one rule by one decision: one delivery an action, with the list when there are several."""
        is_grouped = rule.grouping is not None and alerts[0].client is not None
        for alert in alerts:
            alert.state, alert.reason, alert.fired_at_ms, alert.told = "firing", None, at_ms, not is_grouped
            self._line(alert, at_ms)
        if is_grouped:
            self._enter_group(rule, alerts, at_ms)
        elif len(alerts) == 1:
            first = alerts[0]
            self.teller.alone(self.out, rule, first, FIRING, at_ms, self._subject_state(first))
        else:
            self.teller.together(self.out, rule, alerts, FIRING, at_ms)
        if rule.repeat_ms and not is_grouped:
            self._await_reminder(rule, alerts, at_ms)
        for alert in alerts:
            if alert.trigger in AT_ONCE:
                self._resolve(alert, at_ms)

    def _enter_group(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        """What fires is told with the others of its group."""
        raise NotImplementedError

    def _leave_group(self, alert: Alert, at_ms: int) -> None:
        """It fires no more."""
        raise NotImplementedError

    def _await_reminder(self, rule: Rule, alerts: Sequence[Alert], at_ms: int) -> None:
        """Those who were told are told again, `repeat` later."""
        raise NotImplementedError

    def _subject_state(self, alert: Alert) -> ClientState:
        return self._state_of(alert.client) if alert.client is not None else NEW_CLIENT

    # Its end

    def _end(
        self,
        alert: Alert,
        at_ms: int,
        state: ClientState,
        transition: Transition | None,
        reason: str | None = None,
    ) -> None:
        """What the alert is about has ended: recovery if anyone was told, silence if not."""
        if alert.state != "firing":
            self._drop(alert, at_ms)
            return
        alert.reason = reason
        self._resolve(alert, at_ms)
        rule = self.rules.get(alert.rule)
        if rule is not None and rule.on_recovery and alert.told and alert.group is None:
            self.teller.alone(self.out, rule, alert, RECOVERY, at_ms, state, transition)

    def _resolve(self, alert: Alert, at_ms: int) -> None:
        alert.state, alert.resolved_at_ms = "resolved", at_ms
        self._line(alert, at_ms)
        self._leave(alert, at_ms)

    def _drop(self, alert: Alert, at_ms: int) -> None:
        """Nobody heard of it: it goes without a line. A suppressed one stays in the records as what it was."""
        alert.resolved_at_ms = at_ms
        if alert.state != "suppressed":
            alert.state = "dropped"
        self.out.alerts[alert.name] = alert
        self._leave(alert, at_ms)

    def _leave(self, alert: Alert, at_ms: int) -> None:
        alerts = self.active[alert.subject]
        alerts.remove(alert)
        if not alerts:
            del self.active[alert.subject]
        if alert.throttle_key:
            self.throttling.leave(alert)
        if alert.held_by:
            self.held.drop(alert)
        if alert.group is not None:
            self._leave_group(alert, at_ms)
        holder = f"alert\0{alert.name}" if self.gates.inhibits else ""
        if holder and self.held.has(holder):
            self._freed += self.held.take(holder)
            self.endings.push(at_ms, (FREED, ""))

    def _free(self, at_ms: int) -> None:
        """Look at those whose inhibitor has ended."""
        while self._freed:
            freed, self._freed = self._freed, []
            self._release(freed, at_ms)

    def _is_ending(self, ending: tuple[str, str], due_ms: int) -> bool:
        what, name = ending
        if what == "mute":
            return self.edges.get(name) == due_ms
        if what == "silence":
            silence = self.gates.silences.open.get(name)
            return silence is not None and silence.until_ms == due_ms
        return bool(self._freed)

    def _line(self, alert: Alert, at_ms: int) -> None:
        self.out.alerts[alert.name] = alert
        self.out.lines.append(AlertLine(alert.rule, alert.client, alert.shown_key, alert.state, alert.reason, at_ms))


def _is_pending(alert: Alert, due_ms: int) -> bool:
    return alert.state == "pending" and alert.resolved_at_ms is None
