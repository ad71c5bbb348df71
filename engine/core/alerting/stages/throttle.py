"""Throttles: how many firings of a rule and key still count, and who waits for room."""

from __future__ import annotations

from collections.abc import Iterable

from engine.core.alerting.alert import Alert, Output, Throttled
from engine.core.keys import key_text, values_of
from engine.core.matching import Attributes
from engine.core.rules import Rule
from engine.core.timers import NextWakeUp, TimerQueue


class Throttles:
    """Every throttle in which something counts or somebody waits."""

    def __init__(self, alarm: NextWakeUp) -> None:
        self.all: dict[tuple[str, str], Throttled] = {}  # by rule and key
        self.rooms = TimerQueue(alarm, _is_awaited)
        self._unlooked: list[tuple[str, str]] = []  # those that the purge going on has still to look at

    def of(self, rule: Rule, alert: Alert, ip: str, attributes: Attributes) -> Throttled:
        """The throttle that an alert counts in; `ip` is `ip:port` of its client."""
        if not alert.throttle_key:
            alert.throttle_key = self.key_of(rule, alert, ip, attributes)
        found = self.all.get((rule.name, alert.throttle_key))
        if found is None:
            found = self.all[rule.name, alert.throttle_key] = Throttled(rule.name, alert.throttle_key)
        return found

    def key_of(self, rule: Rule, alert: Alert, ip: str, attributes: Attributes) -> str:
        """The key of that throttle, as JSON of {by: value}."""
        assert rule.throttle is not None
        if alert.throttle_key:
            return alert.throttle_key
        client = alert.client or ""
        values = values_of(rule.throttle.by, client, ip, attributes(client))
        values |= {name: value for name, value in (alert.shown_key or {}).items() if name in values}
        return key_text(values)

    def has_room(self, rule: Rule, throttled: Throttled, at_ms: int) -> bool:
        """May one more fire?"""
        if rule.throttle is None:
            return True
        oldest = at_ms - rule.throttle.per_ms
        firings = throttled.firings
        while firings and firings[0] <= oldest:
            del firings[0]
        return len(firings) < rule.throttle.max

    def count(self, out: Output, throttled: Throttled, at_ms: int) -> None:
        """One more fires."""
        throttled.firings.append(at_ms)
        out.throttles[throttled.rule, throttled.key] = throttled

    def wait(self, rule: Rule | None, throttled: Throttled, alert: Alert) -> None:
        """The alert waits for room."""
        throttled.waiting[alert.name] = alert
        self.await_room(rule, throttled)

    def await_room(self, rule: Rule | None, throttled: Throttled) -> None:
        """Look again when the oldest counted firing no longer counts."""
        if rule is None or not throttled.waiting or throttled.room_at_ms is not None:
            return
        per_ms = rule.throttle.per_ms if rule.throttle else 0
        surplus = max(0, len(throttled.firings) - (rule.throttle.max if rule.throttle else 0))
        throttled.room_at_ms = throttled.firings[surplus] + per_ms if throttled.firings else 0
        self.rooms.push(throttled.room_at_ms, throttled)

    def leave(self, alert: Alert) -> None:
        """The alert waits no more."""
        throttled = self.all.get((alert.rule, alert.throttle_key))
        if throttled is not None and throttled.waiting.pop(alert.name, None) is not None and not throttled.waiting:
            throttled.room_at_ms = None  # nobody looks for room

    def retire(self, out: Output, rule: str) -> None:
        """The rule is gone."""
        for key in [key for key in self.all if key[0] == rule]:
            throttled = out.throttles[key] = self.all.pop(key)
            throttled.firings.clear()

    def purge(self, out: Output, rules: dict[str, Rule], at_ms: int, limit: int) -> None:
        """Forget those in which nothing counts any more; looks at some of them, and at the next at the next call."""
        if not self._unlooked:
            self._unlooked = list(self.all)
        some, self._unlooked = self._unlooked[-limit:], self._unlooked[:-limit]
        for key in some:
            throttled, rule = self.all.get(key), rules.get(key[0])
            if throttled is None or throttled.waiting:
                continue
            if rule is None or rule.throttle is None or self._is_idle(rule, throttled, at_ms):
                throttled.firings.clear()
                out.throttles[key] = self.all.pop(key)

    def _is_idle(self, rule: Rule, throttled: Throttled, at_ms: int) -> bool:
        self.has_room(rule, throttled, at_ms)  # drops what no longer counts
        return not throttled.firings

    def recall(self, throttles: Iterable[Throttled]) -> None:
        """What a store kept."""
        self.all = {(throttled.rule, throttled.key): throttled for throttled in throttles}
        self.rooms.clear()

    def recall_waiting(self, rule: Rule | None, alert: Alert) -> None:
        """An alert that waited for room when it was kept."""
        key = alert.rule, alert.throttle_key
        self.wait(rule, self.all.setdefault(key, Throttled(*key)), alert)


def _is_awaited(throttled: Throttled, due_ms: int) -> bool:
    return throttled.room_at_ms == due_ms
