"""Stage `verify`: does the broker's answer agree with what the alert says?

| what comes of the query                  | what becomes of the alert                                                |
|------------------------------------------|--------------------------------------------------------------------------|
| the answer agrees                        | it goes on through the stages                                            |
| the answer contradicts it                | suppressed (`verify`): a false alarm avoided                             |
| nothing within `verify_within`, `send`   | it goes on, marked unverified                                            |
| nothing within `verify_within`, `hold`   | suppressed (`verify`) and queried again, until an answer comes           |

What came of it is `Alert.verified`: "" before the query, then one of the words below. Read `Verification.begin`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from engine.core.alerting.alert import SUPPRESSED, Alert
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.stages.base import AWAITS_ANSWER, PASS, Stage, StageReport, Verdict
from engine.core.presence.client_state import ONLINE, ClientState
from engine.core.presence.debounce import Policy
from engine.core.presence.query import VERIFY, QueryRequest
from engine.core.rules import VERIFIABLE, Rule
from engine.core.timers import QUERY_DEADLINES, NextWakeUp, TimerQueue
from engine.core.times import FOREVER

REASON: Final = "verify"

ASKED: Final = "asked"
AGREED: Final = "agreed"
CONTRADICTED: Final = "contradicted"
FAILED: Final = "failed"
"""No answer came in time and the rule says `send`."""
HELD: Final = "held"
"""No answer came in time and the rule says `hold`."""


class Verification:
    """The queries that alerts wait for."""

    def __init__(self, alerts: OpenAlerts, wake_up: NextWakeUp, policy: Callable[[], Policy]) -> None:
        self.timers: Final = TimerQueue(QUERY_DEADLINES, wake_up, _is_waiting)
        self.requests: list[QueryRequest] = []  # clients to query; the fleet takes them
        self.false_alarms_avoided = 0
        self._alerts = alerts
        self._policy = policy

    def begin(self, rule: Rule, alert: Alert, at_ms: int) -> None:
        """The alert is due and waits for an answer from now on."""
        alert.verified, alert.verify_from_ms = ASKED, at_ms
        alert.verify_until_ms = at_ms + rule.verify_within_ms
        self._alerts.changed(alert)
        self.timers.push(alert.verify_until_ms, alert)
        self.request(alert, at_ms)

    def can_ask(self) -> bool:
        """Is there anybody to ask?"""
        return self._policy().asks

    def request(self, alert: Alert, at_ms: int) -> None:
        """Have the alert's client queried, not before an instant."""
        if alert.client is not None and self._policy().asks:
            self.requests.append(QueryRequest(alert.client, VERIFY, at_ms))

    def no_answer(self, client: str, rules: dict[str, Rule], at_ms: int, again_ms: int) -> None:
        """An answer was of no use: have the client queried again while an alert waits for it. One query is enough for all."""
        soonest_ms: int = FOREVER
        for alert in self._alerts.of(client):
            if alert.verify_until_ms is not None:
                if alert.verify_until_ms > again_ms:
                    soonest_ms = min(soonest_ms, again_ms)
            elif alert.verified == HELD and alert.state == SUPPRESSED:
                rule = rules.get(alert.rule)
                soonest_ms = min(soonest_ms, at_ms + (rule.verify_within_ms if rule is not None else 0))
        if soonest_ms < FOREVER:
            self.requests.append(QueryRequest(client, VERIFY, soonest_ms))

    def clear(self) -> None:
        """Start again: nothing is asked, no alert waits."""
        self.timers.clear()
        self.requests = []


def is_waiting(alert: Alert) -> bool:
    """Would an answer decide about the alert?"""
    return alert.verify_until_ms is not None or (alert.state == SUPPRESSED and alert.reason == REASON)


def agrees(alert: Alert, connections: int) -> bool:
    """Does the number of a client's connections agree with what the alert says?"""
    if alert.trigger == "duplicate":
        return connections > 1
    if alert.trigger == "first_seen" and alert.transition is not None:
        return (connections > 0) == (alert.transition.status == ONLINE)
    return (connections > 0) == (alert.trigger == "online")


def _is_waiting(alert: Alert, due_ms: int) -> bool:
    return alert.verify_until_ms == due_ms and alert.resolved_at_ms is None


class VerificationStage(Stage):
    """The same for all rules that verify."""

    def __init__(self, verification: Verification) -> None:
        self.reason = REASON
        self.counts_together = True
        self._verification = verification

    def check(self, alert: Alert, state: ClientState, at_ms: int) -> Verdict:
        """See `Stage`. Where there is nobody to ask, everything passes."""
        is_decided = alert.verified == AGREED or alert.verified == FAILED
        if is_decided or alert.trigger not in VERIFIABLE or not self._verification.can_ask():
            return PASS
        return AWAITS_ANSWER

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """Nothing to do: an answer, or its deadline, has the alert looked at again."""

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """Nothing to do."""

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        return StageReport(REASON, not is_waiting(alert), {"verified": alert.verified}, alert.verify_until_ms)
