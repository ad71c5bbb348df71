"""Outages worked out a second time, the slow way and from the text of the contract alone: at every step all clients are looked at again.

It knows clients that come and go, a hold for each of offline and online, flapping, and rules of the triggers `outage`, `offline`,
`online` and `flapping`. Nothing is counted ahead and nothing is remembered but what the text names. Read `Oracle.settles_offline`,
`Oracle.would_join` and `Oracle.covering`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.core.rules import Rule

Step = tuple[int, str, str, str, str]
"""At (ms), rule, client or key, state, reason."""


@dataclass(eq=False, kw_only=True)
class Client:
    """What is known about one client."""

    id: str
    key: dict[str, str]  # its attributes
    observed: str = "unknown"
    settled: str = "unknown"
    occurred: int = 0  # when the change to `observed` occurred
    settled_occurred: int = 0  # and that to `settled`: what reverts to it has not changed since
    due: int | None = None  # when its hold is over
    order: int = 0
    changes: list[int] = field(default_factory=list)
    flapping: bool = False


@dataclass(eq=False, kw_only=True)
class Alert:
    """One alert of a rule, about a client or an outage."""

    rule: Rule
    trigger: str
    client: Client | None = None
    outage: Outage | None = None
    state: str = ""


@dataclass(eq=False, kw_only=True)
class Outage:
    """An outage that goes on."""

    rule: Rule
    key: tuple[str, ...]
    quiet: int  # when somebody joined or came back last
    peak: int = 0
    down: list[Client] = field(default_factory=list)
    back: list[Client] = field(default_factory=list)  # and not gone again since
    ever: list[Client] = field(default_factory=list)
    alert: Alert


class Oracle:
    """All clients, all alerts, and every step of an alert so far."""

    def __init__(
        self,
        rules: Iterable[Rule],
        clients: Iterable[Client],
        *,
        holds: tuple[int, int],
        flapping: tuple[int, int, int],
    ) -> None:
        """`rules`: inhibitors first. `holds`: offline, online. `flapping`: start, stop, window."""
        self.rules = list(rules)
        self.clients = {client.id: client for client in clients}
        self.holds = holds
        self.start, self.stop, self.window = flapping
        self.now = self.orders = 0
        self.outages: list[Outage] = []
        self.alerts: list[Alert] = []
        self.steps: list[Step] = []

    # Time

    def deadlines(self) -> list[int]:
        """Every instant at which something is due."""
        found = [client.due for client in self.clients.values() if client.due is not None]
        found += [self.stops(client) for client in self.clients.values() if client.flapping]
        return found + [end for outage in self.outages if (end := self.end_of(outage)) is not None]

    def run(self, until: int | None) -> None:
        """Let time pass; None: until nothing is due any more."""
        while due := [at for at in self.deadlines() if until is None or at <= until]:
            self.now = max(self.now, min(due))
            for client in [one for one in self.clients.values() if one.flapping and self.stops(one) <= self.now]:
                client.flapping = False
                self.end_alerts(client, "flapping")
            held = [one for one in self.clients.values() if one.due is not None and one.due <= self.now]
            for client in sorted(held, key=lambda one: one.order):
                self.settles(client)
            for outage in [one for one in self.outages if (self.end_of(one) or self.now + 1) <= self.now]:
                self.over(outage)
            self.look_again()
        if until is not None:
            self.now = max(self.now, until)

    def stops(self, client: Client) -> int:
        """When a client that is flapping stops."""
        newest = sorted(client.changes, reverse=True)
        return newest[self.stop] + self.window if len(newest) > self.stop else self.now

    # Events

    def event(self, at: int, name: str, occurred: int, *, up: bool) -> None:
        """A client has come or gone, as it is learned at an instant."""
        self.run(at)
        client = self.clients[name]
        client.observed, client.occurred = "online" if up else "offline", occurred
        client.changes.append(occurred)
        self.orders += 1
        if client.observed == client.settled:
            client.due, client.occurred = None, client.settled_occurred
            if up:
                self.comes_back(client)
            self.look_again()
        else:
            client.due, client.order = self.now + self.holds[up], self.orders
        young = [change for change in client.changes if self.now - change < self.window]
        if not client.flapping and len(young) >= self.start:
            client.flapping = True
            self.open_all(client, "flapping")
        self.look_again()
        if client.due == self.now:
            self.settles(client)

    def settles(self, client: Client) -> None:
        """The hold is over."""
        client.due, client.settled_occurred = None, client.occurred
        if client.observed == "online":
            self.settles_online(client)
        else:
            self.settles_offline(client)
        self.look_again()

    def settles_online(self, client: Client) -> None:
        """It is back."""
        is_first, client.settled = client.settled == "unknown", "online"
        self.end_alerts(client, "offline")
        self.comes_back(client)
        if not is_first:
            self.open_all(client, "online")

    def settles_offline(self, client: Client) -> None:
        """It joins, or an outage opens with it, or it speaks for itself."""
        client.settled = "offline"
        self.end_alerts(client, "online")
        for rule in self.rules:
            if rule.outage is None or self.key_of(rule, client) is None or self.down_in(rule, client):
                continue
            if big := self.joined(rule, client):
                self.join(big, client)
                continue
            terms, counted = rule.outage, self.counted(rule, client)
            free = [one for one in counted if not self.down_in(rule, one)]
            online = [one for one in self.of_key(rule, client) if one.observed == "online"]
            if len(free) >= terms.at_least and 100 * len(free) >= terms.percent * (len(online) + len(free)):
                self.open_outage(rule, client, free)
            else:
                self.goes_again(rule, client)
        self.open_all(client, "offline")

    # Outages

    def key_of(self, rule: Rule, client: Client) -> tuple[str, ...] | None:
        """The values of `by`; None for a client that lacks one."""
        assert rule.outage
        values = tuple(client.key[name] for name in rule.outage.by)
        return values if all(values) else None

    def of_key(self, rule: Rule, client: Client) -> list[Client]:
        """Every client of the same key."""
        return [one for one in self.clients.values() if self.key_of(rule, one) == self.key_of(rule, client)]

    def counted(self, rule: Rule, client: Client) -> list[Client]:
        """Those of its key that are offline now, and went at or after `within` before this one did."""
        assert rule.outage
        since = client.occurred - rule.outage.within_ms
        return [one for one in self.of_key(rule, client) if one.observed == "offline" and one.occurred >= since]

    def would_join(self, outage: Outage, client: Client) -> bool:
        """Is the outage still that big?"""
        terms = outage.rule.outage
        assert terms
        if not terms.percent:
            return len(self.counted(outage.rule, client)) >= terms.at_least
        down = {one.id for one in outage.down} | {client.id}
        up = {one.id for one in self.of_key(outage.rule, client) if one.observed == "online"}
        return 100 * len(down) >= terms.percent * len(up | down)

    def joined(self, rule: Rule, client: Client) -> Outage | None:
        """The newest outage that the client joins if it settles now."""
        key = self.key_of(rule, client)
        going_on = [one for one in self.outages if one.rule is rule and one.key == key]
        return next((one for one in reversed(going_on) if self.would_join(one, client)), None)

    def down_in(self, rule: Rule, client: Client) -> Outage | None:
        """The outage of the rule in which the client is down."""
        return next((one for one in self.outages if one.rule is rule and client in one.down), None)

    def covering(self, rule: Rule, client: Client) -> Outage | None:
        """The outage of the rule that covers the client: it is down in it, or on hold and would join."""
        if found := self.down_in(rule, client):
            return found
        on_hold = client.observed == "offline" and client.due is not None
        return self.joined(rule, client) if on_hold and self.key_of(rule, client) is not None else None

    def join(self, outage: Outage, client: Client) -> None:
        """The client is down in it."""
        self.goes_again(outage.rule, client)
        outage.down.append(client)
        if client not in outage.ever:
            outage.ever.append(client)
        outage.peak = max(outage.peak, len(outage.down))
        outage.quiet = self.now

    def goes_again(self, rule: Rule, client: Client) -> None:
        """Whatever it came back from: that is past."""
        for outage in self.outages:
            if outage.rule is rule and client in outage.back:
                outage.back.remove(client)

    def open_outage(self, rule: Rule, client: Client, founders: list[Client]) -> None:
        """One incident instead of many."""
        alert = Alert(rule=rule, trigger="outage")
        outage = Outage(rule=rule, key=self.key_of(rule, client) or (), quiet=self.now, alert=alert)
        alert.outage = outage
        self.outages.append(outage)
        for founder in founders:
            self.join(outage, founder)
        self.alerts.append(alert)
        self.judge(alert)

    def comes_back(self, client: Client) -> None:
        """It is back for good."""
        for outage in [one for one in self.outages if client in one.down]:
            outage.down.remove(client)
            outage.back.append(client)
            outage.quiet = self.now
            if not outage.down:
                self.over(outage)

    def end_of(self, outage: Outage) -> int | None:
        """When it is over if nothing happens."""
        terms = outage.rule.outage
        assert terms
        found = [outage.quiet + terms.within_ms] if 2 * len(outage.down) < outage.peak else []
        found += [outage.quiet + terms.recover_within_ms] if len(outage.down) < len(outage.ever) else []
        return min(found, default=None)

    def over(self, outage: Outage) -> None:
        """It is over, and so is its alert."""
        self.outages.remove(outage)
        self.end(outage.alert)

    # Alerts

    def inhibited(self, alert: Alert) -> bool:
        """Does an outage suppress it?"""
        for rule in self.rules:
            if rule.outage is None:
                continue
            named = rule.name in alert.rule.inhibited_by
            if alert.client is not None and (named or rule.outage.inhibit):
                if self.covering(rule, alert.client):
                    return True
                returned = [one for one in self.outages if one.rule is rule and alert.client in one.back]
                if alert.trigger == "online" and returned:
                    return True
            if alert.outage is not None and named:
                by = {id(self.covering(rule, one)) for one in alert.outage.down}
                if len(by) == 1 and self.covering(rule, alert.outage.down[0]):
                    return True
        return False

    def open_all(self, client: Client, trigger: str) -> None:
        """An alert for each rule of the trigger."""
        for rule in self.rules:
            if trigger in rule.triggers:
                alert = Alert(rule=rule, trigger=trigger, client=client)
                self.alerts.append(alert)
                self.judge(alert)

    def judge(self, alert: Alert) -> None:
        """It is suppressed, or fires."""
        before = alert.state
        alert.state = "suppressed" if self.inhibited(alert) else "firing"
        if alert.state != before:
            self.say(alert)

    def look_again(self) -> None:
        """Whatever was suppressed and is so no more fires; inhibitors first."""
        for rule in self.rules:
            for alert in [one for one in self.alerts if one.rule is rule and one.state == "suppressed"]:
                self.judge(alert)

    def end_alerts(self, client: Client, trigger: str) -> None:
        """What they are about is past."""
        for alert in [one for one in self.alerts if one.client is client and one.trigger == trigger]:
            self.end(alert)

    def end(self, alert: Alert) -> None:
        """Only what fired says so."""
        self.alerts.remove(alert)
        if alert.state == "firing":
            alert.state = "resolved"
            self.say(alert)

    def say(self, alert: Alert) -> None:
        """One step of an alert."""
        about = alert.client.id if alert.client else ",".join(alert.outage.key) if alert.outage else ""
        reason = "inhibited" if alert.state == "suppressed" else ""
        self.steps.append((self.now, alert.rule.name, about, alert.state, reason))
