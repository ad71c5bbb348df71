"""Outages as alerts: when one opens, who joins it, what its end sets free. The counting itself is in `outages`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from engine.core.alerting.alert import Alert
from engine.core.alerting.outages import Outage, OutageWatch, down_since
from engine.core.alerting.retelling import Retelling
from engine.core.matching import Matcher
from engine.core.presence.client_state import NEW_CLIENT, OFFLINE, ONLINE, ClientState
from engine.core.rules import Rule
from engine.core.timers import TimerQueue

EachClient = Callable[[], Iterable[tuple[str, ClientState]]]
"""Every client that is known, with its state."""


class Incidents(Retelling):
    """The ledger's outages."""

    matcher: Matcher

    def _prepare(self) -> None:
        super()._prepare()
        self.watches: dict[str, OutageWatch] = self.gates.watches
        self.calms = TimerQueue(self.alarm, _is_calm_due, silent=True)

    def _use_watches(self, clients: EachClient, now_ms: int) -> None:
        """Watch by the rules as they are now: outages go on, everybody is counted anew; those of no outage rule are over."""
        watches = {}
        for name, rule in self.rules.items():
            if rule.outage is not None and "outage" in rule.triggers:
                before = self.watches.get(name)
                attributes = self.teller.attributes
                watches[name] = before.edited(rule, attributes) if before else OutageWatch(rule, attributes)
        for outage in list(self.gates.outages.values()):
            if outage.rule not in watches:
                self._end_outage(outage, now_ms)
        self.watches.clear()
        self.watches.update(watches)
        self._count_all(clients)

    def _count_all(self, clients: EachClient) -> None:
        if not self.watches:
            return
        for watch in self.watches.values():
            watch.clear()
        plan = self.matcher.plan
        for client, state in clients():
            for rule in plan(client, state.ip).outage:
                self.watches[rule.name].put(client, state)

    def moved(self, client: str, before: ClientState, after: ClientState, at_ms: int) -> None:
        """A client's observed status, the time of its change, or its address is another: outages count anew.

        To be called for each such change while `watches` is not empty. `NEW_CLIENT` stands for one that is not known.
        """
        for rule in self.matcher.plan(client, before.ip).outage:
            self.watches[rule.name].take(client, before)
        for rule in self.matcher.plan(client, after.ip).outage:
            self.watches[rule.name].put(client, after)
        if after.observed == ONLINE and after.settled != OFFLINE:
            self._came_back(client, at_ms)
            self._free(at_ms)

    def _went_offline(self, client: str, state: ClientState, rules: Iterable[Rule], at_ms: int) -> None:
        """A client has settled offline; called before anything is planned about it."""
        for rule in rules:
            watch = self.watches[rule.name]
            outage, founders = watch.settled_offline(client, state, at_ms)
            if outage is not None:
                self._join(watch, outage, client, state.occurred_at_ms, at_ms)
                self.out.outages[outage.name] = outage
            elif founders:
                self._open_outage(rule, watch, watch.key_of(client, state.ip) or "", founders, at_ms)

    def _open_outage(self, rule: Rule, watch: OutageWatch, key: str, founders: Sequence[str], at_ms: int) -> None:
        alert = self._new(rule, "outage", None, None, at_ms, at_ms, None, key)
        changes = [down_since(self._state_of(client)) for client in founders]
        outage = Outage(alert.name, rule.name, key, min(changes), max(changes), at_ms, 0)
        watch.open(outage)
        self.gates.outage_began(outage, alert)
        for client, occurred_ms in zip(founders, changes, strict=True):
            self._join(watch, outage, client, occurred_ms, at_ms)
        self._gate(alert, NEW_CLIENT, at_ms)
        if alert.open:
            self.out.outages[outage.name] = outage
            return
        watch.refuse(outage)
        self.gates.outage_ended(outage)
        for client in founders:
            del self.out.members[outage.name, client]

    def _join(self, watch: OutageWatch, outage: Outage, client: str, occurred_ms: int, at_ms: int) -> None:
        watch.join(outage, client, occurred_ms, at_ms)
        if outage.calm_at_ms is not None and not watch.looks_calm(outage):
            outage.calm_at_ms = None
        self.out.members[outage.name, client] = True

    def _came_back(self, client: str, at_ms: int) -> None:
        """A client is online: it is counted back, and the outage may be over."""
        for watch in self.watches.values():
            outage = watch.back(client, at_ms)
            if outage is None:
                continue
            self.out.members[outage.name, client] = False
            self.out.outages[outage.name] = outage
            if not outage.down:
                self._end_outage(outage, at_ms)
            elif outage.calm_at_ms is None:
                self._await_calm(watch, outage)

    def _await_calm(self, watch: OutageWatch, outage: Outage) -> None:
        if watch.looks_calm(outage):
            outage.calm_at_ms = outage.quiet_since_ms + watch.terms.within_ms
            self.calms.push(outage.calm_at_ms, outage)

    def pass_calm(self, at_ms: int) -> None:
        """An outage is looked at: few are down and nobody joined or came back for long enough, or it is looked at later."""
        outage: Outage = self.calms.pop(at_ms)
        outage.calm_at_ms = None
        watch = self.watches.get(outage.rule)
        if watch is None or not watch.looks_calm(outage):
            return
        if outage.quiet_since_ms + watch.terms.within_ms <= at_ms:
            self._end_outage(outage, at_ms)
            self._free(at_ms)
        else:
            self._await_calm(watch, outage)

    def _end_outage(self, outage: Outage, at_ms: int, reason: str | None = None) -> None:
        """It is over: its alert is, and whoever is still down speaks for itself (`_free`)."""
        alert = self.gates.alert_of(outage)
        if alert is not None and alert.open:
            self._end(alert, at_ms, NEW_CLIENT, None, reason)
        watch = self.watches.get(outage.rule)
        if watch is not None:
            watch.close(outage)
        outage.is_over = True
        self.gates.outage_ended(outage)
        self.out.outages[outage.name] = outage

    def _end_by_itself(self, alert: Alert, at_ms: int, state: ClientState, reason: str | None = None) -> None:
        """End an alert whatever it is about."""
        outage = self.gates.outages.get(alert.name)
        if outage is not None:
            self._end_outage(outage, at_ms, reason)
        else:
            self._end(alert, at_ms, state, None, reason)

    def _recall_outages(
        self, alerts: Iterable[Alert], outages: Iterable[Outage], members: Iterable[tuple[str, str, bool]]
    ) -> None:
        """Outages as they were kept, and their members."""
        self.calms.clear()
        self.gates.clear()
        known = {outage.name: outage for outage in outages}
        named = {alert.name: alert for alert in alerts if alert.trigger == "outage"}
        for name, client, is_down in members:
            if name in known:
                known[name].members[client] = is_down
        for watch in self.watches.values():
            watch.outages, watch.member_of = {}, {}
        for name, alert in named.items():  # the earlier ones first
            outage = known.get(name)
            watch_of = self.watches.get(alert.rule)
            if outage is None or watch_of is None:
                continue
            watch_of.recall(outage)
            self.gates.outage_began(outage, alert)
            self._await_calm(watch_of, outage)


def _is_calm_due(outage: Outage, due_ms: int) -> bool:
    return outage.calm_at_ms == due_ms and not outage.is_over
