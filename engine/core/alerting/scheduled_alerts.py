"""Schedules as alerts: at each tick, one alert over all clients that match and meet the condition; none when there are none.

A schedule begins when the engine first sees its rule. After a pause, what was missed is caught up once, or skipped
(`catch_up`); see `schedules.missed`. Read `ScheduledAlerts.on_timer` first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from engine.core.alerting.lookback import LookBack
from engine.core.alerting.outage_alerts import EachClient
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.schedules import LISTED, NOT_AGAIN_MS, Tick, missed, next_tick
from engine.core.presence.client_state import NEW_CLIENT
from engine.core.rules import Rule
from engine.core.timers import SCHEDULES, NextWakeUp, TimerQueue

BY_STATUS: Final = frozenset({"status"})
"""Names of a condition whose answer is the same for all clients of one status: it is asked once for each."""


class ScheduledAlerts:
    """The schedules of all rules with `trigger: schedule`, and their alerts."""

    def __init__(self, pipeline: Pipeline, wake_up: NextWakeUp, each_client: EachClient, lookback: LookBack) -> None:
        self.ticks: dict[str, Tick] = {}  # by rule
        self.timers: Final = TimerQueue(SCHEDULES, wake_up, self._is_due)
        self._pipeline = pipeline
        self._wake_up = wake_up
        self._each_client = each_client
        self._lookback = lookback
        self._is_resumed = False  # has time stood still, so that ticks may have been missed?
        self._due: dict[str, int] = {}  # rule -> its next tick
        self._unplanned: list[Rule] = []  # rules whose next tick is not known yet

    def use(self, now_ms: int = 0) -> None:
        """Work by the rules as they are now; new schedules begin at `now_ms`, or with the first instant that `resume` names."""
        rules = self._pipeline.rules
        self.timers.clear()
        self._due.clear()
        self._unplanned = [rule for rule in rules.values() if rule.schedule is not None and "schedule" in rule.triggers]
        for name in [name for name in self.ticks if name not in rules]:
            del self.ticks[name]
        for rule in rules.values():
            if now_ms and rule.schedule is not None and rule.name not in self.ticks:
                self._kept(rule, Tick(rule.name, now_ms))
        self._wake_up.by(0)

    def _kept(self, rule: Rule, tick: Tick) -> None:
        self._pipeline.alerts.out.schedules[rule.name] = self.ticks[rule.name] = tick

    def resume(self, to_ms: int) -> None:
        """Time is about to pass to `to_ms`: begin schedules that are new, and catch up on what was missed."""
        if not self._unplanned and not self._is_resumed:
            return
        for rule in self._unplanned:
            if rule.schedule is None or rule.name not in self._pipeline.rules:
                continue
            tick = self.ticks.get(rule.name)
            is_missed = False
            if tick is None:
                tick = Tick(rule.name, to_ms)
                self._kept(rule, tick)
            elif self._is_resumed:
                is_missed, tick.at_ms = missed(rule.schedule, tick.at_ms, to_ms)
                self._kept(rule, tick)
            self._await_tick(rule, to_ms if is_missed else next_tick(rule.schedule, tick.at_ms))
        self._unplanned = []
        self._is_resumed = False

    def _await_tick(self, rule: Rule, due_ms: int) -> None:
        self._due[rule.name] = due_ms
        self.timers.push(due_ms, rule.name)

    def _is_due(self, name: str, due_ms: int) -> bool:
        return self._due.get(name) == due_ms

    def on_timer(self, name: str, at_ms: int) -> None:
        """A tick has come."""
        rule = self._pipeline.rules.get(name)
        if rule is None or rule.schedule is None:
            return
        tick = self.ticks[name]
        tick.at_ms = at_ms
        self._kept(rule, tick)
        self._await_tick(rule, next_tick(rule.schedule, at_ms))
        if rule in self._pipeline.matcher.rules:  # one that is about to be retired opens nothing
            self._open(rule, at_ms)

    def _open(self, rule: Rule, at_ms: int) -> None:
        alert = self._pipeline.alerts.add(rule, "schedule", at_ms, key="{}")
        found, alert.total = self._clients_of(rule, at_ms)
        if not found:
            self._pipeline.drop(alert, at_ms)
            return
        alert.count = len(found)
        alert.listed = tuple(self._first(rule, found, at_ms))
        self._pipeline.due(alert, NEW_CLIENT, at_ms)

    def _first(self, rule: Rule, clients: list[str], at_ms: int) -> list[str]:
        """Those that are listed: with `over`, who flapped most in that time, then who was offline longest."""
        over_ms = rule.schedule.over_ms if rule.schedule is not None else 0
        if not over_ms:
            return heapq.nsmallest(LISTED, clients)
        ranked = []
        for client in clients:
            flaps, offline_ms = self._lookback.of(client, self._pipeline.state_of(client), at_ms, over_ms)
            ranked.append((-flaps, -offline_ms, client))
        return [client for _, _, client in heapq.nsmallest(LISTED, ranked)]

    def _clients_of(self, rule: Rule, at_ms: int) -> tuple[list[str], int]:
        """The clients that match and meet the condition, and how many match."""
        condition, names, plan = rule.condition, rule.condition_names, self._pipeline.matcher.plan
        variables = self._pipeline.variables
        by_status = bool(names) and names <= BY_STATUS
        known: dict[int, bool] = {}
        found = []
        total = 0
        for client, state in self._each_client():
            if rule not in plan(client, state.ip).schedule:
                continue
            total += 1
            if condition is None:
                found.append(client)
                continue
            meets = known.get(state.settled) if by_status else None
            if meets is None:
                meets = condition(variables.of_scheduled(rule, client, state, at_ms, names))
                if by_status:
                    known[state.settled] = meets
            if meets:
                found.append(client)
        return found, total

    def step(self, now_ms: int) -> None:
        """The wall clock was set and shows `now_ms`, which to a schedule is a pause: what was missed is caught up once, or skipped.

        A clock that was put back by no more than `NOT_AGAIN_MS` brings no tick a second time.
        """
        for tick in self.ticks.values():
            if tick.at_ms > now_ms + NOT_AGAIN_MS:
                tick.at_ms = now_ms
                self._pipeline.alerts.out.schedules[tick.rule] = tick
        self.restore(list(self.ticks.values()))

    def restore(self, ticks: Iterable[Tick]) -> None:
        """How far schedules had come."""
        self.ticks = {tick.rule: tick for tick in ticks}
        self.use()
        self._is_resumed = True
