"""Stage `inhibited`: does another alert mute this one? It ends with that alert, or when the outage no longer covers the client.

A rule that `inhibited_by` names inhibits while its alert fires for the same client, or while its outage or quorum covers the client; a
parent (`{rule, equal}`) while it fires for anything with the same values, see `parents`. An outage with
`inhibit: true` inhibits every rule for whoever it covers, of every trigger (see `outages`), and the `online` of a member that comes
back. An outage or a quorum is inhibited by an outage or a quorum of a rule in `inhibited_by` that covers all who are down in it. Shadow alerts inhibit
only shadow rules. An outage that is muted, silenced or inhibited itself still inhibits; a throttled one does not. Read
`Inhibitors.of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from engine.core.alerting.alert import FIRING, SUPPRESSED, Alert
from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.outage_watch import OutageWatch
from engine.core.alerting.outages import Outage, is_down_on_hold
from engine.core.alerting.parents import STILL_INHIBITING, Inhibition, Parents
from engine.core.alerting.quorums import Quorums
from engine.core.alerting.stages.base import PASS, Stage, StageReport, Suppressed, Verdict
from engine.core.alerting.suppressions import Suppressions, alert_until, cover_until, covering_alert
from engine.core.keys import key_values
from engine.core.matching import Matcher
from engine.core.presence.client_state import ClientState
from engine.core.rules import Rule, inhibitors_of

REASON: Final = "inhibited"


class Inhibitors:
    """What may inhibit: the open alerts, and the outages and quorums going on."""

    def __init__(
        self, alerts: OpenAlerts, quorums: Quorums, parents: Parents, state_of: Callable[[str], ClientState]
    ) -> None:
        self.quorums: Final = quorums
        self.parents: Final = parents
        self.watches: dict[str, OutageWatch] = {}  # by rule
        self.outages: dict[str, Outage] = {}  # by the name of their alert
        self.rules: dict[str, Rule] = {}  # those in force and those that are being retired
        self.matcher: Matcher | None = None  # the rules in force
        self._alerts_of_outages: dict[str, Alert] = {}  # by name
        self._alerts = alerts
        self._state_of = state_of

    def of(self, rule: Rule, alert: Alert, state: ClientState) -> Inhibition | None:
        """What inhibits this alert; None for nothing. `state`: that of its client."""
        found = self._by_name(rule, alert, state)
        return self.parents.of(rule, alert) if found is None and rule.parents else found

    def _by_name(self, rule: Rule, alert: Alert, state: ClientState) -> Inhibition | None:
        """What inhibits this alert because it is about the same client or covers it."""
        if alert.client is None:
            if not rule.inhibited_by:
                return None
            outage = self.outages.get(alert.name)
            found = self._of_outage(rule, outage) if outage is not None else None
            return found if found is not None else self._by_what_covers_all(rule, alert, outage)
        if rule.inhibited_by:
            for other in self._alerts.of(alert.client):
                if other.rule in rule.inhibited_by and other.state == FIRING and self._may(other.rule, rule):
                    return Inhibition(other, alert_until(other.name))
            if self.quorums.watches:
                for name in rule.inhibited_by:
                    by = self._covering_quorum(name, alert.client, rule)
                    if by is not None:
                        return Inhibition(by, alert_until(by.name))
        for name, watch in self.watches.items():
            if watch.outages and (watch.terms.inhibit or name in rule.inhibited_by):
                found = self._by_outage(watch, rule, alert, alert.client, state)
                if found is not None:
                    return found
        return None

    def _by_outage(
        self, watch: OutageWatch, rule: Rule, alert: Alert, client: str, state: ClientState
    ) -> Inhibition | None:
        """The outage of one rule that inhibits a client's alert; None for none."""
        outage = self.covering(watch, client, state)
        is_loose = outage is not None and not outage.is_down(client)
        if outage is None and alert.trigger == "online":
            outage = watch.returned_to(client)
        by = self._inhibiting(outage, rule) if outage is not None else None
        if by is None:
            return None
        return Inhibition(by, cover_until(by.name) if is_loose else alert_until(by.name))

    def covering(self, watch: OutageWatch, client: str, state: ClientState) -> Outage | None:
        """The outage of one rule that covers a client; None for none."""
        if watch.is_down(client):
            return watch.member_of[client]
        if not watch.outages or not is_down_on_hold(state) or self.matcher is None:
            return None
        return watch.would_join(client, state) if watch.rule in self.matcher.plan(client, state.ip).outage else None

    def _by_what_covers_all(self, rule: Rule, alert: Alert, outage: Outage | None) -> Inhibition | None:
        """A quorum by an outage or a quorum, or an outage by a quorum, that covers all who are down in it."""
        clients: Iterable[str] = ()
        if outage is not None:
            clients = outage.offline_members() if self.quorums.watches else ()
        elif alert.trigger == "quorum":
            clients = self.quorums.down(alert.rule, alert.key or "")
        clients = list(clients)
        for name in rule.inhibited_by if clients else ():
            by = self._covering_settled(name, clients[0], rule)
            if by is not None and all(self._covering_settled(name, client, rule) is by for client in clients):
                return Inhibition(by, alert_until(by.name))
        return None

    def still_covers_down(self, rule: Rule, alert: Alert, client: str) -> bool:
        """Does what inhibits a quorum by name cover one more client that is down in it? True when something else inhibits it."""
        name = covering_alert(alert.until)
        if not name:
            return True
        found = [self._covering_settled(one, client, rule) for one in rule.inhibited_by]
        return any(by is not None and by.name == name for by in found)

    def _covering_settled(self, name: str, client: str, rule: Rule) -> Alert | None:
        """The alert of an outage or a quorum of the rule `name` in which the client is down, and that inhibits alerts of `rule`."""
        watch = self.watches.get(name)
        if watch is None:
            return self._covering_quorum(name, client, rule)
        return self._inhibiting(watch.member_of[client], rule) if watch.is_down(client) else None

    def _covering_quorum(self, name: str, client: str, rule: Rule) -> Alert | None:
        """The alert of a quorum, when it fires, counts the client as down, and may inhibit alerts of the rule."""
        key = self.quorums.key_where_down(name, client)
        if key is None or not self._may(name, rule):
            return None
        for other in self._alerts.of(f"\0{name}\0{key}"):
            if other.state == FIRING and other.trigger == "quorum":
                return other
        return None

    def _of_outage(self, rule: Rule, outage: Outage) -> Inhibition | None:
        """An outage is inhibited by another that covers all who are down in it."""
        for name in rule.inhibited_by:
            watch = self.watches.get(name)
            other = self._covering_all(watch, outage) if watch is not None else None
            by = self._inhibiting(other, rule) if other is not None else None
            if other is not None and by is not None:
                is_loose = any(not other.is_down(client) for client in outage.offline_members())
                return Inhibition(by, cover_until(by.name) if is_loose else alert_until(by.name))
        return None

    def _covering_all(self, watch: OutageWatch, outage: Outage) -> Outage | None:
        """The outage of one rule that covers all who are down in another; None when there is no such."""
        found: Outage | None = None
        for client in outage.offline_members():
            other = self.covering(watch, client, self._state_of(client))
            if other is None or (found is not None and other is not found):
                return None
            found = other
        return found

    def still_covers(self, alert: Alert, client: str) -> bool:
        """Does the outage that inhibits another outage's alert cover one more client that is down in that?"""
        outage = self.outages.get(covering_alert(alert.until))
        watch = self.watches.get(outage.rule) if outage is not None else None
        return watch is not None and self.covering(watch, client, self._state_of(client)) is outage

    def note_loose(self, alert: Alert, until: str) -> None:
        """An alert waits for an outage to cease to cover clients on hold: the outage knows how late their changes occurred."""
        outage = self.outages.get(covering_alert(until))
        if outage is None or until != cover_until(outage.name):
            return
        about = self.outages.get(alert.name)
        clients = [alert.client] if alert.client is not None else about.offline_members() if about is not None else []
        for client in clients:
            state = self._state_of(client)
            if is_down_on_hold(state) and not outage.is_down(client):
                outage.loosest_ms = max(outage.loosest_ms, state.hold_occurred_at_ms)

    def _inhibiting(self, outage: Outage, rule: Rule) -> Alert | None:
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
        return {id_: (outage.total, outage.back) for id_, outage in self.going_on().items()}

    def going_on(self) -> dict[str, Outage]:
        """Outages that go on, by the id of their alert."""
        found = {}
        for name, outage in list(self.outages.items()):
            alert = self._alerts_of_outages.get(name)
            if alert is not None:
                found[alert.id] = outage
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
        found = self._inhibitors.of(self._rule, alert, state)
        return PASS if found is None else Suppressed(REASON, found.until)

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """See `Stage`."""
        self._suppressions.wait(until, alert)
        self._inhibitors.note_loose(alert, until)

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """Nothing to do."""

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        found = self._inhibitors.of(self._rule, alert, state)
        if found is None:
            return StageReport(REASON, True, {"inhibited_by": list(inhibitors_of(self._rule))})
        by, outage = found.by, self._inhibitors.outages.get(found.by.name)
        about: dict[str, Any] = {"rule": by.rule}
        if found.values:
            about |= {"equal": key_values(found.values), "client": by.client}
        if outage is not None:
            about |= {"key": outage.key, "down": outage.down, "total": outage.total}
        elif by.trigger == "quorum":
            down, total = self._inhibitors.quorums.size(by.rule, by.key or "")
            about |= {"key": by.key, "quorum": down, "total": total}
        return StageReport(REASON, False, about)
