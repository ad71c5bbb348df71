"""An alert's life: pending, firing, resolved or suppressed; and what many alerts share.

| state      | from        | because                                                   | leaves                              |
|------------|-------------|-----------------------------------------------------------|-------------------------------------|
| pending    | (new)       | the trigger happened, `for` is not over                   | when `for` is over, or it reverts   |
| firing     | any of these| due, the condition holds and no gate is closed            | when what it is about ends          |
| suppressed | pending     | due, but a gate is closed (see `gates`)                   | when the gate opens, or it reverts  |
| resolved   | firing      | the opposite transition, the end of what it is about      | -                                   |

A pending or suppressed alert whose status reverts is dropped: nobody heard of it, so nobody hears of its end. What waits for
one gate fires together when it opens, as one firing.

This is the half of the engine that concerns many clients. It is a reducer over transitions with small keyed states; it never
reads a clock and never does I/O. `AlertManager` is told what happens and when a deadline passes; what that does is told by subject,
each a layer on the one before: `ledger` (one alert's life), `verifying` (questions), `retelling` (groups, reminders, acknowledgement), `incidents` (outages),
`rollcalls` (schedules), `happenings` (what happens to clients and what operators do). Read `Happenings.transition` first, then `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.core.alerting.happenings import Happenings
from engine.core.alerting.incidents import EachClient
from engine.core.alerting.ledger import FREED
from engine.core.alerting.rollcalls import nobody
from engine.core.matching import Attributes, Matcher
from engine.core.presence.client_state import (
    GRACEFUL,
    STATUS_NAMES,
    UNKNOWN,
    ClientState,
    Transition,
)
from engine.core.presence.debounce import Policy
from engine.core.rules import Rule
from engine.core.timers import TimerQueue
from engine.core.times import FOREVER

PURGED_AT_ONCE: Final = 20_000
"""Throttles that one purge looks at: about 10 ms."""

BURST: Final = 1_000
"""Deliveries that one rule may decide in a minute, when the configuration does not say."""

KINDS: Final = (
    "outages are calm",
    "windows and silences end",
    "throttles have room",
    "`for`s are over",
    "`for`s that rest on silence are over",
    "answers did not come in time",
    "groups",
    "reminders",
    "reminders that rest on silence",
    "roll calls",
    "summaries of bursts",
)
"""The book's deadlines, in the order in which those of one instant act."""

PASSING_KINDS: Final = (1, 7, 8, 9)
"""Those that never keep a replay running after its last event: they could go on for ever."""


class AlertManager(Happenings):
    """Every open alert and all they share. Changes are written to `out`, which the caller empties after each commit."""

    def __init__(
        self,
        matcher: Matcher,
        policy: Policy,
        attributes: Attributes,
        state_of: Callable[[str], ClientState],
        names_used: Callable[[Rule], frozenset[str]],
        each_client: EachClient = nobody,
        burst: int = 0,
    ) -> None:
        super().__init__(policy, attributes, state_of, burst)
        self._prepare()
        self._agendas: list[TimerQueue] = [
            self.calms, self.endings, self.throttling.rooms, self.fors, self.silent_fors, self.verdicts,
            self.group_deliveries, self.reminders, self.silent_reminders, self.calls, self.teller.summaries,
        ]  # fmt: skip  # as KINDS names them
        self._names_used = names_used
        self._each_client = each_client
        self._again: list[Alert] = []  # of a restart: suppressed ones that nothing seems to hold
        self.use(matcher)

    def use(self, matcher: Matcher, retired: Iterable[Rule] = (), now_ms: int = 0) -> None:
        """Work with these rules from `now_ms` on; `retired` ones only end the alerts they have."""
        self.matcher = matcher
        self.watches_duplicates = any("duplicate" in rule.triggers for rule in matcher.rules)
        before = self.rules
        self.rules = {rule.name: rule for rule in retired} | {rule.name: rule for rule in matcher.rules}
        self.teller.names = {name: self._names_used(rule) for name, rule in self.rules.items()}
        self._depths = _depths(matcher.rules)
        self._use_watches(self._each_client, now_ms)
        self.gates.use(self.rules)
        self._use_schedules(now_ms)
        self._compile_silences(self.gates.silences.open.values())
        self.edges.clear()
        again = self.held.take_all()
        if again:  # by other windows and other inhibitors than before
            self._freed += again
            self.endings.push(now_ms, (FREED, ""))
        self._remind_of(
            [
                rule
                for name, rule in self.rules.items()
                if rule.repeat_ms and name in before and not before[name].repeat_ms
            ],
            now_ms,
        )

    @property
    def attributes(self) -> Attributes:
        """The inventory's columns for a client."""
        return self.teller.attributes

    @attributes.setter
    def attributes(self, attributes: Attributes) -> None:
        self.teller.attributes = attributes

    @property
    def policy(self) -> Policy:
        """The knobs."""
        return self.teller.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.teller.policy = policy

    @property
    def throttles(self) -> dict[tuple[str, str], Throttled]:
        """Every throttle in which something counts or somebody waits, by rule and key."""
        return self.throttling.all

    # Rules come and go

    def retire(self, rule: str, at_ms: int) -> None:
        """The rule is gone: alerts that were sent get their recovery, the others vanish."""
        for alerts in list(self.active.values()):
            for alert in list(alerts):
                if alert.rule == rule and alert.open:
                    self._end_by_itself(alert, at_ms, self._subject_state(alert), "rule_removed")
        self._retire_groups(rule, at_ms)
        self.rules.pop(rule, None)
        self.watches.pop(rule, None)
        self.throttling.retire(self.out, rule)
        self._free(at_ms)

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

    @property
    def wake_ms(self) -> int:
        """Nothing is due before this instant: may be early, never late."""
        return self.alarm.at_ms

    def next_due(self, watermark_ms: int) -> tuple[int, int]:
        """The earliest deadline that may act and its place in `KINDS`; `FOREVER` when nothing is left."""
        best, kind = FOREVER, -1
        for index, agenda in enumerate(self._agendas):
            if not agenda.is_empty:
                due = agenda.next(watermark_ms)
                if due < best:
                    best, kind = due, index
        return best, kind

    def next_lasting(self) -> int:
        """The earliest deadline of a kind that is not in PASSING_KINDS; what is to be looked at again at once counts as well."""
        if self._freed:
            return 0
        return min([self._next_of(kind, FOREVER) for kind in range(len(KINDS)) if kind not in PASSING_KINDS])

    def rest(self) -> None:
        """Everything due has acted: note when something is due next, be it held back or not."""
        self.alarm.at_ms = self.next_due(FOREVER)[0]

    def _next_of(self, kind: int, watermark_ms: int) -> int:
        agenda = self._agendas[kind]
        return FOREVER if agenda.is_empty else agenda.next(watermark_ms)

    def act(self, kind: int, at_ms: int) -> None:
        """The earliest deadline of a kind has come; `next_due` said so."""
        if kind == 0:
            self.pass_calm(at_ms)
        elif kind == 1:
            self.pass_ending(at_ms)
        elif kind == 2:
            self.pass_room(at_ms)
        elif kind <= 4:
            self.pass_for(at_ms, silent=kind == 4)
        elif kind == 5:
            self.pass_verdict(at_ms)
        elif kind == 6:
            self.pass_group(at_ms)
        elif kind <= 8:
            self.pass_reminder(at_ms, silent=kind == 8)
        elif kind == 9:
            self.pass_tick(at_ms)
        else:
            burst = self.teller.summaries.pop(at_ms)
            self.teller.summarize(self.out, self.rules.get(burst.rule), burst, at_ms)

    def release(self, due_by_ms: int, to_ms: int) -> None:
        """What rests on silence and should have acted by `due_by_ms` acts at `to_ms`."""
        for agenda in (self.calms, self.silent_fors, self.silent_reminders):
            agenda.release(due_by_ms, to_ms)

    def pass_ending(self, at_ms: int) -> None:
        """A window's edge, a silence's end, or what an inhibitor that has ended sets free."""
        what, name = self.endings.pop(at_ms)
        if what == FREED:
            self._free(at_ms)
        elif what == "silence":
            self._end_silence(self.gates.silences.open[name], at_ms)
        else:
            del self.edges[name]
            rule = self.rules.get(name)
            if rule is not None and self.gates.is_muted(rule, at_ms):
                self._await_edge(rule, at_ms)
            else:
                self._release(self.held.take(f"mute\0{name}"), at_ms)

    def pass_for(self, at_ms: int, *, silent: bool) -> None:
        """The earliest `for` is over, at `at_ms`."""
        alert: Alert = (self.silent_fors if silent else self.fors).pop(at_ms)
        self._gate(alert, self._subject_state(alert), at_ms)

    def pass_room(self, at_ms: int) -> None:
        """There is room in a throttle: those whose status still holds fire together, as one firing."""
        throttled: Throttled = self.throttling.rooms.pop(at_ms)
        throttled.room_at_ms = None
        rule = self.rules.get(throttled.rule)
        waiting = list(throttled.waiting.values())
        if rule is None or not self.throttling.has_room(rule, throttled, at_ms):
            self.throttling.await_room(rule, throttled)
            return
        throttled.waiting.clear()
        self._release(waiting, at_ms)

    def purge(self, at_ms: int, limit: int = PURGED_AT_ONCE) -> None:
        """Forget throttles and bursts in which nothing counts any more; looks at some, and at the next at the next call."""
        self.throttling.purge(self.out, self.rules, at_ms, limit)
        self.teller.purge(self.out, at_ms)

    # After a restart

    def restore(
        self, alerts: Iterable[Alert], throttles: Iterable[Throttled], kept: Kept | None = None, now_ms: int = 0
    ) -> None:
        """Start again from what the store holds: open alerts, counted firings, and what else was going on.

        `now_ms`: the instant as of which that is, as far as it is known.
        """
        kept = kept or Kept()
        alerts = list(alerts)
        base_ms = max([now_ms, *[alert.fired_at_ms or alert.started_at_ms for alert in alerts]])
        self.active.clear()
        self._born_ms = -1
        self._freed = []
        self._again = []
        self._forget_questions()
        for agenda in (self.silent_fors, self.fors, self.endings):
            agenda.clear()
        self.held.clear()
        self.edges.clear()
        self.throttling.recall(throttles)
        self.teller.recall(kept.bursts)
        self.out = Output()
        for alert in alerts:
            self.active.setdefault(alert.subject, []).append(alert)
        self._compile_silences([silence for silence in kept.silences if silence.until_ms > base_ms])
        for silence in self.gates.silences.open.values():
            self.endings.push(silence.until_ms, ("silence", silence.id))
        self._count_all(self._each_client)
        self._recall_outages(alerts, kept.outages, kept.members)
        self._recall_told(kept.groups, alerts, base_ms)
        self._recall_ticks(kept.schedules)
        self.gates.names = {alert.name for alert in alerts}
        for alert in alerts:
            if alert.state == "pending":
                self._await_for(alert)
            elif alert.state == "suppressed":
                self._hold_again(alert, base_ms)
        self.gates.names = set()

    def _hold_again(self, alert: Alert, base_ms: int) -> None:
        """Something held the alert when it was kept: find it. When nothing does, it is looked at as soon as time passes."""
        rule = self.rules.get(alert.rule)
        if alert.reason == "throttle":
            self.throttling.recall_waiting(rule, alert)
        elif alert.reason == "verify":
            self._ask(alert, 0)
        elif alert.reason != "flapping" and rule is not None:
            at_ms = max(base_ms, alert.due_at_ms)
            holder, alert.held_by = alert.held_by, ""
            if not self.gates.still_holds(rule, holder, at_ms):
                holder = self.gates.holder(rule, alert, self._subject_state(alert), alert.reason or "", at_ms)
            if holder:
                self._hold(rule, alert, alert.reason or "", holder, at_ms)
            else:
                self._again.append(alert)

    def resume(self, to_ms: int) -> None:
        """Time is about to pass to `to_ms`."""
        super().resume(to_ms)
        if self._again:
            self._freed += self._again
            self._again = []
            self.endings.push(to_ms, (FREED, ""))


def _depths(rules: Iterable[Rule]) -> dict[str, int]:
    """How many rules inhibit one another above each rule that is inhibited at all; inhibitors come first."""
    found: dict[str, int] = {}
    for rule in rules:
        if rule.inhibited_by:
            found[rule.name] = 1 + max([found.get(name, 0) for name in rule.inhibited_by])
    return found
