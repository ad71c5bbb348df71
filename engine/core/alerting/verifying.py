"""Verification: before an alert of a rule with `verify` fires, a query is to agree with it.

| what comes of asking                     | what becomes of the alert                                                |
|------------------------------------------|--------------------------------------------------------------------------|
| the answer agrees                        | it goes on through the gates                                             |
| the answer contradicts it                | suppressed (`verify`): a false alarm avoided                             |
| nothing within `verify_within`, `send`   | it goes on, marked unverified                                            |
| nothing within `verify_within`, `hold`   | suppressed (`verify`) and asked again, until an answer comes             |
"""

from __future__ import annotations

from engine.core.alerting.alert import Alert
from engine.core.alerting.ledger import Ledger
from engine.core.presence.client_state import ONLINE, ClientState
from engine.core.presence.query import VERIFY, QueryRequest
from engine.core.rules import VERIFIABLE, Rule
from engine.core.timers import TimerQueue
from engine.core.times import FOREVER


class Verifying(Ledger):
    """The ledger's questions."""

    def _prepare(self) -> None:
        """Once, when the book is made."""
        self.verdicts = TimerQueue(self.alarm, _is_waiting)  # until when an answer is waited for
        self.asks: list[QueryRequest] = []  # whom to ask; the fleet takes them
        self.false_alarms_avoided = 0

    def pass_verdict(self, at_ms: int) -> None:
        """No answer came in time: the alert is sent, marked, or goes on waiting, as its rule says."""
        alert: Alert = self.verdicts.pop(at_ms)
        alert.verify_until_ms = None
        rule = self.rules.get(alert.rule)
        if rule is None:
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
            and self.teller.policy.asks
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
        self.verdicts.push(alert.verify_until_ms, alert)
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
        """An answer was of no use: whoever waits for one asks again while there is time. One question is enough for all."""
        soonest_ms = FOREVER
        for alert in self.active.get(client, ()):
            if alert.verify_until_ms is not None:
                if alert.verify_until_ms > again_ms:
                    soonest_ms = min(soonest_ms, again_ms)
            elif alert.verified == "held" and alert.state == "suppressed":
                rule = self.rules.get(alert.rule)
                soonest_ms = min(soonest_ms, at_ms + (rule.verify_within_ms if rule is not None else 0))
        if soonest_ms < FOREVER:
            self.asks.append(QueryRequest(client, VERIFY, soonest_ms))

    def _ask(self, alert: Alert, at_ms: int) -> None:
        if alert.client is not None and self.teller.policy.asks:
            self.asks.append(QueryRequest(alert.client, VERIFY, at_ms))

    def _forget_questions(self) -> None:
        """Before what a store kept is taken up."""
        self.verdicts.clear()
        self.asks = []


def _is_waiting(alert: Alert, due_ms: int) -> bool:
    return alert.verify_until_ms == due_ms and alert.resolved_at_ms is None
