"""Stage `inhibited`: does another alert mute this one? It ends with that alert.

A rule in `inhibited_by` inhibits while its alert fires for the same client, or while its outage covers the client. An outage with
`inhibit: true` inhibits every rule for its members. An outage is inhibited by another that covers all its members that are
offline. Shadow alerts inhibit only shadow rules. An outage that is muted, silenced or inhibited itself still inhibits; a
throttled one does not. Read `Inhibitors.of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.core.alerting.alert import FIRING, SUPPRESSED, Alert
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.outages import Outage, OutageWatch
from engine.core.alerting.stages.base import PASS, Stage, StageReport, Suppressed, Verdict
from engine.core.alerting.suppressions import Suppressions, alert_until
from engine.core.presence.client_state import ClientState
from engine.core.rules import Rule

REASON: Final = "inhibited"

STILL_INHIBITING: Final = frozenset({"mute", "silence", "inhibited"})
"""Reasons for which an outage may be suppressed and inhibit its members all the same."""


class Inhibitors:
    """What may inhibit: the open alerts, and the outages going on."""

    def __init__(self, alerts: OpenAlerts) -> None:
        self.watches: dict[str, OutageWatch] = {}  # by rule
        self.outages: dict[str, Outage] = {}  # by the name of their alert
        self.rules: dict[str, Rule] = {}  # those in force and those that are being retired
        self._alerts_of_outages: dict[str, Alert] = {}  # by name
        self._alerts = alerts

    def of(self, rule: Rule, alert: Alert) -> Alert | None:
        """The alert that inhibits this one; None for none."""
        if alert.client is None:
            return self._of_outage(rule, alert) if rule.inhibited_by else None
        if rule.inhibited_by:
            for other in self._alerts.of(alert.client):
                if other.rule in rule.inhibited_by and other.state == FIRING and self._may(other.rule, rule):
                    return other
        for name, watch in self.watches.items():
            outage = watch.member_of.get(alert.client)
            if outage is not None and (watch.terms.inhibit or name in rule.inhibited_by):
                covering = self._covering(outage, rule)
                if covering is not None:
                    return covering
        return None

    def _of_outage(self, rule: Rule, alert: Alert) -> Alert | None:
        """An outage is inhibited by another that covers all its members that are offline."""
        outage = self.outages.get(alert.name)
        if outage is None:
            return None
        for name in rule.inhibited_by:
            watch = self.watches.get(name)
            first = next(outage.offline_members(), None) if watch is not None else None
            other = watch.member_of.get(first) if watch is not None and first is not None else None
            covering = self._covering(other, rule) if other is not None else None
            if watch is None or covering is None:
                continue
            if all(watch.member_of.get(client) is other for client in outage.offline_members()):
                return covering
        return None

    def _covering(self, outage: Outage, rule: Rule) -> Alert | None:
        """The outage's alert, when it inhibits alerts of the rule."""
        alert = self._alerts_of_outages.get(outage.name)
        if alert is None or not self._may(outage.rule, rule):
            return None
        inhibits = alert.state == FIRING or (alert.state == SUPPRESSED and alert.reason in STILL_INHIBITING)
        return alert if inhibits else None

    def _may(self, inhibitor: str, rule: Rule) -> bool:
        by = self.rules.get(inhibitor)
        return by is not None and (rule.shadow or not by.shadow)

    def outage_began(self, outage: Outage, alert: Alert) -> None:
        """From now on it may inhibit."""
        self.outages[outage.name] = outage
        self._alerts_of_outages[outage.name] = alert

    def outage_ended(self, outage: Outage) -> None:
        """It does not inhibit any more."""
        self.outages.pop(outage.name, None)
        self._alerts_of_outages.pop(outage.name, None)

    def alert_of(self, outage: Outage) -> Alert | None:
        """The alert of an outage going on."""
        return self._alerts_of_outages.get(outage.name)

    def progress(self) -> dict[str, tuple[int, int]]:
        """Outages that go on, by the id of their alert: how many clients ever joined, and how many are back."""
        found = {}
        for name, outage in list(self.outages.items()):
            alert = self._alerts_of_outages.get(name)
            if alert is not None:
                found[alert.id] = (outage.total, outage.back)
        return found

    def clear(self) -> None:
        """Forget alerts and outages."""
        self.outages.clear()
        self._alerts_of_outages.clear()


class InhibitionStage(Stage):
    """The inhibition of one rule's alerts."""

    def __init__(self, rule: Rule, inhibitors: Inhibitors, suppressions: Suppressions) -> None:
        self.reason = REASON
        self.mutes_reminders = True
        self._rule = rule
        self._inhibitors = inhibitors
        self._suppressions = suppressions

    def check(self, alert: Alert, state: ClientState, at_ms: int) -> Verdict:
        """See `Stage`."""
        inhibitor = self._inhibitors.of(self._rule, alert)
        return PASS if inhibitor is None else Suppressed(REASON, alert_until(inhibitor.name))

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """See `Stage`."""
        self._suppressions.wait(until, alert)

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """Nothing to do."""

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        inhibitor = self._inhibitors.of(self._rule, alert)
        if inhibitor is None:
            return StageReport(REASON, True, {"inhibited_by": list(self._rule.inhibited_by)})
        outage = self._inhibitors.outages.get(inhibitor.name)
        about: dict[str, Any] = {"rule": inhibitor.rule}
        if outage is not None:
            about |= {"key": outage.key, "down": outage.down, "total": outage.total}
        return StageReport(REASON, False, about)
