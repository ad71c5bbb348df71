"""Parents: rules whose alerts inhibit those of other rules wherever the values of `equal` are the same.

`inhibited_by: [{rule: gateway-down, equal: [site]}]` mutes a sensor while the rule `gateway-down` fires for anything at its site. Every
alert that may inhibit so is filed under its values, so a child finds its parents with one look, and is told of the end of the last
of them. Nothing is searched, however many children and parents there are.

The values of a client are those that it has now: when its address or the inventory changes, its alerts are filed anew. Those of an
outage or a quorum are in its key. Who lacks a value is nobody's parent, and nobody's child. Read `Parents.of` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from engine.core.alerting.alert import FIRING, SUPPRESSED, Alert
from engine.core.alerting.suppressions import parent_until
from engine.core.keys import PREFIX, key_text, key_values, values_of
from engine.core.matching import Attributes
from engine.core.presence.client_state import ClientState
from engine.core.rules import Rule

STILL_INHIBITING: Final = frozenset({"mute", "silence", "inhibited"})
"""Reasons for which an outage may be suppressed and inhibit others all the same."""


def inhibits(alert: Alert) -> bool:
    """May an alert inhibit others as it is? One that fires, or an outage that goes on though nobody is told of it."""
    if not alert.open:
        return False
    if alert.state == FIRING:
        return True
    return alert.trigger == "outage" and alert.state == SUPPRESSED and alert.reason in STILL_INHIBITING


class Inhibition:
    """The alert that inhibits another, and what has to end before the other is looked at again (see `suppressions`)."""

    __slots__ = ("by", "until", "values")

    def __init__(self, by: Alert, until: str, values: str = "") -> None:
        self.by: Final = by
        self.until: Final = until
        self.values: Final = values  # of a parent: what is equal, as JSON of {name: value}


class Parents:
    """The alerts that may inhibit others by their values."""

    def __init__(self, attributes: Attributes, state_of: Callable[[str], ClientState]) -> None:
        self.watched: dict[str, list[tuple[str, ...]]] = {}  # rule -> each `equal` by which it is somebody's parent
        self.reads_ip = False  # does a change of address alone matter?
        self._rules: Mapping[str, Rule] = {}
        self._attributes = attributes
        self._state_of = state_of
        self._filed: dict[str, dict[str, Alert]] = {}  # what a child waits for -> alerts by name, none empty
        self._places: dict[str, list[str]] = {}  # name of an alert -> where it is filed

    def use(self, rules: Mapping[str, Rule], alerts: Iterable[Alert]) -> None:
        """Work by these rules and the inventory as it is now: `alerts` are all that are open."""
        self._rules = rules
        self.watched.clear()
        for rule in rules.values():
            for parent in rule.parents:
                known = self.watched.setdefault(parent.rule, [])
                if parent.equal not in known:
                    known.append(parent.equal)
        names = [name for each in self.watched.values() for equal in each for name in equal]
        self.reads_ip = any(name.startswith(PREFIX) for name in names)
        self.file_all(alerts)

    def file_all(self, alerts: Iterable[Alert]) -> None:
        """File every open alert anew."""
        self._filed.clear()
        self._places.clear()
        if self.watched:
            for alert in alerts:
                if alert.rule in self.watched and inhibits(alert):
                    self._file(alert)

    def note(self, alert: Alert) -> Sequence[str]:
        """An alert is in another state. Returns what has ended by that, for whoever waits for it.

        To be called for each alert that fires, is suppressed or ends while `watched` is not empty.
        """
        if alert.rule not in self.watched:
            return ()
        if not inhibits(alert):
            return self._take_out(alert)
        if alert.name not in self._places:
            self._file(alert)
        return ()

    def moved(self, alerts: Iterable[Alert]) -> Sequence[str]:
        """The client that these alerts are about has another address: they are filed anew. Returns what has ended by that."""
        ended = []
        for alert in alerts:
            if alert.name in self._places:
                found = self._take_out(alert)
                self._file(alert)
                ended += [until for until in found if until not in self._filed]
        return ended

    def of(self, rule: Rule, alert: Alert) -> Inhibition | None:
        """What inhibits an alert of a rule with `parents`; None for nothing."""
        for parent in rule.parents:
            until = self._place(parent.rule, parent.equal, alert)
            filed = self._filed.get(until) if until else None
            by = self._rules.get(parent.rule)
            if filed and by is not None and (rule.shadow or not by.shadow):
                return Inhibition(next(iter(filed.values())), until, until.split("\0", 2)[2])
        return None

    def goes_on(self, until: str) -> bool:
        """Does any alert with these values still inhibit?"""
        return until in self._filed

    def _place(self, parent: str, equal: tuple[str, ...], alert: Alert) -> str:
        """Where alerts of a parent with the same values as this alert are filed; "" when it lacks one."""
        if alert.client is not None:
            ip = self._state_of(alert.client).ip
            values = values_of(equal, alert.client, ip, self._attributes(alert.client))
        else:
            known = key_values(alert.key or "")
            values = {name: known.get(name, "") for name in equal}
        return parent_until(parent, key_text(values)) if all(values.values()) else ""

    def _file(self, alert: Alert) -> None:
        places = []
        for equal in self.watched[alert.rule]:
            place = self._place(alert.rule, equal, alert)
            if place:
                self._filed.setdefault(place, {})[alert.name] = alert
                places.append(place)
        self._places[alert.name] = places

    def _take_out(self, alert: Alert) -> Sequence[str]:
        ended = []
        for place in self._places.pop(alert.name, ()):
            filed = self._filed[place]
            del filed[alert.name]
            if not filed:
                del self._filed[place]
                ended.append(place)
        return ended
