"""What may stand between an alert that is due and its firing, and what keeps a reminder back.

| reason      | closed while                                                              | what ends it                  |
|-------------|---------------------------------------------------------------------------|-------------------------------|
| `flapping`  | the client is flapping, and the rule does not say `flapping: fire`         | flapping stops                |
| `mute`      | inside a `mute` window, or outside every `active` one                     | the window's edge             |
| `silence`   | a silence covers the client                                               | its end, or an operator       |
| `inhibited` | a rule in `inhibited_by` fires for the client; or it is in an outage      | the end of that alert         |
| `throttle`  | (in `throttles`)                                                          | room                          |
| `verify`    | (in `verifying`)                                                          | an answer, or waiting in vain |

They are asked in this order and the first that is closed is the reason. Each closed one names its holder: what has to end before
the alert is looked at again. An outage that is muted, silenced or inhibited itself still inhibits; a throttled one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from engine.core.alerting.alert import Alert
from engine.core.alerting.outages import Outage, OutageWatch
from engine.core.alerting.stages.silence import Silences
from engine.core.presence.client_state import FLAPPING, ClientState
from engine.core.rules import UNFLAPPABLE, Rule
from engine.core.times import FOREVER

OPEN: Final = ("", "")
"""No gate is closed."""

STILL_INHIBITING: Final = frozenset({"mute", "silence", "inhibited"})
"""Reasons for which an outage may be suppressed and inhibit its members all the same."""


class Held:
    """Suppressed alerts by what holds them, each under one holder; in the order in which they were suppressed."""

    def __init__(self) -> None:
        self._by: dict[str, dict[str, Alert]] = {}

    def add(self, holder: str, alert: Alert) -> None:
        """The alert waits for the end of `holder`."""
        alert.held_by = holder
        self._by.setdefault(holder, {})[alert.name] = alert

    def drop(self, alert: Alert) -> None:
        """It waits no more."""
        if alert.held_by:
            alerts = self._by.get(alert.held_by, {})
            alerts.pop(alert.name, None)
            if not alerts:
                self._by.pop(alert.held_by, None)
            alert.held_by = ""

    def take(self, holder: str) -> list[Alert]:
        """The holder has ended: who waited for it."""
        alerts = list(self._by.pop(holder, {}).values())
        for alert in alerts:
            alert.held_by = ""
        return alerts

    def has(self, holder: str) -> bool:
        """Does anyone wait for it?"""
        return holder in self._by

    def take_all(self) -> list[Alert]:
        """Everyone who waits for anything."""
        return [alert for holder in list(self._by) for alert in self.take(holder)]

    def clear(self) -> None:
        """Nobody waits."""
        self._by.clear()


class Gates:
    """Says of an alert that is due which gate is closed. Knows the alerts and rules of the book, and changes none."""

    def __init__(self, active: dict[str, list[Alert]], state_of: Callable[[str], ClientState]) -> None:
        self.silences = Silences()
        self.watches: dict[str, OutageWatch] = {}  # by rule
        self.outages: dict[str, Outage] = {}  # by the name of their alert
        self._alerts: dict[str, Alert] = {}  # of outages, by name
        self._active = active
        self._state_of = state_of
        self._rules: dict[str, Rule] = {}
        self.inhibits = False
        self.names: set[str] = set()  # of open alerts, while what a store kept is taken up
        self._windows: dict[str, tuple[int, int, bool]] = {}  # rule -> from, until, was it closed in between

    def use(self, rules: dict[str, Rule]) -> None:
        """These are the rules now."""
        self._rules = rules
        self._windows.clear()
        self.inhibits = bool(self.watches) or any(rule.inhibited_by for rule in rules.values())

    def closed(self, rule: Rule, alert: Alert, state: ClientState, at_ms: int) -> tuple[str, str]:
        """The reason why the alert may not fire now and its holder; OPEN when it may, throttle aside."""
        if is_restless(rule, alert, state):
            return ("flapping", "")
        return self.quiet(rule, alert, state, at_ms)

    def quiet(self, rule: Rule, alert: Alert, state: ClientState, at_ms: int) -> tuple[str, str]:
        """The reason why nothing may be said of it now, be it a firing or a reminder, and its holder; OPEN when it may."""
        if (rule.mute is not None or rule.active is not None) and self.is_muted(rule, at_ms):
            return ("mute", f"mute\0{rule.name}")
        if self.silences.open:
            silence = self.silence(alert, state, at_ms)
            if silence:
                return ("silence", f"silence\0{silence}")
        if self.inhibits:
            inhibitor = self.inhibitor(rule, alert)
            if inhibitor:
                return ("inhibited", f"alert\0{inhibitor}")
        return OPEN

    def still_holds(self, rule: Rule, holder: str, at_ms: int) -> bool:
        """Is what held an alert when it was kept still going on?"""
        kind, _, which = holder.partition("\0")
        if kind == "mute":
            return self.is_muted(rule, at_ms)
        if kind == "silence":
            return which in self.silences.open
        return which in self.names if kind == "alert" else False

    def holder(self, rule: Rule, alert: Alert, state: ClientState, reason: str, at_ms: int) -> str:
        """What holds an alert that is suppressed for this reason already; "" when nothing does any more."""
        if reason == "mute":
            return f"mute\0{rule.name}" if self.is_muted(rule, at_ms) else ""
        if reason == "silence":
            silence = self.silence(alert, state, at_ms)
            return f"silence\0{silence}" if silence else ""
        inhibitor = self.inhibitor(rule, alert) if reason == "inhibited" else ""
        return f"alert\0{inhibitor}" if inhibitor else ""

    # Windows

    def is_muted(self, rule: Rule, at_ms: int) -> bool:
        """Do the rule's windows keep it quiet at this instant?"""
        known = self._windows.get(rule.name)
        if known is not None and known[0] <= at_ms < known[1]:
            return known[2]
        is_muted = (rule.mute is not None and rule.mute.covers(at_ms)) or (
            rule.active is not None and not rule.active.covers(at_ms)
        )
        self._windows[rule.name] = (at_ms, self.window_edge(rule, at_ms), is_muted)
        return is_muted

    def window_edge(self, rule: Rule, at_ms: int) -> int:
        """The first instant after this one at which the rule's windows may say otherwise."""
        known = self._windows.get(rule.name)
        if known is not None and known[0] <= at_ms < known[1]:
            return known[1]
        edges = [windows.next_change_ms(at_ms) for windows in (rule.mute, rule.active) if windows is not None]
        return min(edges, default=FOREVER)

    # Silences

    def silence(self, alert: Alert, state: ClientState, at_ms: int) -> str:
        """The id of the silence that covers what the alert is about; "" for none."""
        if alert.client is not None:
            found = self.silences.covering(alert.client, state.ip, at_ms)
        else:
            found = self.silences.covering_key(alert.shown_key or {}, self._whom(alert), at_ms)
        return found.id if found is not None else ""

    def _whom(self, alert: Alert) -> Iterator[tuple[str, str]]:
        """Clients that an alert about a key is about, with their addresses."""
        outage = self.outages.get(alert.name)
        clients: Iterable[str] = outage.downs() if outage is not None else alert.listed
        if outage is None and alert.count > len(alert.listed):
            return  # not all of them are known: better to be heard
        for client in clients:
            yield client, self._state_of(client).ip

    # Inhibition

    def inhibitor(self, rule: Rule, alert: Alert) -> str:
        """The name of the alert that inhibits this one; "" for none. Shadow alerts inhibit only shadow rules."""
        if alert.client is None:
            return self._inhibitor_of_outage(rule, alert) if rule.inhibited_by else ""
        if rule.inhibited_by:
            for other in self._active.get(alert.client, ()):
                if other.rule in rule.inhibited_by and other.state == "firing" and self._may(other.rule, rule):
                    return other.name
        for name, watch in self.watches.items():
            outage = watch.member_of.get(alert.client)
            if outage is not None and (watch.terms.inhibit or name in rule.inhibited_by) and self._covers(outage, rule):
                return outage.name
        return ""

    def _inhibitor_of_outage(self, rule: Rule, alert: Alert) -> str:
        """An outage is inhibited by another that covers everybody who is down in it."""
        outage = self.outages.get(alert.name)
        if outage is None:
            return ""
        for name in rule.inhibited_by:
            watch = self.watches.get(name)
            first = next(outage.downs(), None) if watch is not None else None
            other = watch.member_of.get(first) if watch is not None and first is not None else None
            if watch is None or other is None or not self._covers(other, rule):
                continue
            if all(watch.member_of.get(client) is other for client in outage.downs()):
                return other.name
        return ""

    def _covers(self, outage: Outage, rule: Rule) -> bool:
        alert = self._alerts.get(outage.name)
        if alert is None or not self._may(outage.rule, rule):
            return False
        return alert.state == "firing" or (alert.state == "suppressed" and alert.reason in STILL_INHIBITING)

    def _may(self, inhibitor: str, rule: Rule) -> bool:
        by = self._rules.get(inhibitor)
        return by is not None and (rule.shadow or not by.shadow)

    def outage_began(self, outage: Outage, alert: Alert) -> None:
        """From now on it may inhibit."""
        self.outages[outage.name] = outage
        self._alerts[outage.name] = alert

    def outage_ended(self, outage: Outage) -> None:
        """It inhibits nobody any more."""
        self.outages.pop(outage.name, None)
        self._alerts.pop(outage.name, None)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Outages that go on, by the id of their alert: how many clients ever joined, and how many are back."""
        found = {}
        for name, outage in list(self.outages.items()):
            alert = self._alerts.get(name)
            if alert is not None:
                found[alert.id] = (outage.total, outage.back)
        return found

    def alert_of(self, outage: Outage) -> Alert | None:
        """The alert of an outage going on."""
        return self._alerts.get(outage.name)

    def clear(self) -> None:
        """Forget alerts and outages."""
        self.outages.clear()
        self._alerts.clear()
        self._windows.clear()


def is_restless(rule: Rule, alert: Alert, state: ClientState) -> bool:
    """Is the rule suppressed because the client is flapping?"""
    return bool(rule.flapping_skip and state.flags & FLAPPING and alert.trigger not in UNFLAPPABLE)
