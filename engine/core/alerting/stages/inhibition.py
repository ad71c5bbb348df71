"""Stage `inhibited`: does another alert mute this one? It ends with that alert.

A rule that `inhibited_by` names inhibits while its alert fires for the same client, or while its outage or quorum covers the client; a
parent (`{rule, equal}`) while it fires for anything with the same values, see `parents`. An outage with `inhibit: true` inhibits every
rule for its members. An outage or a quorum is inhibited by another that covers all its clients that are offline. Shadow alerts inhibit only shadow rules. An outage that is muted, silenced or inhibited itself still inhibits; a
throttled one does not. Read `Inhibitors.of`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from engine.core.alerting.alert import FIRING, SUPPRESSED, Alert
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.outages import Outage, OutageWatch
from engine.core.alerting.parents import STILL_INHIBITING, Parents
from engine.core.alerting.quorums import Quorums
from engine.core.alerting.stages.base import PASS, Stage, StageReport, Suppressed, Verdict
from engine.core.alerting.suppressions import Suppressions, alert_until
from engine.core.keys import key_values
from engine.core.presence.client_state import ClientState
from engine.core.rules import Rule, inhibitors_of

REASON: Final = "inhibited"


class Inhibitors:
    """What may inhibit: the open alerts, and the outages and quorums going on."""

    def __init__(self, alerts: OpenAlerts, quorums: Quorums, parents: Parents) -> None:
        self.quorums: Final = quorums
        self.parents: Final = parents
        self.watches: dict[str, OutageWatch] = {}  # by rule
        self.outages: dict[str, Outage] = {}  # by the name of their alert
        self.rules: dict[str, Rule] = {}  # those in force and those that are being retired
        self._alerts_of_outages: dict[str, Alert] = {}  # by name
        self._alerts = alerts

    def of(self, rule: Rule, alert: Alert) -> Alert | None:
        """The alert that inhibits this one; None for none."""
        if alert.client is None:
            return self._of_many(rule, alert) if rule.inhibited_by else None
        if rule.inhibited_by:
            for other in self._alerts.of(alert.client):
                if other.rule in rule.inhibited_by and other.state == FIRING and self._may(other.rule, rule):
                    return other
            if self.quorums.watches:
                for name in rule.inhibited_by:
                    covering = self._covering_quorum(name, alert.client, rule)
                    if covering is not None:
                        return covering
        for name, watch in self.watches.items():
            outage = watch.member_of.get(alert.client)
            if outage is not None and (watch.terms.inhibit or name in rule.inhibited_by):
                covering = self._covering(outage, rule)
                if covering is not None:
                    return covering
        return None

    def _of_many(self, rule: Rule, alert: Alert) -> Alert | None:
        """An outage or a quorum is inhibited by another that covers all its clients that are offline."""
        for name in rule.inhibited_by:
            found: Alert | None = None
            for client in self._offline_in(alert):
                covering = self._covering_by(name, client, rule)
                if covering is None or (found is not None and covering is not found):
                    found = None
                    break
                found = covering
            if found is not None:
                return found
        return None

    def _offline_in(self, alert: Alert) -> Iterator[str]:
        """The clients that an outage or a quorum is about and that are offline."""
        outage = self.outages.get(alert.name)
        if outage is not None:
            yield from outage.offline_members()
        elif alert.trigger == "quorum":
            yield from self.quorums.down(alert.rule, alert.key or "")

    def _covering_by(self, name: str, client: str, rule: Rule) -> Alert | None:
        """The alert of an outage or a quorum of the rule `name` that covers the client and inhibits alerts of `rule`."""
        watch = self.watches.get(name)
        outage = watch.member_of.get(client) if watch is not None else None
        if outage is not None:
            return self._covering(outage, rule)
        return self._covering_quorum(name, client, rule)

    def _covering_quorum(self, name: str, client: str, rule: Rule) -> Alert | None:
        """The alert of a quorum, when it fires, counts the client as down, and may inhibit alerts of the rule."""
        key = self.quorums.key_where_down(name, client)
        if key is None or not self._may(name, rule):
            return None
        for other in self._alerts.of(f"\0{name}\0{key}"):
            if other.state == FIRING and other.trigger == "quorum":
                return other
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
        if inhibitor is not None:
            return Suppressed(REASON, alert_until(inhibitor.name))
        if self._rule.parents:
            found = self._inhibitors.parents.of(self._rule, alert)
            if found is not None:
                return Suppressed(REASON, found[1])
        return PASS

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """See `Stage`."""
        self._suppressions.wait(until, alert)

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """Nothing to do."""

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        rule = self._rule
        inhibitor = self._inhibitors.of(rule, alert)
        about: dict[str, Any] = {}
        if inhibitor is None and rule.parents:
            found = self._inhibitors.parents.of(rule, alert)
            if found is not None:
                inhibitor = found[0]
                about = {"equal": key_values(found[1].split("\0", 2)[2]), "client": inhibitor.client}
                about |= {"key": inhibitor.key} if inhibitor.client is None else {}
        if inhibitor is None:
            return StageReport(REASON, True, {"inhibited_by": list(inhibitors_of(rule))})
        about["rule"] = inhibitor.rule
        outage = self._inhibitors.outages.get(inhibitor.name)
        if outage is not None:
            about |= {"key": outage.key, "down": outage.down, "total": outage.total}
        elif inhibitor.trigger == "quorum":
            down, total = self._inhibitors.quorums.size(inhibitor.rule, inhibitor.key or "")
            about |= {"key": inhibitor.key, "quorum": down, "total": total}
        return StageReport(REASON, False, about)
