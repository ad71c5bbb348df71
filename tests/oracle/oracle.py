"""What a replay must print, worked out the slow and obvious way.

The oracle keeps every event it was told and asks `presence` again after each; deadlines are found by looking at everything
there is; the clock jumps from one to the next. Read `expected` first, then `Oracle.instant`: the order of one instant.

Where the product's rules leave room, `Choices` names the reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jinja2

from . import presence
from .bundles import Bundle
from .reading import Malformed, Told, read_line
from .settings import Settings, halves, matches, milliseconds

Line = dict[str, Any]
CONDITIONS = jinja2.Environment(undefined=jinja2.StrictUndefined)
MOMENTARY = ("first_seen", "stable")
ABOUT_FLAPPING = ("flapping", "stable", "feed")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(at: int) -> str:
    """Epoch milliseconds as people read them."""
    return (EPOCH + timedelta(milliseconds=at)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03d}Z"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Readings of what is not spelled out."""

    ties: str = "begun"  # of several due at one instant, who is first: what began first, began last, or the lesser id
    newcomers_first: bool = (
        True  # a hold that settles in the instant a throttle has room again: before those who waited
    )
    stale_takeovers: bool = False  # whether a connect that is superseded already when it is told counts as a takeover


@dataclass(kw_only=True)
class Hold:
    """A change of observed status that has not settled."""

    status: str
    since: int
    occurred: int
    due: int
    order: int


@dataclass(kw_only=True)
class Client:
    """Everything about one client."""

    id: str
    told: list[Told] = field(default_factory=list)
    observed: str = "unknown"
    settled: str = "unknown"
    hold: Hold | None = None
    flaps: int = 0
    changes: list[int] = field(default_factory=list)  # when each change of observed status occurred
    takeovers: list[int] = field(default_factory=list)  # when each connect beside a live channel occurred
    flapping: bool = False
    flapping_order: int = 0  # when flapping started, among all that began
    doubled: bool = False
    last: Mapping[str, Any] = field(default_factory=lambda: {"flaps": 0, "graceful": False})  # the last transition


@dataclass(kw_only=True)
class Alert:
    """A rule about one client, from pending on; identity is the key it is kept under."""

    rule: Mapping[str, Any]
    client: Client
    trigger: str
    due: int
    order: int
    state: str = "pending"
    reason: str = ""
    bundle: Bundle | None = None  # what tells of it, once it fired together with others


def expected(settings: Settings, trace: bytes, choices: Choices | None = None) -> list[Line]:
    """The lines that `rollcall replay` prints for a trace, pending alerts, delivery keys and requests left out."""
    oracle = Oracle(settings, choices or Choices())
    for number, line in enumerate(trace.split(b"\n"), start=1):
        if line.strip():
            oracle.take(number, line)
    oracle.run(until=None)
    return [*oracle.lines, oracle.summary()]


class Oracle:
    """The whole world of one replay."""

    def __init__(self, settings: Settings, choices: Choices) -> None:
        self.settings = settings
        self.choices = choices
        self.clients: dict[str, Client] = {}
        self.alerts: dict[tuple[str, str, str], Alert] = {}
        self.bundles: list[Bundle] = []
        self.firings: list[tuple[str, tuple[str, ...], int]] = []  # (rule, throttle key, at), never forgotten
        self.lines: list[Line] = []
        self.now = 0
        self.accepted = self.rejected = self.reverted = self.orders = 0

    def take(self, number: int, line: bytes) -> None:
        """One line of the trace."""
        try:
            event = read_line(line, self.settings.max_future)
        except Malformed as refusal:
            self.rejected += 1
            self.lines.append({"type": "rejected", "line": number, "reason": str(refusal)})
            return
        self.accepted += 1
        arrival = max(self.now, event.received)
        self.run(until=arrival)
        self.now = arrival
        self.apply(event)
        self.run(until=arrival)

    # What is due, in its order.

    def run(self, until: int | None) -> None:
        """Let the clock pass every deadline up to and including `until`; None: until nothing is left."""
        while deadlines := [due for due in self.deadlines() if until is None or due <= until]:
            self.now = max(self.now, min(deadlines))
            self.instant()

    def deadlines(self) -> Iterable[int]:
        """Every instant at which something is due, given what is known now."""
        for client in self.clients.values():
            if client.hold:
                yield client.hold.due
            if client.flapping:
                yield self.calm_at(client.changes)
            if client.doubled and len(self.live(client)) < 2:
                yield self.calm_at(client.takeovers)
        for alert in self.alerts.values():
            if alert.state == "pending":
                yield alert.due
            if alert.state == "suppressed" and alert.reason == "throttle":
                yield self.room_at(alert)
        for bundle in self.bundles:
            if bundle.due is not None:
                yield bundle.due

    def instant(self) -> None:
        """Everything due now, in the order of one instant."""
        for client in self.clients.values():  # what resolves goes before what it would release
            self.look_for_doubles(client)
        calm = [c for c in self.clients.values() if c.flapping and self.calm_at(c.changes) <= self.now]
        for client in sorted(calm, key=lambda c: self.rank(self.calm_at(c.changes), c.flapping_order, c)):
            self.stop_flapping(client)
        held = [(c.hold, c) for c in self.clients.values() if c.hold and c.hold.due <= self.now]
        for _, client in sorted(held, key=lambda pair: self.rank(pair[0].due, pair[0].order, pair[1])):
            self.settle(client)
        self.release()
        self.judge_due()
        self.tell_bundles()

    def rank(self, due: int, order: int, client: Client) -> tuple[int, int, str]:
        """Who comes first among those due at one instant."""
        return {"begun": (due, order, ""), "last": (due, -order, ""), "client": (due, 0, client.id)}[self.choices.ties]

    def young(self, times: Iterable[int]) -> int:
        """How many of these instants are younger than the flapping window."""
        return sum(1 for time in times if self.now - time < self.settings.window)

    def calm_at(self, times: list[int]) -> int:
        """When so many have left the window that flapping stops."""
        newest_first = sorted(times, reverse=True)
        if len(newest_first) <= self.settings.stop:
            return self.now
        return newest_first[self.settings.stop] + self.settings.window

    def live(self, client: Client) -> set[str]:
        """The client's live channels, as all its events say."""
        return presence.live(client.told, self.settings.skew)

    # Events.

    def apply(self, event: Told) -> None:
        """One accepted event, at `self.now`."""
        client = self.clients.setdefault(event.client, Client(id=event.client))
        self.count_takeover(client, event)
        client.told.append(event)
        observed = presence.observed(client.told, self.settings.skew)
        if observed != client.observed:
            self.change(client, observed, event)
        self.look_for_doubles(client)

    def count_takeover(self, client: Client, event: Told) -> None:
        """A channel connects while another is live."""
        begun = presence.connects(client.told)
        stale = event.time < max(begun.values(), default=0) - self.settings.skew
        counts = self.choices.stale_takeovers or not stale
        if event.kind == "connect" and event.channel not in begun and self.live(client) and counts:
            client.takeovers.append(event.time)

    def change(self, client: Client, observed: str, event: Told) -> None:
        """The observed status changed: a hold begins, or the one there was reverts."""
        client.observed = observed
        client.changes.append(event.time)
        if observed == client.settled:
            client.hold = None
            client.flaps += 1
            self.reverted += 1
        else:
            due = self.now + self.settings.hold(client.id, observed)
            client.hold = Hold(status=observed, since=self.now, occurred=event.time, due=due, order=self.next_order())
        if not client.flapping and self.young(client.changes) >= self.settings.start:
            self.start_flapping(client)

    def next_order(self) -> int:
        """A number larger than all before."""
        self.orders += 1
        return self.orders

    # What concerns one client.

    def settle(self, client: Client) -> None:
        """The hold is over: a transition, what it resolves, and what it opens."""
        hold = client.hold
        assert hold
        first = client.settled == "unknown"
        line = {
            "type": "transition",
            "client": client.id,
            "status": hold.status,
            "previous": client.settled,
            "occurred_at": rfc3339(hold.occurred),
            "since": rfc3339(hold.since),
            "settled_at": rfc3339(self.now),
            "graceful": hold.status == "offline" and presence.said_goodbye(client.told),
            "flaps": client.flaps,
            "first_seen": first,
        }
        self.lines.append(line)
        client.settled, client.hold, client.flaps, client.last = hold.status, None, 0, line
        for alert in self.alerts_of(client, "offline", "online", "first_seen"):
            self.resolve(alert)
        for rule in self.settings.rules:
            triggers = rule["trigger"] if isinstance(rule["trigger"], list) else [rule["trigger"]]
            if hold.status in triggers and not (hold.status == "online" and first):
                self.open(rule, client, hold.status, since=hold.since)
            elif first and "first_seen" in triggers:
                self.open(rule, client, "first_seen", since=hold.since)

    def start_flapping(self, client: Client) -> None:
        """Flapping starts: it has its own alerts, and what was suppressed for less is suppressed for this."""
        client.flapping, client.flapping_order = True, self.next_order()
        for alert in self.alerts_of(client, "stable"):
            self.resolve(alert)
        for alert in self.alerts_of(client):
            if alert.state == "suppressed" and (reason := self.gate(alert)) != alert.reason:
                self.suppress(alert, reason)
        self.open_all(client, "flapping")

    def stop_flapping(self, client: Client) -> None:
        """Flapping stops: its alerts end, and what it suppressed is judged again."""
        client.flapping = False
        for alert in self.alerts_of(client, "flapping"):
            self.resolve(alert)
        held_back = [a for a in self.alerts_of(client) if a.state == "suppressed" and a.reason == "flapping"]
        self.open_all(client, "stable")
        for alert in held_back:
            self.fire_or_suppress(alert)

    def look_for_doubles(self, client: Client) -> None:
        """Two connections at once, or too many takeovers: begins, or is over."""
        twice, taken = len(self.live(client)) > 1, self.young(client.takeovers)
        if not client.doubled and (twice or taken >= self.settings.start):
            client.doubled = True
            self.open_all(client, "duplicate")
        elif client.doubled and not twice and taken <= self.settings.stop:
            client.doubled = False
            for alert in self.alerts_of(client, "duplicate"):
                self.resolve(alert)

    # Alerts.

    def alerts_of(self, client: Client, *triggers: str) -> list[Alert]:
        """This client's alerts, of these triggers or of all, in the order in which they were opened."""
        return [a for a in self.alerts.values() if a.client is client and (not triggers or a.trigger in triggers)]

    def open_all(self, client: Client, trigger: str) -> None:
        """Open an alert of this trigger for every rule that has it."""
        for rule in self.settings.rules:
            if trigger in (rule["trigger"] if isinstance(rule["trigger"], list) else [rule["trigger"]]):
                self.open(rule, client, trigger, since=self.now)

    def open(self, rule: Mapping[str, Any], client: Client, trigger: str, since: int) -> None:
        """A pending alert, judged at once when it is due already."""
        told_ip = next((event.ip for event in reversed(client.told) if event.ip), "")
        ip = told_ip.rpartition(":")[0] or told_ip
        if not matches(rule.get("match", {}), client.id, ip, self.settings.attributes(client.id)):
            return
        due = max(self.now, since + milliseconds(rule.get("for", "0s")))
        alert = Alert(rule=rule, client=client, trigger=trigger, due=due, order=self.next_order())
        self.alerts[rule["name"], client.id, trigger] = alert
        settles = trigger in ("offline", "online", "first_seen")
        if due == self.now and (self.choices.newcomers_first or not settles):
            self.judge(alert)

    def judge_due(self) -> None:
        """Every pending alert whose `for` is over."""
        due = [a for a in self.alerts.values() if a.state == "pending" and a.due <= self.now]
        for alert in sorted(due, key=lambda a: self.rank(a.due, a.order, a.client)):
            self.judge(alert)

    def judge(self, alert: Alert) -> None:
        """The alert is due: it fires, is suppressed, or its condition says that it is none."""
        text = alert.rule.get("condition")
        if text is not None and not CONDITIONS.compile_expression(text)(**self.variables(alert.client)):
            self.drop(alert)
        else:
            self.fire_or_suppress(alert)

    def variables(self, client: Client) -> dict[str, Any]:
        """The names a condition may use, as far as the traces use them."""
        group, device = halves(client.id)
        told = {"id": client.id, "group": group, "device": device, "attributes": self.settings.attributes(client.id)}
        known = {key: client.last.get(key) for key in ("status", "previous", "graceful", "flaps", "since")}
        return {**known, "client": told, "flapping": client.flapping}

    def gate(self, alert: Alert) -> str:
        """Why the alert may not fire now; empty when it may."""
        skips = alert.rule.get("flapping", "skip") == "skip" and alert.trigger not in ABOUT_FLAPPING
        if skips and alert.client.flapping:
            return "flapping"
        return "throttle" if self.full(alert) else ""

    def fire_or_suppress(self, alert: Alert) -> None:
        """Fire the alert, or say why not."""
        if reason := self.gate(alert):
            self.suppress(alert, reason)
        else:
            self.fire([alert])

    def suppress(self, alert: Alert, reason: str) -> None:
        """Due, but not sent."""
        alert.state, alert.reason = "suppressed", reason
        self.say(alert, "suppressed", reason=reason)

    def fire(self, alerts: list[Alert]) -> None:
        """These alerts of one rule fire together: one firing, one delivery an action."""
        rule = alerts[0].rule
        self.firings.append((rule["name"], self.throttle_key(alerts[0]), self.now))
        for alert in alerts:
            alert.state, alert.reason = "firing", ""
            self.say(alert, "firing")
        clients = [alert.client.id for alert in alerts]
        if len(alerts) == 1:
            self.deliver(rule, "firing", clients, about=alerts[0].order)
        else:
            self.begin_bundle(rule, alerts, clients)
        for alert in alerts:
            if alert.trigger in MOMENTARY:
                self.say(alert, "resolved")
                self.drop(alert)

    def resolve(self, alert: Alert) -> None:
        """What the alert rests on is over; only what fired says so."""
        if alert.state == "firing":
            self.say(alert, "resolved")
            if alert.bundle is None:
                self.deliver(alert.rule, "recovery", [alert.client.id], about=alert.order)
            else:
                alert.bundle.back(alert.client.id, self.now, self.next_order())
        self.drop(alert)

    def begin_bundle(self, rule: Mapping[str, Any], alerts: list[Alert], clients: list[str]) -> None:
        """The first list leaves at once; those that last are told of by the bundle from now on."""
        lasting = [alert for alert in alerts if alert.trigger not in MOMENTARY]
        names = [alert.client.id for alert in lasting]
        bundle = Bundle(rule=rule, id=self.next_order(), firing=names, sent=list(names), sent_at=self.now)
        self.deliver(rule, "firing", clients, about=bundle.id, as_list=True)
        self.bundles.append(bundle)
        for alert in lasting:
            alert.bundle = bundle

    def tell_bundles(self) -> None:
        """Every bundle of which something is due: who still fires, or that all are back, about those who were in the last list."""
        due = [(b.due, b.order, b) for b in self.bundles if b.due is not None and b.due <= self.now]
        for _, _, bundle in sorted(due, key=lambda one: one[:2]):
            before = sorted(bundle.sent)
            clients = bundle.next_list(self.now)
            phase = "firing" if clients else "recovery"
            self.deliver(bundle.rule, phase, clients or before, about=bundle.id, as_list=True)
            if not clients:
                self.bundles.remove(bundle)

    def drop(self, alert: Alert) -> None:
        """Forget the alert."""
        del self.alerts[alert.rule["name"], alert.client.id, alert.trigger]

    def say(self, alert: Alert, state: str, **more: str) -> None:
        """One alert line."""
        told = {"rule": alert.rule["name"], "client": alert.client.id, "state": state, **more}
        self.lines.append({"type": "alert", **told, "at": rfc3339(self.now)})

    def deliver(
        self, rule: Mapping[str, Any], phase: str, clients: list[str], *, about: int, as_list: bool = False
    ) -> None:
        """One delivery line an action, about one client or with a list; `about`: what all that is said of one thing shares."""
        for action in rule["actions"] if phase == "firing" else rule.get("on_recovery", []):
            line = {"type": "delivery", "rule": rule["name"], "client": None if as_list else clients[0]}
            line |= {"action": next(iter(action)), "at": rfc3339(self.now), "shadow": bool(rule.get("shadow"))}
            line |= {"phase": phase, "about": about}
            self.lines.append({**line, "clients": clients} if as_list else line)

    # Throttles.

    def throttle_key(self, alert: Alert) -> tuple[str, ...]:
        """The value of every name in `by`."""
        names = alert.rule.get("throttle", {}).get("by", [])
        group, _ = halves(alert.client.id)
        known = {**self.settings.attributes(alert.client.id), "client": alert.client.id, "group": group}
        return tuple(known[name] for name in names)

    def counted(self, alert: Alert) -> list[int]:
        """When the alert's throttle let something through, oldest first."""
        mine = (alert.rule["name"], self.throttle_key(alert))
        return sorted(at for name, key, at in self.firings if (name, key) == mine)

    def full(self, alert: Alert) -> bool:
        """Whether `max` firings are younger than `per`."""
        if "throttle" not in alert.rule:
            return False
        throttle = alert.rule["throttle"]
        young = [at for at in self.counted(alert) if self.now - at < milliseconds(throttle["per"])]
        return len(young) >= int(throttle["max"])

    def room_at(self, alert: Alert) -> int:
        """When the alert's throttle has room again."""
        throttle = alert.rule["throttle"]
        return self.counted(alert)[-int(throttle["max"])] + milliseconds(throttle["per"])

    def release(self) -> None:
        """Where a throttle has room again, all who wait for it fire together."""
        waiting: dict[tuple[Any, ...], list[Alert]] = {}
        for alert in self.alerts.values():
            if alert.state == "suppressed" and alert.reason == "throttle" and not self.full(alert):
                waiting.setdefault((alert.rule["name"], self.throttle_key(alert)), []).append(alert)
        for alerts in waiting.values():
            self.fire(alerts)

    def summary(self) -> Line:
        """The last line."""
        settled = [client.settled for client in self.clients.values()]
        count = {kind: sum(1 for line in self.lines if line["type"] == kind) for kind in ("transition", "delivery")}
        return {
            "type": "summary",
            "events": self.accepted,
            "rejected": self.rejected,
            "clients": len(self.clients),
            "online": settled.count("online"),
            "offline": settled.count("offline"),
            "transitions": count["transition"],
            "flaps_suppressed": self.reverted,
            "deliveries": count["delivery"],
        }
