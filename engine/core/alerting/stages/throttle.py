"""Stage `throttle`: have as many of the rule's firings as it allows counted already?

It ends when there is room again, or, with `excess: drop`, never. What fires by one decision counts once a throttle. Read `ThrottleStage.check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from engine.core.alerting.alert import FIRING, Alert, Throttled
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.stages.base import PASS, Stage, StageReport, Suppressed, Verdict
from engine.core.alerting.template_variables import VariableSource
from engine.core.keys import key_text, values_of
from engine.core.presence.client_state import ClientState
from engine.core.rules import WITHOUT_CLIENTS, Rule, Throttle
from engine.core.timers import THROTTLES, NextWakeUp, TimerQueue

REASON: Final = "throttle"
SUPPRESSED: Final = Suppressed(REASON)
DROPPED: Final = Suppressed(REASON, is_final=True)

OPENED_AGAIN: Final = WITHOUT_CLIENTS | {"never_seen", "unverified", "outage", "quorum"}
"""Triggers that are asked again while what they are about goes on: one that is in excess stays, so that it does not begin anew."""


class Throttles:
    """Every throttle in which something counts or an alert waits."""

    def __init__(self, alerts: OpenAlerts, wake_up: NextWakeUp) -> None:
        self.all: dict[tuple[str, str], Throttled] = {}  # by rule and key
        self.timers: Final = TimerQueue(THROTTLES, wake_up, _is_awaited)
        self._alerts = alerts
        self._unlooked: list[tuple[str, str]] = []  # those that the purge going on has still to look at

    def of(self, rule: str, key: str) -> Throttled:
        """One throttle."""
        found = self.all.get((rule, key))
        if found is None:
            found = self.all[rule, key] = Throttled(rule, key)
        return found

    def count(self, throttled: Throttled, at_ms: int) -> None:
        """One more fires."""
        throttled.firings.append(at_ms)
        self._alerts.out.throttles[throttled.rule, throttled.key] = throttled

    def wait(self, terms: Throttle | None, throttled: Throttled, alert: Alert) -> None:
        """The alert waits for room; one that `excess: drop` keeps waits for nothing."""
        if terms is not None and terms.excess == "drop" and alert.trigger in OPENED_AGAIN:
            return
        throttled.waiting[alert.name] = alert
        self.await_room(terms, throttled)

    def await_room(self, terms: Throttle | None, throttled: Throttled) -> None:
        """Look again when the oldest counted firing no longer counts. `terms`: the rule's; None: it has none any more."""
        if not throttled.waiting or throttled.room_at_ms is not None:
            return
        per_ms = terms.per_ms if terms is not None else 0
        surplus = max(0, len(throttled.firings) - (terms.max if terms is not None else 0))
        throttled.room_at_ms = throttled.firings[surplus] + per_ms if throttled.firings else 0
        self.timers.push(throttled.room_at_ms, throttled)

    def leave(self, alert: Alert) -> None:
        """The alert waits no more."""
        throttled = self.all.get((alert.rule, alert.throttle_key))
        if throttled is not None and throttled.waiting.pop(alert.name, None) is not None and not throttled.waiting:
            throttled.room_at_ms = None  # nothing waits for room

    def retire(self, rule: str) -> None:
        """The rule is gone."""
        for key in [key for key in self.all if key[0] == rule]:
            throttled = self._alerts.out.throttles[key] = self.all.pop(key)
            throttled.firings.clear()

    def purge(self, rules: dict[str, Rule], at_ms: int, limit: int) -> None:
        """Forget those in which nothing counts any more; looks at some of them, and at the next at the next call."""
        if not self._unlooked:
            self._unlooked = list(self.all)
        some, self._unlooked = self._unlooked[-limit:], self._unlooked[:-limit]
        for key in some:
            throttled, rule = self.all.get(key), rules.get(key[0])
            if throttled is None or throttled.waiting:
                continue
            terms = rule.throttle if rule is not None else None
            if terms is not None:
                forget_old(terms, throttled, at_ms)
            if terms is None or not throttled.firings:
                throttled.firings.clear()
                self._alerts.out.throttles[key] = self.all.pop(key)

    def step(self, step_ms: int) -> None:
        """The clock was set: what counts goes on counting for as long as before."""
        for key, throttled in self.all.items():
            if throttled.room_at_ms is not None:
                throttled.room_at_ms += step_ms
            if throttled.firings:
                throttled.firings = [fired_ms + step_ms for fired_ms in throttled.firings]
                self._alerts.out.throttles[key] = throttled

    def restore(self, throttles: Iterable[Throttled]) -> None:
        """What a store kept."""
        self.all = {(throttled.rule, throttled.key): throttled for throttled in throttles}
        self.timers.clear()


def _is_awaited(throttled: Throttled, due_ms: int) -> bool:
    return throttled.room_at_ms == due_ms


def forget_old(terms: Throttle, throttled: Throttled, at_ms: int) -> None:
    """Drop the firings that count no longer."""
    oldest = at_ms - terms.per_ms
    firings = throttled.firings
    while firings and firings[0] <= oldest:
        del firings[0]


def has_room(terms: Throttle | None, throttled: Throttled, at_ms: int) -> bool:
    """May one more fire? Always, when the rule has no throttle any more."""
    if terms is None:
        return True
    forget_old(terms, throttled, at_ms)
    return len(throttled.firings) < terms.max


class ThrottleStage(Stage):
    """The throttle of one rule."""

    def __init__(self, rule: Rule, terms: Throttle, throttles: Throttles, variables: VariableSource) -> None:
        self.reason = REASON
        self.counts_together = True
        self._rule = rule
        self._terms = terms
        self._throttles = throttles
        self._variables = variables

    def check(self, alert: Alert, state: ClientState, at_ms: int) -> Verdict:
        """See `Stage`."""
        throttled = self._throttle_of(alert, state)
        if has_room(self._terms, throttled, at_ms):
            return PASS
        is_dropped = self._terms.excess == "drop" and alert.trigger not in OPENED_AGAIN
        return DROPPED if is_dropped else SUPPRESSED

    def _throttle_of(self, alert: Alert, state: ClientState) -> Throttled:
        """The throttle that an alert counts in."""
        if not alert.throttle_key:
            alert.throttle_key = self.key_of(alert, state)
        return self._throttles.of(self._rule.name, alert.throttle_key)

    def key_of(self, alert: Alert, state: ClientState) -> str:
        """The key of that throttle, as JSON of {by: value}."""
        if alert.throttle_key:
            return alert.throttle_key
        client = alert.client or ""
        values = values_of(self._terms.by, client, state.ip, self._variables.attributes(client))
        values |= {name: value for name, value in (alert.shown_key or {}).items() if name in values}
        return key_text(values)

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """See `Stage`."""
        self._throttles.wait(self._terms, self._throttles.of(self._rule.name, alert.throttle_key), alert)

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """What fires by one decision counts once in each throttle."""
        counted: set[str] = set()
        for alert in alerts:
            if alert.throttle_key not in counted:
                counted.add(alert.throttle_key)
                self._throttles.count(self._throttles.of(self._rule.name, alert.throttle_key), at_ms)

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        terms, key = self._terms, self.key_of(alert, state)
        throttled = self._throttles.all.get((self._rule.name, key))
        firings = [fired_ms for fired_ms in throttled.firings if at_ms - fired_ms < terms.per_ms] if throttled else []
        detail = {"key": key, "max": terms.max, "per_ms": terms.per_ms, "counted": len(firings)}
        passes = alert.state == FIRING or len(firings) < terms.max
        return StageReport(REASON, passes, detail, None if passes else firings[-terms.max] + terms.per_ms)
