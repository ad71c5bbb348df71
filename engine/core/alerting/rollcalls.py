"""Roll calls: at each tick of a schedule, one alert over all clients that match and meet the condition; none: nothing.

A schedule begins when the engine first sees its rule. After a pause, what was missed is held once, at once, or passed over
(`catch_up`); see `schedules.missed`. Read `RollCalls.pass_tick` first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from engine.core.alerting.incidents import EachClient, Incidents
from engine.core.alerting.schedules import LISTED, Tick, missed, next_tick
from engine.core.presence.client_state import NEW_CLIENT, ClientState
from engine.core.rules import Rule
from engine.core.timers import TimerQueue

BY_STATUS = frozenset({"status"})
"""Names of a condition whose answer is the same for all clients of one status: it is asked once for each."""


class RollCalls(Incidents):
    """The ledger's schedules."""

    def _prepare(self) -> None:
        super()._prepare()
        self.ticks: dict[str, Tick] = {}
        self.calls = TimerQueue(self.alarm, self._is_called)
        self._is_resumed = False  # has time stood still, so that ticks may have been missed?
        self._each_client: EachClient = nobody
        self._due: dict[str, int] = {}  # rule -> its next roll call
        self._unplanned: list[Rule] = []  # rules whose next roll call is not known yet

    def _use_schedules(self, now_ms: int = 0) -> None:
        """Hold roll calls by the rules as they are now; new ones begin at `now_ms`, or with the first instant that is told."""
        self.calls.clear()
        self._due.clear()
        self._unplanned = [
            rule for rule in self.rules.values() if rule.schedule is not None and "schedule" in rule.triggers
        ]
        for name in [name for name in self.ticks if name not in self.rules]:
            del self.ticks[name]
        for rule in self.rules.values():
            if now_ms and rule.schedule is not None and rule.name not in self.ticks:
                self.out.schedules[rule.name] = self.ticks[rule.name] = Tick(rule.name, now_ms)
        self.alarm.at_ms = 0

    def resume(self, to_ms: int) -> None:
        """Time is about to pass to `to_ms`: begin schedules that are new, and catch up on what was missed."""
        if not self._unplanned and not self._is_resumed:
            return
        for rule in self._unplanned:
            if rule.schedule is None or rule.name not in self.rules:
                continue
            tick = self.ticks.get(rule.name)
            is_missed = False
            if tick is None:
                tick = self.ticks[rule.name] = Tick(rule.name, to_ms)
                self.out.schedules[rule.name] = tick
            elif self._is_resumed:
                is_missed, tick.at_ms = missed(rule.schedule, tick.at_ms, to_ms)
                self.out.schedules[rule.name] = tick
            self._await_tick(rule, to_ms if is_missed else next_tick(rule.schedule, tick.at_ms))
        self._unplanned = []
        self._is_resumed = False

    def _await_tick(self, rule: Rule, due_ms: int) -> None:
        self._due[rule.name] = due_ms
        self.calls.push(due_ms, rule.name)

    def _is_called(self, name: str, due_ms: int) -> bool:
        return self._due.get(name) == due_ms

    def pass_tick(self, at_ms: int) -> None:
        """A roll call is due."""
        rule = self.rules.get(self.calls.pop(at_ms))
        if rule is None or rule.schedule is None:
            return
        tick = self.ticks[rule.name]
        tick.at_ms = at_ms
        self.out.schedules[rule.name] = tick
        self._await_tick(rule, next_tick(rule.schedule, at_ms))
        if rule in self.matcher.rules:  # one that is about to be retired opens nothing
            self._call(rule, at_ms)

    def _call(self, rule: Rule, at_ms: int) -> None:
        alert = self._new(rule, "schedule", None, None, at_ms, at_ms, None, "{}")
        missing = self._missing(rule, at_ms)
        if not missing:
            self._drop(alert, at_ms)
            return
        alert.count = len(missing)
        alert.listed = tuple(heapq.nsmallest(LISTED, missing))
        self._gate(alert, NEW_CLIENT, at_ms)

    def _missing(self, rule: Rule, at_ms: int) -> list[str]:
        """The clients that match and meet the condition."""
        condition, names, plan = rule.condition, rule.condition_names, self.matcher.plan
        by_status = bool(names) and names <= BY_STATUS
        known: dict[int, bool] = {}
        found = []
        for client, state in self._each_client():
            if rule not in plan(client, state.ip).schedule:
                continue
            if condition is None:
                found.append(client)
                continue
            meets = known.get(state.settled) if by_status else None
            if meets is None:
                meets = condition(self.teller.of_client(rule, client, state, at_ms, names))
                if by_status:
                    known[state.settled] = meets
            if meets:
                found.append(client)
        return found

    def _recall_ticks(self, ticks: Iterable[Tick]) -> None:
        """How far schedules had come."""
        self.ticks = {tick.rule: tick for tick in ticks}
        self._use_schedules()
        self._is_resumed = True


def nobody() -> Iterable[tuple[str, ClientState]]:
    """No client at all."""
    return ()
