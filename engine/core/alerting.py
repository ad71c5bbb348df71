"""An alert's life: pending, firing, resolved or suppressed; and the throttles that many alerts share.

| state      | from        | because                                                   | leaves                              |
|------------|-------------|-----------------------------------------------------------|-------------------------------------|
| pending    | (new)       | the trigger happened, `for` is not over                   | when `for` is over, or it reverts   |
| firing     | any of these| due, the condition holds and no gate is closed            | when what it is about ends          |
| suppressed | pending     | due, but a gate is closed: `flapping`, `throttle`, `verify` | when the gate opens, or it reverts |
| resolved   | firing      | the opposite transition, the end of what it is about      | -                                   |

A pending or suppressed alert whose status reverts is dropped: nobody heard of it, so nobody hears of its end. Gates are
asked in the order of their names above, and the first that is closed is the reason. What waits for one throttle fires
together when there is room again, as one firing.

This is the half of the engine that concerns many clients. It is a reducer over transitions with small keyed states (one
a client with alerts, one a throttle key); it never reads a clock and never does I/O. Read `AlertBook.transition` first.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from engine.core import planning
from engine.core.alerts import Alert, AlertLine, Output, Throttled
from engine.core.asking import UNKNOWN as NO_ANSWER
from engine.core.asking import VERIFY, Ask, StatusAnswer
from engine.core.debounce import Policy
from engine.core.matching import Attributes, Matcher
from engine.core.planning import FIRING, RECOVERY
from engine.core.presence import (
    FIRST_HEARD,
    FLAPPING,
    GRACEFUL,
    NEVER,
    NEW_CLIENT,
    OFFLINE,
    ONLINE,
    STATUS_NAMES,
    UNKNOWN,
    ClientState,
    Transition,
)
from engine.core.rules import AT_ONCE, UNFLAPPABLE, VERIFIABLE, Rule
from engine.core.times import FOREVER, rfc3339

STATUS_TRIGGERS: Final = frozenset({"offline", "online", "first_seen"})
"""Triggers whose alerts end with the client's next transition."""

PURGED_AT_ONCE: Final = 20_000
"""Throttles that one purge looks at: about 10 ms."""


class AlertBook:
    """Every open alert and throttle. Changes are written to `out`, which the caller empties after each commit."""

    def __init__(
        self,
        matcher: Matcher,
        policy: Policy,
        attributes: Attributes,
        state_of: Callable[[str], ClientState],
        names_used: Callable[[Rule], frozenset[str]],
    ) -> None:
        self.policy = policy
        self.attributes = attributes
        self.out = Output()
        self.active: dict[str, list[Alert]] = {}
        self.throttles: dict[tuple[str, str], Throttled] = {}
        self._state_of = state_of
        self._names_used = names_used
        self._silent: list[tuple[int, int, Alert]] = []  # `for`s that rest on silence
        self._released: deque[tuple[int, Alert]] = deque()  # those of them that were held back too long
        self._lasting: list[tuple[int, int, Alert]] = []  # other `for`s
        self._rooms: list[tuple[int, int, Throttled]] = []
        self._unlooked: list[tuple[str, str]] = []  # throttles that the purge going on has still to look at
        self._verdicts: list[tuple[int, int, Alert]] = []  # until when an answer is waited for
        self.asks: list[Ask] = []  # whom to ask; the fleet takes them
        self.false_alarms_avoided = 0
        self._order = 0
        self._born_ms = -1  # the instant of the newest alert, and how often each id was asked for in it
        self._born: dict[str, int] = {}
        self.wake_ms = 0  # no deadline of an alert or throttle is due before; may be early, never late
        self._names: dict[str, frozenset[str]] = {}
        self.rules: dict[str, Rule] = {}
        self.use(matcher)

    def use(self, matcher: Matcher, retired: Iterable[Rule] = ()) -> None:
        """Work with these rules from now on; `retired` ones only end the alerts they have."""
        self.matcher = matcher
        self.watches_duplicates = any("duplicate" in rule.triggers for rule in matcher.rules)
        self.rules = {rule.name: rule for rule in retired} | {rule.name: rule for rule in matcher.rules}
        self._names = {name: self._names_used(rule) for name, rule in self.rules.items()}

    # What happens to clients

    def transition(self, transition: Transition, state: ClientState) -> None:
        """A client's settled status changed: end what was about the old status, open what is about the new one."""
        client, status, at_ms = transition.client, transition.status, transition.settled_at_ms
        alerts = self.active.get(client)
        if alerts:
            for alert in [alert for alert in alerts if alert.trigger in STATUS_TRIGGERS]:
                self._end(alert, at_ms, state, transition)
        plan = self.matcher.plan(client, state.ip)
        if status == OFFLINE and state.heard_ms != NEVER:  # who was never heard of is `never_seen`
            for rule in plan.offline:
                self._open(rule, "offline", client, state, transition, at_ms)
        elif status == ONLINE and not transition.first_seen:
            for rule in plan.online:
                self._open(rule, "online", client, state, transition, at_ms)
        if state.flags & FIRST_HEARD:
            lasting = "offline" if status == OFFLINE else "" if transition.first_seen else "online"
            for rule in plan.first_seen:
                if lasting not in rule.triggers:
                    self._open(rule, "first_seen", client, state, transition, at_ms)

    def flapping_started(self, client: str, state: ClientState, at_ms: int) -> None:
        """The client began to flap: it is no longer stable, and what waits for a throttle now waits for calm."""
        for alert in list(self.active.get(client, ())):
            rule = self.rules.get(alert.rule)
            if alert.trigger == "stable":
                self._end(alert, at_ms, state, None)
            elif rule is not None and alert.state == "suppressed" and self._flapping_gate(rule, alert, state):
                throttled = self.throttles.get((alert.rule, alert.throttle_key))
                if throttled is not None:
                    throttled.waiting.pop(alert.name, None)
                self._suppress(alert, "flapping", at_ms)
        for rule in self.matcher.plan(client, state.ip).flapping:
            self._open(rule, "flapping", client, state, None, at_ms)

    def flapping_stopped(self, client: str, state: ClientState, at_ms: int) -> None:
        """The client came to rest: its flapping alerts end, and what flapping held back fires."""
        alerts = list(self.active.get(client, ()))
        for alert in alerts:
            if alert.trigger == "flapping":
                self._end(alert, at_ms, state, None)
        for rule in self.matcher.plan(client, state.ip).stable:
            self._open(rule, "stable", client, state, None, at_ms)
        for alert in alerts:
            if alert.open and alert.state == "suppressed" and alert.reason == "flapping":
                self._gate(alert, state, at_ms)

    def duplicate(self, client: str, state: ClientState, at_ms: int, *, started: bool) -> None:
        """The client began, or ceased, to have more than one connection."""
        if started:
            for rule in self.matcher.plan(client, state.ip).duplicate:
                self._open(rule, "duplicate", client, state, None, at_ms)
            return
        for alert in list(self.active.get(client, ())):
            if alert.trigger == "duplicate":
                self._end(alert, at_ms, state, None)

    def connected(self, client: str, state: ClientState, at_ms: int) -> None:
        """The first event of a client that only an answer had named is a connect."""
        for alert in list(self.active.get(client, ())):
            if alert.trigger == "never_seen":
                self._end(alert, at_ms, state, None)

    def answered(self, before: ClientState, after: ClientState, answer: StatusAnswer, verdict: str, at_ms: int) -> None:
        """A query said something about a client, or failed: what waited for it goes on, before the belief has effects."""
        client, count = after.client, answer.connections or 0
        if verdict == NO_ANSWER:
            self._open_once("unverified", client, after, at_ms)
            self.asked_in_vain(client, at_ms, at_ms + self.policy.confirm_after_ms)
            return
        for alert in list(self.active.get(client, ())):
            if alert.trigger == "unverified" or (alert.trigger == "never_seen" and count):
                self._end(alert, at_ms, after, None)
            elif self._waits_for_answer(alert) and answer.asked_at_ms >= alert.verify_from_ms:
                self._take_verdict(alert, after, count, at_ms)
        if not count and before.heard_ms == NEVER and answer.is_listed:
            self._open_once("never_seen", client, after, at_ms)

    def _open_once(self, trigger: str, client: str, state: ClientState, at_ms: int) -> None:
        """Open an alert for each rule of this trigger that has none going on."""
        plan = self.matcher.plan(client, state.ip)
        rules = plan.never_seen if trigger == "never_seen" else plan.unverified
        if rules:
            told = {alert.rule for alert in self.active.get(client, ()) if alert.trigger == trigger}
            for rule in rules:
                if rule.name not in told:
                    self._open(rule, trigger, client, state, None, at_ms)

    def has_open(self, client: str, trigger: str) -> bool:
        """Is an alert of this trigger about the client going on?"""
        return any(alert.trigger == trigger for alert in self.active.get(client, ()))

    def waiting_for_calm(self) -> list[str]:
        """Clients with an alert that only the end of their flapping can end or free."""
        return [
            alert.client
            for alerts in self.active.values()
            for alert in alerts
            if alert.client is not None and (alert.trigger == "flapping" or alert.reason == "flapping")
        ]

    def feed(self, source: str, trouble: str | None, at_ms: int) -> None:
        """What is wrong with a source (None: it is well). Opens and ends the alerts of trigger `feed`."""
        alerts = list(self.active.get(f"\0{source}", ()))
        if trouble is None:
            for alert in alerts:
                self._end(alert, at_ms, NEW_CLIENT, None)
            return
        told = {alert.rule for alert in alerts}
        for rule in self.matcher.feed:
            if rule.name not in told:
                alert = self._new(rule, "feed", None, source, at_ms, at_ms, None)
                alert.detail = trouble
                self._gate(alert, NEW_CLIENT, at_ms)

    def forget(self, client: str, at_ms: int) -> None:
        """The client is no longer kept: its alerts are closed without a word."""
        for alert in list(self.active.get(client, ())):
            self._drop(alert, at_ms)

    def retire(self, rule: str, at_ms: int) -> None:
        """The rule is gone: alerts that were sent get their recovery, the others vanish."""
        for alerts in list(self.active.values()):
            for alert in list(alerts):
                if alert.rule == rule:
                    state = self._state_of(alert.client) if alert.client is not None else NEW_CLIENT
                    self._end(alert, at_ms, state, None, reason="rule_removed")
        self.rules.pop(rule, None)
        for name, key in list(self.throttles):
            if name == rule:
                throttled = self.throttles.pop((name, key))
                throttled.firings.clear()
                self.out.throttles[name, key] = throttled

    def adopt(self, rule: Rule, clients: Iterable[tuple[str, ClientState]], at_ms: int) -> int:
        """A rule is new: with `existing` it fires for clients in its status; returns how many such clients there were."""
        found = 0
        for client, state in clients:
            trigger = STATUS_NAMES[state.settled]
            if trigger not in rule.triggers or rule not in self.matcher.plan(client, state.ip).rules:
                continue
            found += 1
            if rule.existing:
                transition = Transition(
                    client, state.settled, UNKNOWN, state.occurred_at_ms, state.since_ms, state.settled_at_ms,
                    bool(state.flags & GRACEFUL), state.flaps, False,
                )  # fmt: skip
                self._open(rule, trigger, client, state, transition, at_ms)
        return found

    # Deadlines

    def next_for(self, *, silent: bool) -> int:
        """When the next `for` is over, of those that rest on silence or of the others."""
        heap = self._silent if silent else self._lasting
        while heap and (heap[0][2].state != "pending" or not heap[0][2].open):
            heapq.heappop(heap)
        return heap[0][0] if heap else FOREVER

    def release(self, due_by_ms: int, to_ms: int) -> None:
        """`for`s that rest on silence and should have been over by `due_by_ms` are over at `to_ms`."""
        while self._silent and self._silent[0][0] <= due_by_ms:
            self._released.append((to_ms, heapq.heappop(self._silent)[2]))

    def next_released(self) -> int:
        """When a `for` that was released is over."""
        while self._released and (self._released[0][1].state != "pending" or not self._released[0][1].open):
            self._released.popleft()
        return self._released[0][0] if self._released else FOREVER

    def next_room(self) -> int:
        """When a throttle that someone waits for is to be looked at."""
        while self._rooms and self._rooms[0][0] != self._rooms[0][2].room_at_ms:
            heapq.heappop(self._rooms)
        return self._rooms[0][0] if self._rooms else FOREVER

    def pass_for(self, at_ms: int, *, silent: bool) -> None:
        """The earliest `for` is over, at `at_ms`."""
        if silent and self.next_released() <= at_ms:
            alert = self._released.popleft()[1]
        else:
            alert = heapq.heappop(self._silent if silent else self._lasting)[2]
        assert alert.client is not None
        self._gate(alert, self._state_of(alert.client), at_ms)

    def pass_room(self, at_ms: int) -> None:
        """There is room in a throttle: those whose status still holds fire together, as one firing."""
        _, _, throttled = heapq.heappop(self._rooms)
        throttled.room_at_ms = None
        rule = self.rules.get(throttled.rule)
        waiting = list(throttled.waiting.values())
        if rule is None or not self._has_room(rule, throttled, at_ms):
            self._await_room(rule, throttled)
            return
        throttled.waiting.clear()
        ready = []
        for alert in waiting:
            state = self._state_of(alert.client) if alert.client is not None else NEW_CLIENT
            if self._flapping_gate(rule, alert, state):
                self._suppress(alert, "flapping", at_ms)
            elif self._needs_verdict(rule, alert):
                self._await_verdict(rule, alert, at_ms)
            else:
                ready.append(alert)
        if ready:
            self._count(rule, throttled, at_ms)
            self._fire_together(rule, ready, at_ms)

    # Verification

    def next_verdict(self) -> int:
        """When the waiting for an answer is over for somebody."""
        heap = self._verdicts
        while heap and heap[0][0] != heap[0][2].verify_until_ms:
            heapq.heappop(heap)
        return heap[0][0] if heap else FOREVER

    def pass_verdict(self, at_ms: int) -> None:
        """No answer came in time: the alert is sent, marked, or goes on waiting, as its rule says."""
        alert = heapq.heappop(self._verdicts)[2]
        alert.verify_until_ms = None
        rule = self.rules.get(alert.rule)
        if not alert.open or rule is None:
            return
        if rule.verify_failure == "hold":
            alert.verified = "held"
            self._suppress(alert, "verify", at_ms)
            self._ask(alert, at_ms + rule.verify_within_ms)
        else:
            alert.verified = "failed"
            self._gate(alert, self._subject_state(alert), at_ms)

    def _needs_verdict(self, rule: Rule, alert: Alert) -> bool:
        """Is the alert to be verified before it fires, and not yet? Where nobody can be asked, it is not."""
        return (
            rule.verify
            and self.policy.asks
            and alert.trigger in VERIFIABLE
            and alert.verified != "agreed"
            and alert.verified != "failed"
        )

    def _await_verdict(self, rule: Rule, alert: Alert, at_ms: int) -> None:
        if alert.verify_until_ms is not None:
            return
        alert.state, alert.reason = "pending", None
        alert.verified, alert.verify_from_ms = "asked", at_ms
        alert.verify_until_ms = at_ms + rule.verify_within_ms
        self.out.alerts[alert.name] = alert
        self._order += 1
        heapq.heappush(self._verdicts, (alert.verify_until_ms, self._order, alert))
        self.wake_ms = min(self.wake_ms, alert.verify_until_ms)
        self._ask(alert, at_ms)

    def _waits_for_answer(self, alert: Alert) -> bool:
        return alert.verify_until_ms is not None or (alert.state == "suppressed" and alert.reason == "verify")

    def _take_verdict(self, alert: Alert, state: ClientState, count: int, at_ms: int) -> None:
        """An answer agrees with what the alert says, and it goes on; or contradicts it: a false alarm avoided."""
        alert.verify_until_ms = None
        if alert.trigger == "duplicate":
            agrees = count > 1
        elif alert.trigger == "first_seen" and alert.transition is not None:
            agrees = (count > 0) == (alert.transition.status == ONLINE)
        else:
            agrees = (count > 0) == (alert.trigger == "online")
        if agrees:
            alert.verified = "agreed"
            self._gate(alert, state, at_ms)
        elif alert.verified != "contradicted":
            alert.verified = "contradicted"
            self.false_alarms_avoided += 1
            self._suppress(alert, "verify", at_ms)

    def asked_in_vain(self, client: str, at_ms: int, again_ms: int) -> None:
        """An answer was of no use: whoever waits for one asks again while there is time."""
        for alert in self.active.get(client, ()):
            if alert.verify_until_ms is not None:
                if alert.verify_until_ms > again_ms:
                    self._ask(alert, again_ms)
            elif alert.verified == "held" and alert.state == "suppressed":
                rule = self.rules.get(alert.rule)
                self._ask(alert, at_ms + (rule.verify_within_ms if rule is not None else 0))

    def _ask(self, alert: Alert, at_ms: int) -> None:
        if alert.client is not None and self.policy.asks:
            self.asks.append(Ask(alert.client, VERIFY, at_ms))

    # The life of one alert

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
    ) -> Alert:
        since = transition.since_ms if transition else at_ms
        name = self._distinct(f"{rule.name}\0{client}\0{source}\0{trigger}\0{since}\0{at_ms}", at_ms)
        alert = Alert(name, rule.name, client, source, trigger, "pending", at_ms, due_ms, transition)
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
        self._order += 1
        heap = self._silent if alert.trigger == "offline" else self._lasting
        heapq.heappush(heap, (alert.due_at_ms, self._order, alert))
        self.wake_ms = min(self.wake_ms, alert.due_at_ms)

    def _gate(self, alert: Alert, state: ClientState, at_ms: int) -> None:
        """The alert is due: it fires, unless its condition fails or a gate is closed."""
        rule = self.rules.get(alert.rule)
        if rule is None:
            self._drop(alert, at_ms)
            return
        if alert.reason is None and not alert.verified and not self._condition_holds(rule, alert, state, at_ms):
            self._drop(alert, at_ms)
            return
        if self._flapping_gate(rule, alert, state):
            self._suppress(alert, "flapping", at_ms)
            return
        if rule.throttle is not None:
            throttled = self._throttled(rule, alert)
            if not self._has_room(rule, throttled, at_ms):
                self._suppress(alert, "throttle", at_ms)
                throttled.waiting[alert.name] = alert
                self._await_room(rule, throttled)
                return
        if self._needs_verdict(rule, alert):
            self._await_verdict(rule, alert, at_ms)
            return
        if rule.throttle is not None:
            self._count(rule, self._throttled(rule, alert), at_ms)
        self._fire_together(rule, [alert], at_ms)

    def _condition_holds(self, rule: Rule, alert: Alert, state: ClientState, at_ms: int) -> bool:
        if rule.condition is None:
            return True
        return rule.condition(self._variables(rule, alert, state, at_ms, rule.condition_names))

    def _flapping_gate(self, rule: Rule, alert: Alert, state: ClientState) -> bool:
        return bool(rule.flapping_skip and state.flags & FLAPPING and alert.trigger not in UNFLAPPABLE)

    def _suppress(self, alert: Alert, reason: str, at_ms: int) -> None:
        if alert.state == "suppressed" and alert.reason == reason:
            return
        alert.state, alert.reason = "suppressed", reason
        self._line(alert, at_ms)

    def _fire_together(self, rule: Rule, alerts: list[Alert], at_ms: int) -> None:
        """Fire alerts of one rule by one decision: one delivery an action, with the list when there are several."""
        for alert in alerts:
            alert.state, alert.reason, alert.fired_at_ms, alert.told = "firing", None, at_ms, True
            self._line(alert, at_ms)
        if len(alerts) == 1:
            self._plan(rule, alerts[0], FIRING, at_ms, self._subject_state(alerts[0]), alerts[0].transition)
        else:
            self._plan_together(rule, alerts, at_ms)
        for alert in alerts:
            if alert.trigger in AT_ONCE:
                self._resolve(alert, at_ms)

    def _subject_state(self, alert: Alert) -> ClientState:
        return self._state_of(alert.client) if alert.client is not None else NEW_CLIENT

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
        if rule is not None and rule.on_recovery and alert.told:
            self._plan(rule, alert, RECOVERY, at_ms, state, transition)

    def _resolve(self, alert: Alert, at_ms: int) -> None:
        alert.state, alert.resolved_at_ms = "resolved", at_ms
        self._line(alert, at_ms)
        self._leave(alert)

    def _drop(self, alert: Alert, at_ms: int) -> None:
        """Nobody heard of it: it goes without a line. A suppressed one stays in the records as what it was."""
        alert.resolved_at_ms = at_ms
        if alert.state != "suppressed":
            alert.state = "dropped"
        self.out.alerts[alert.name] = alert
        self._leave(alert)

    def _leave(self, alert: Alert) -> None:
        alerts = self.active[alert.subject]
        alerts.remove(alert)
        if not alerts:
            del self.active[alert.subject]
        throttled = self.throttles.get((alert.rule, alert.throttle_key))
        if throttled is not None:
            throttled.waiting.pop(alert.name, None)

    def _line(self, alert: Alert, at_ms: int) -> None:
        key = {"source": alert.source} if alert.source is not None else None
        self.out.alerts[alert.name] = alert
        self.out.lines.append(AlertLine(alert.rule, alert.client, key, alert.state, alert.reason, at_ms))

    # Throttles

    def _throttled(self, rule: Rule, alert: Alert) -> Throttled:
        assert rule.throttle is not None
        if not alert.throttle_key:
            alert.throttle_key = json.dumps(self._by(rule.throttle.by, alert), sort_keys=True, ensure_ascii=False)
        found = self.throttles.get((rule.name, alert.throttle_key))
        if found is None:
            found = self.throttles[rule.name, alert.throttle_key] = Throttled(rule.name, alert.throttle_key)
        return found

    def _by(self, names: tuple[str, ...], alert: Alert) -> dict[str, str]:
        """The values that a `by` list names, for one alert."""
        client = alert.client or ""
        attributes = self.attributes(client)
        found = {}
        for name in names:
            if name == "client":
                found[name] = client
            elif name == "group":
                found[name] = client.partition("@@@")[0] if "@@@" in client else ""
            else:
                found[name] = attributes.get(name, "")
        return found

    def _has_room(self, rule: Rule, throttled: Throttled, at_ms: int) -> bool:
        if rule.throttle is None:
            return True
        oldest = at_ms - rule.throttle.per_ms
        firings = throttled.firings
        while firings and firings[0] <= oldest:
            del firings[0]
        return len(firings) < rule.throttle.max

    def _count(self, rule: Rule, throttled: Throttled, at_ms: int) -> None:
        throttled.firings.append(at_ms)
        self.out.throttles[rule.name, throttled.key] = throttled

    def _await_room(self, rule: Rule | None, throttled: Throttled) -> None:
        """Look again when the oldest counted firing no longer counts."""
        if rule is None or not throttled.waiting or throttled.room_at_ms is not None:
            return
        per_ms = rule.throttle.per_ms if rule.throttle else 0
        surplus = max(0, len(throttled.firings) - (rule.throttle.max if rule.throttle else 0))
        throttled.room_at_ms = throttled.firings[surplus] + per_ms if throttled.firings else 0
        self._order += 1
        heapq.heappush(self._rooms, (throttled.room_at_ms, self._order, throttled))
        self.wake_ms = min(self.wake_ms, throttled.room_at_ms)

    # Deliveries

    def _variables(
        self, rule: Rule, alert: Alert, state: ClientState, at_ms: int, names: frozenset[str]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"client": None}
        if alert.client is not None:
            attributes = self.attributes(alert.client)
            found = planning.client_variables(
                alert.client, state, alert.transition, attributes, at_ms, self.policy, names
            )
        found["rule"] = planning.rule_variables(rule)
        found["alert"] = {
            "id": alert.id,
            "state": alert.state,
            "reason": alert.reason or "",
            "started_at": rfc3339(alert.started_at_ms),
            "source": alert.source or "",
            "unverified": alert.verified == "failed",
            "detail": alert.detail,
            "count": 1,
            "clients": [alert.client] if alert.client is not None else [],
            "key": {"source": alert.source} if alert.source is not None else {},
        }
        return found

    def _plan(
        self, rule: Rule, alert: Alert, phase: str, at_ms: int, state: ClientState, transition: Transition | None
    ) -> None:
        names = self._names.get(rule.name, frozenset())
        opened, alert.transition = alert.transition, transition or alert.transition
        variables = self._variables(rule, alert, state, at_ms, names)
        alert.transition = opened
        key = {"source": alert.source} if alert.source is not None else None
        # A recovery carries the name of its firing, which takes it along when nobody ever got it.
        told_as = alert.told_as or alert.id
        self._deliver(rule, alert, phase, at_ms, variables, told_as, alert.id, alert.client, key, None)

    def _plan_together(self, rule: Rule, alerts: list[Alert], at_ms: int) -> None:
        names = self._names.get(rule.name, frozenset())
        first = alerts[0]
        key = json.loads(first.throttle_key)
        clients = tuple([alert.client for alert in alerts if alert.client is not None])
        variables = self._variables(rule, first, self._subject_state(first), at_ms, names)
        variables["alert"] |= {"count": len(alerts), "clients": list(clients), "key": key}
        if first.source is not None:
            variables["alert"]["source"] = ", ".join([alert.source or "" for alert in alerts])
            variables["alert"]["detail"] = "; ".join([alert.detail for alert in alerts])
        name = planning.stamped(at_ms, "\0".join(["together", *[alert.id for alert in alerts]]))
        for alert in alerts:
            alert.told_as = name
        self._deliver(rule, first, FIRING, at_ms, variables, name, name, None, key, clients)

    def _deliver(
        self,
        rule: Rule,
        alert: Alert,
        phase: str,
        at_ms: int,
        variables: Mapping[str, Any],
        name: str,
        decision: str,
        client: str | None,
        key: Mapping[str, str] | None,
        clients: tuple[str, ...] | None,
    ) -> None:
        # A throttled rule may speak of many clients at once, so all it says to one throttle key stays in one order.
        lane = f"{rule.name}\n{alert.throttle_key or alert.subject}"
        planned = planning.deliveries(
            rule,
            phase,
            alert=name,
            decision=decision,
            client=client,
            group_key=key,
            clients=clients,
            lane=lane,
            at_ms=at_ms,
            variables=variables,
        )
        self.out.lines.extend(planned)
        self.out.deliveries.extend(planned)

    def purge(self, at_ms: int, limit: int = PURGED_AT_ONCE) -> None:
        """Forget throttles in which nothing counts any more; looks at some of them, and at the next at the next call."""
        if not self._unlooked:
            self._unlooked = list(self.throttles)
        some, self._unlooked = self._unlooked[-limit:], self._unlooked[:-limit]
        for name, key in some:
            throttled, rule = self.throttles.get((name, key)), self.rules.get(name)
            if throttled is None or throttled.waiting:
                continue
            if rule is None or rule.throttle is None or self._is_idle(rule, throttled, at_ms):
                throttled.firings.clear()
                self.out.throttles[name, key] = self.throttles.pop((name, key))

    def _is_idle(self, rule: Rule, throttled: Throttled, at_ms: int) -> bool:
        self._has_room(rule, throttled, at_ms)  # drops what no longer counts
        return not throttled.firings

    # After a restart

    def restore(self, alerts: Iterable[Alert], throttles: Iterable[Throttled]) -> None:
        """Start again from what the store holds: open alerts and counted firings."""
        self.active.clear()
        self._born_ms = -1
        self.throttles = {(throttled.rule, throttled.key): throttled for throttled in throttles}
        self._silent.clear()
        self._released.clear()
        self._lasting.clear()
        self._rooms.clear()
        self._verdicts.clear()
        self.asks = []
        self.wake_ms = 0
        self.out = Output()
        for alert in alerts:
            self.active.setdefault(alert.subject, []).append(alert)
            if alert.state == "pending":
                self._await_for(alert)
            elif alert.state == "suppressed" and alert.reason == "throttle":
                self._wait_again(alert)
            elif alert.state == "suppressed" and alert.reason == "verify":
                self._ask(alert, 0)

    def _wait_again(self, alert: Alert) -> None:
        rule = self.rules.get(alert.rule)
        throttled = self.throttles.setdefault(
            (alert.rule, alert.throttle_key), Throttled(alert.rule, alert.throttle_key)
        )
        throttled.waiting[alert.name] = alert
        self._await_room(rule, throttled)
