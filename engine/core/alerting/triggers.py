"""Which alerts open and end when something happens to a client or a source. Read `Triggers.transition` first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from engine.core.alerting import lifecycle
from engine.core.alerting.alert import PENDING, SUPPRESSED, Alert
from engine.core.alerting.outage_alerts import OutageAlerts
from engine.core.alerting.pipeline import Pipeline
from engine.core.alerting.quorum_alerts import QuorumAlerts
from engine.core.alerting.stages import flapping, verification
from engine.core.keys import key_text
from engine.core.presence.client_state import (
    FIRST_HEARD,
    NEVER,
    NEW_CLIENT,
    OFFLINE,
    ONLINE,
    STATUS_NAMES,
    ClientState,
    Transition,
    last_transition,
)
from engine.core.presence.query import UNKNOWN as NO_ANSWER
from engine.core.presence.query import StatusAnswer
from engine.core.rules import UNDELIVERED, Rule

STATUS_TRIGGERS: Final = frozenset({"offline", "online", "first_seen"})
"""Triggers whose alerts end with the client's next transition."""


CELL: Final = "cell "
"""Before the name of a cell in what its alerts are about: no source has a name with a space."""


class Triggers:
    """Opens and ends alerts."""

    def __init__(self, pipeline: Pipeline, outages: OutageAlerts, quorums: QuorumAlerts) -> None:
        self._pipeline = pipeline
        self._outages = outages
        self._quorums = quorums
        self._alerts = pipeline.alerts

    def transition(self, transition: Transition, state: ClientState) -> None:
        """A client's settled status changed: end what was about the old status, open what is about the new one."""
        pipeline, outages = self._pipeline, self._outages
        client, status, at_ms = transition.client, transition.status, transition.settled_at_ms
        alerts = self._alerts.of(client)
        if alerts:
            for alert in [alert for alert in alerts if alert.trigger in STATUS_TRIGGERS]:
                pipeline.end(alert, at_ms, state, transition)
        plan = pipeline.matcher.plan(client, state.ip)
        if status == OFFLINE and state.heard_ms != NEVER:  # a client that no event ever named is `never_seen`
            if outages.watches:
                outages.went_offline(client, state, plan.outage, at_ms)
            if plan.quorum:
                self._quorums.settled(transition, state)
            for rule in plan.offline:
                pipeline.open(rule, "offline", client, state, transition, at_ms)
        elif status == ONLINE:
            if outages.watches:
                outages.came_back(client, at_ms)
            if plan.quorum:
                self._quorums.settled(transition, state)
            if not transition.first_seen:
                for rule in plan.online:
                    pipeline.open(rule, "online", client, state, transition, at_ms)
        elif plan.quorum:
            self._quorums.settled(transition, state)
        if state.flags & FIRST_HEARD:
            lasting = "offline" if status == OFFLINE else "" if transition.first_seen else "online"
            for rule in plan.first_seen:
                if lasting not in rule.triggers:
                    pipeline.open(rule, "first_seen", client, state, transition, at_ms)
        # What this frees is looked at after everything else of the instant: perhaps that resolves it.

    def _of(self, client: str) -> list[Alert]:
        """The client's open alerts, as they are now: what is done with them changes the list that `OpenAlerts` has."""
        return list(self._alerts.of(client))

    def _end(self, client: str, trigger: str, state: ClientState, at_ms: int) -> None:
        """End the client's alerts of one trigger."""
        for alert in self._of(client):
            if alert.trigger == trigger:
                self._pipeline.end(alert, at_ms, state)

    def flapping_started(self, client: str, state: ClientState, at_ms: int) -> None:
        """The client began to flap: it is no longer stable, and its suppressed alerts wait for the end of that."""
        pipeline = self._pipeline
        for alert in self._of(client):
            if alert.trigger == "stable":
                pipeline.end(alert, at_ms, state)
            elif alert.state == SUPPRESSED:
                pipeline.flapping_started(alert, state, at_ms)
        for rule in pipeline.matcher.plan(client, state.ip).flapping:
            pipeline.open(rule, "flapping", client, state, None, at_ms)
        pipeline.release_freed(at_ms)

    def flapping_stopped(self, client: str, state: ClientState, at_ms: int) -> None:
        """The client stopped flapping: its flapping alerts end, and what flapping suppressed fires."""
        pipeline = self._pipeline
        alerts = self._of(client)
        for alert in alerts:
            if alert.trigger == "flapping":
                pipeline.end(alert, at_ms, state)
        for rule in pipeline.matcher.plan(client, state.ip).stable:
            pipeline.open(rule, "stable", client, state, None, at_ms)
        suppressed = [
            alert for alert in alerts if alert.open and alert.state == SUPPRESSED and alert.reason == flapping.REASON
        ]
        pipeline.release(suppressed, at_ms)
        pipeline.release_freed(at_ms)

    def duplicate(self, client: str, state: ClientState, at_ms: int, *, started: bool) -> None:
        """The client began, or ceased, to have more than one connection."""
        if started:
            for rule in self._pipeline.matcher.plan(client, state.ip).duplicate:
                self._pipeline.open(rule, "duplicate", client, state, None, at_ms)
            return
        self._end(client, "duplicate", state, at_ms)
        self._pipeline.release_freed(at_ms)

    def connected(self, client: str, state: ClientState, at_ms: int) -> None:
        """The first event of a client that only an answer had named is a connect."""
        self._end(client, "never_seen", state, at_ms)
        self._pipeline.release_freed(at_ms)

    # Queries

    def answered(self, before: ClientState, after: ClientState, answer: StatusAnswer, verdict: str, at_ms: int) -> None:
        """A query said something about a client, or failed: what waited for it goes on, before the belief has effects."""
        pipeline, client, count = self._pipeline, after.client, answer.connections or 0
        if verdict == NO_ANSWER:
            self._open_once("unverified", client, after, at_ms)
            self.no_answer(client, at_ms, at_ms + pipeline.variables.policy.confirm_after_ms)
            return
        for alert in self._of(client):
            if alert.trigger == "unverified" or (alert.trigger == "never_seen" and count):
                pipeline.end(alert, at_ms, after)
            elif verification.is_waiting(alert) and answer.asked_at_ms >= alert.verify_from_ms:
                self._take_verdict(alert, after, count, at_ms)
        if not count and before.heard_ms == NEVER and answer.is_listed:
            self._open_once("never_seen", client, after, at_ms)
        pipeline.release_freed(at_ms)

    def no_answer(self, client: str, at_ms: int, again_ms: int) -> None:
        """An answer was of no use: what waits for one asks again, not before `again_ms`."""
        pipeline = self._pipeline
        pipeline.verification.no_answer(client, pipeline.rules, at_ms, again_ms)

    def _take_verdict(self, alert: Alert, state: ClientState, connections: int, at_ms: int) -> None:
        """An answer agrees with what the alert says, and it goes on; or contradicts it: a false alarm avoided."""
        alert.verify_until_ms = None
        if verification.agrees(alert, connections):
            alert.verified = verification.AGREED
            self._pipeline.due(alert, state, at_ms)
        elif alert.verified != verification.CONTRADICTED:
            alert.verified = verification.CONTRADICTED
            self._pipeline.verification.false_alarms_avoided += 1
            self._suppress_unverified(alert, at_ms)

    def _suppress_unverified(self, alert: Alert, at_ms: int) -> None:
        if lifecycle.suppress(alert, verification.REASON):
            self._alerts.line(alert, at_ms)

    def answer_overdue(self, alert: Alert, at_ms: int) -> None:
        """No answer came in time: the alert is sent, marked, or goes on waiting, as its rule says."""
        pipeline = self._pipeline
        alert.verify_until_ms = None
        rule = pipeline.rules.get(alert.rule)
        if rule is None:
            return
        if rule.verify_failure == "hold":
            alert.verified = verification.HELD
            self._suppress_unverified(alert, at_ms)
            pipeline.verification.request(alert, at_ms + rule.verify_within_ms)
        else:
            alert.verified = verification.FAILED
            pipeline.due(alert, pipeline.state_of_subject(alert), at_ms)

    def _open_once(self, trigger: str, client: str, state: ClientState, at_ms: int) -> None:
        """Open an alert for each rule of this trigger that has none going on."""
        plan = self._pipeline.matcher.plan(client, state.ip)
        rules = plan.never_seen if trigger == "never_seen" else plan.unverified
        if rules:
            known = {alert.rule for alert in self._alerts.of(client) if alert.trigger == trigger}
            for rule in rules:
                if rule.name not in known:
                    self._pipeline.open(rule, trigger, client, state, None, at_ms)

    # Looked at by the fleet

    def has_open(self, client: str, trigger: str) -> bool:
        """Is an alert of this trigger about the client going on?"""
        for alert in self._alerts.of(client):
            if alert.trigger == trigger:
                return True
        return False

    def waiting_for_calm(self) -> list[str]:
        """Clients with an alert that only the end of their flapping can end or release."""
        return [
            alert.client
            for alert in self._alerts
            if alert.client is not None and (alert.trigger == "flapping" or alert.reason == flapping.REASON)
        ]

    # Sources and cells

    def feed(self, source: str, trouble: str | None, at_ms: int) -> None:
        """What is wrong with a source (None: it is well). Opens and ends the alerts of trigger `feed`."""
        self._troubled("feed", self._pipeline.matcher.feed, source, trouble, at_ms)

    def cell(self, name: str, trouble: str | None, at_ms: int) -> None:
        """What is wrong with a cell (None: it has an owner). Opens and ends the alerts of trigger `cell`, whose source is `cell NAME`."""
        self._troubled("cell", self._pipeline.matcher.cell, f"{CELL}{name}", trouble, at_ms)

    def _troubled(self, trigger: str, rules: Sequence[Rule], about: str, trouble: str | None, at_ms: int) -> None:
        alerts = [alert for alert in self._of(f"\0{about}") if alert.trigger == trigger]
        if trouble is None:
            for alert in alerts:
                self._pipeline.end(alert, at_ms, NEW_CLIENT)
            return
        known = {alert.rule for alert in alerts}
        for rule in rules:
            if rule.name not in known:
                alert = self._alerts.add(rule, trigger, at_ms, source=about, detail=trouble)
                self._pipeline.due(alert, NEW_CLIENT, at_ms)

    # Targets of deliveries

    def undelivered(
        self,
        target: str,
        detail: str | None,
        at_ms: int,
        *,
        failing_since_ms: int = 0,
        is_dead: bool = False,
        reason: str | None = None,
    ) -> None:
        """What is wrong with a target of deliveries (None: a delivery there has succeeded). Opens and ends alerts of `undelivered`.

        `failing_since_ms`: since when its deliveries fail; `is_dead`: one of them is given up, which is not waited for. What is known is
        said again without effect. `reason`: why they end, if not by a delivery.
        """
        key = key_text({"target": target})
        for rule in self._pipeline.matcher.undelivered if detail is not None else ():
            self._target_fails(rule, key, detail or "", at_ms if is_dead else failing_since_ms + rule.for_ms, at_ms)
        if detail is None:
            for alert in [alert for alert in self._alerts.of_trigger(UNDELIVERED) if alert.key == key]:
                self._pipeline.end(alert, at_ms, NEW_CLIENT, reason=reason)

    def _target_fails(self, rule: Rule, key: str, detail: str, due_ms: int, at_ms: int) -> None:
        """A target fails: a new alert, which is due now or later; or one that waits is due sooner."""
        pipeline, known = self._pipeline, self._alerts.of(f"\0{rule.name}\0{key}")
        if not known:
            alert = self._alerts.add(rule, UNDELIVERED, at_ms, key=key, due_ms=max(due_ms, at_ms), detail=detail)
            if due_ms > at_ms:
                self._alerts.line(alert, at_ms)
                pipeline.await_for(alert)
                return
        else:
            alert = known[0]
            if alert.state != PENDING:
                return
            alert.detail = detail
            self._alerts.changed(alert)
            if due_ms > at_ms:
                return
            alert.due_at_ms = at_ms
        pipeline.due(alert, NEW_CLIENT, at_ms)

    # Clients and rules come and go

    def forget(self, client: str, state: ClientState, at_ms: int) -> None:
        """The client is no longer kept: its alerts end; who got a firing gets its recovery, or its incident would stay open for ever.

        `state`: as it was.
        """
        for alert in self._of(client):
            self._pipeline.end(alert, at_ms, state, reason="client_forgotten")
        self._outages.came_back(client, at_ms)
        self._pipeline.release_freed(at_ms)

    def adopt(self, rule: Rule, clients: Iterable[tuple[str, ClientState]], at_ms: int) -> int:
        """A rule is new: with `existing` it fires for clients in its status; returns how many such clients there were."""
        found = self._quorums.adopt(rule, at_ms) if rule.quorum is not None else 0
        for client, state in clients:
            trigger = STATUS_NAMES[state.settled]
            if trigger not in rule.triggers or rule not in self._pipeline.matcher.plan(client, state.ip).rules:
                continue
            found += 1
            if rule.existing:
                self._pipeline.open(rule, trigger, client, state, last_transition(state), at_ms)
        return found
