"""What happens to clients and sources, and what operators do, as the alert book is told of it. Read `Happenings.transition` first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from engine.core.alerting.gates import is_restless
from engine.core.alerting.rollcalls import RollCalls
from engine.core.alerting.stages.silence import Silence
from engine.core.presence.client_state import FIRST_HEARD, NEVER, NEW_CLIENT, OFFLINE, ONLINE, ClientState, Transition
from engine.core.presence.query import UNKNOWN as NO_ANSWER
from engine.core.presence.query import StatusAnswer

STATUS_TRIGGERS: Final = frozenset({"offline", "online", "first_seen"})
"""Triggers whose alerts end with the client's next transition."""


class Happenings(RollCalls):
    """The ledger's ears."""

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
            if self.watches:
                self._went_offline(client, state, plan.outage, at_ms)
            for rule in plan.offline:
                self._open(rule, "offline", client, state, transition, at_ms)
        elif status == ONLINE:
            if self.watches:
                self._came_back(client, at_ms)
            if not transition.first_seen:
                for rule in plan.online:
                    self._open(rule, "online", client, state, transition, at_ms)
        if state.flags & FIRST_HEARD:
            lasting = "offline" if status == OFFLINE else "" if transition.first_seen else "online"
            for rule in plan.first_seen:
                if lasting not in rule.triggers:
                    self._open(rule, "first_seen", client, state, transition, at_ms)
        if self._freed:
            self._free(at_ms)

    def flapping_started(self, client: str, state: ClientState, at_ms: int) -> None:
        """The client began to flap: it is no longer stable, and what waits for anything else now waits for calm."""
        for alert in list(self.active.get(client, ())):
            rule = self.rules.get(alert.rule)
            if alert.trigger == "stable":
                self._end(alert, at_ms, state, None)
            elif rule is not None and alert.state == "suppressed" and is_restless(rule, alert, state):
                self._hold(rule, alert, "flapping", "", at_ms)
        for rule in self.matcher.plan(client, state.ip).flapping:
            self._open(rule, "flapping", client, state, None, at_ms)
        self._free(at_ms)

    def flapping_stopped(self, client: str, state: ClientState, at_ms: int) -> None:
        """The client came to rest: its flapping alerts end, and what flapping held back fires."""
        alerts = list(self.active.get(client, ()))
        for alert in alerts:
            if alert.trigger == "flapping":
                self._end(alert, at_ms, state, None)
        for rule in self.matcher.plan(client, state.ip).stable:
            self._open(rule, "stable", client, state, None, at_ms)
        held = [alert for alert in alerts if alert.open and alert.state == "suppressed" and alert.reason == "flapping"]
        depths = self._depths
        for alert in sorted(held, key=lambda alert: depths.get(alert.rule, 0)) if depths else held:
            self._gate(alert, state, at_ms)
        self._free(at_ms)

    def duplicate(self, client: str, state: ClientState, at_ms: int, *, started: bool) -> None:
        """The client began, or ceased, to have more than one connection."""
        if started:
            for rule in self.matcher.plan(client, state.ip).duplicate:
                self._open(rule, "duplicate", client, state, None, at_ms)
            return
        for alert in list(self.active.get(client, ())):
            if alert.trigger == "duplicate":
                self._end(alert, at_ms, state, None)
        self._free(at_ms)

    def connected(self, client: str, state: ClientState, at_ms: int) -> None:
        """The first event of a client that only an answer had named is a connect."""
        for alert in list(self.active.get(client, ())):
            if alert.trigger == "never_seen":
                self._end(alert, at_ms, state, None)
        self._free(at_ms)

    def answered(self, before: ClientState, after: ClientState, answer: StatusAnswer, verdict: str, at_ms: int) -> None:
        """A query said something about a client, or failed: what waited for it goes on, before the belief has effects."""
        client, count = after.client, answer.connections or 0
        if verdict == NO_ANSWER:
            self._open_once("unverified", client, after, at_ms)
            self.asked_in_vain(client, at_ms, at_ms + self.teller.policy.confirm_after_ms)
            return
        for alert in list(self.active.get(client, ())):
            if alert.trigger == "unverified" or (alert.trigger == "never_seen" and count):
                self._end(alert, at_ms, after, None)
            elif self._waits_for_answer(alert) and answer.asked_at_ms >= alert.verify_from_ms:
                self._take_verdict(alert, after, count, at_ms)
        if not count and before.heard_ms == NEVER and answer.is_listed:
            self._open_once("never_seen", client, after, at_ms)
        self._free(at_ms)

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
        self._came_back(client, at_ms)
        self._free(at_ms)

    # What operators do

    def silence(self, silence: Silence, now_ms: int) -> None:
        """From `silence.from_ms` on, nothing fires for whom it covers; what fires already goes on."""
        self.out.silences[silence.id] = silence
        if silence.until_ms > now_ms:
            self._compile_silences([*self.gates.silences.open.values(), silence])
            self.endings.push(silence.until_ms, ("silence", silence.id))

    def expire_silence(self, silence_id: str, now_ms: int) -> bool:
        """The silence is over now: what it held back and still holds fires, together. Was there such a silence?"""
        known = self.gates.silences.open.get(silence_id)
        if known is None:
            return False
        self._end_silence(replace(known, until_ms=min(known.until_ms, now_ms)), now_ms)
        return True

    def _end_silence(self, silence: Silence, at_ms: int) -> None:
        self.out.silences[silence.id] = silence
        self._compile_silences([one for one in self.gates.silences.open.values() if one.id != silence.id])
        self._release(self.held.take(f"silence\0{silence.id}"), at_ms)

    def _compile_silences(self, silences: Iterable[Silence]) -> None:
        self.gates.silences.set(list(silences), self.teller.attributes, self.matcher.compile_patterns)
