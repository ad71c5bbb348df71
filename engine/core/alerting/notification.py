"""What alerts say: the variables of a rule's templates, and the deliveries of its actions.

One alert is told alone; several of one rule that fire by one decision are told together, as one delivery an action, with the
list; a group and an outage speak of their members. What one rule says of one client, throttle key, group or outage stays
in one lane, so nothing overtakes what was decided before it. Alerts told together keep to the lane of that telling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from engine.core.alerting import planning
from engine.core.alerting.alert import Alert, Output
from engine.core.alerting.grouping import Group
from engine.core.alerting.outages import Outage
from engine.core.alerting.planning import FIRING, SUMMARY
from engine.core.alerting.rate_limit import Burst
from engine.core.alerting.schedules import LISTED
from engine.core.keys import key_values
from engine.core.matching import Attributes
from engine.core.presence.client_state import NEW_CLIENT, STATUS_NAMES, ClientState, Transition
from engine.core.presence.debounce import Policy
from engine.core.presence.reconcile import Gaps
from engine.core.rules import Rule
from engine.core.timers import NextWakeUp, TimerQueue
from engine.core.times import rfc3339


class Notifier:
    """Makes deliveries of alerts and counts each rule's bursts."""

    def __init__(
        self,
        policy: Policy,
        attributes: Attributes,
        state_of: Callable[[str], ClientState],
        alarm: NextWakeUp,
        burst: int,
    ) -> None:
        """`burst`: deliveries of one rule in a minute, the rest is held; 0: no guard."""
        self.policy = policy
        self.attributes = attributes
        self.names: dict[str, frozenset[str]] = {}  # of each rule: the costly names that its templates read
        self.outages: dict[str, Outage] = {}  # those going on, by the name of their alert
        self.limit = burst
        self.bursts: dict[str, Burst] = {}
        self.gaps: Gaps = ()  # in feeds: whom they concern counts as unverified
        self.summaries = TimerQueue(alarm, _is_untold)
        self._state_of = state_of

    # Variables

    def variables(
        self,
        rule: Rule,
        alert: Alert,
        state: ClientState,
        at_ms: int,
        names: frozenset[str],
        transition: Transition | None = None,
    ) -> dict[str, Any]:
        """What templates and conditions see of one alert; `transition`: what has just happened, by default what opened it."""
        found: dict[str, Any] = {"client": None}
        told: dict[str, Any] = {
            "id": alert.id,
            "state": alert.state,
            "reason": alert.reason or "",
            "started_at": rfc3339(alert.started_at_ms),
            "source": alert.source or "",
            "unverified": alert.verified == "failed",
            "detail": alert.detail,
            "count": 1,
            "key": {},
        }
        if alert.client is not None:
            attributes = self.attributes(alert.client)
            found = planning.client_variables(
                alert.client, state, transition or alert.transition, attributes, at_ms, self.policy, names, self.gaps
            )
            told["clients"] = [alert.client]
        else:
            told["key"] = alert.shown_key or {}
            told["clients"] = []
            if alert.trigger == "outage":
                self._add_outage(alert, found, told, at_ms)
            elif alert.trigger == "schedule":
                told |= self._list(alert.listed) | {"count": alert.count}
                found |= _instants(alert.started_at_ms, alert.started_at_ms, at_ms)
        found["rule"] = planning.rule_variables(rule)
        found["alert"] = told
        return found

    def of_client(
        self, rule: Rule, client: str, state: ClientState, at_ms: int, names: frozenset[str]
    ) -> dict[str, Any]:
        """What the condition of a roll call sees of one client."""
        found = planning.client_variables(
            client, state, None, self.attributes(client), at_ms, self.policy, names, self.gaps
        )
        found["rule"] = planning.rule_variables(rule)
        found["alert"] = {"id": "", "state": "pending", "reason": "", "started_at": rfc3339(at_ms), "source": "",
                          "detail": "", "count": 1, "clients": [client], "key": {}, "unverified": False}  # fmt: skip
        return found

    def _add_outage(self, alert: Alert, found: dict[str, Any], told: dict[str, Any], at_ms: int) -> None:
        outage = self.outages.get(alert.name)
        if outage is None:
            return
        told |= self._list(tuple(islice(outage.downs(), LISTED)))
        told |= {"count": outage.down, "total": outage.total, "back": outage.back}
        found |= _instants(outage.earliest_ms, alert.started_at_ms, at_ms)
        found["status"], found["previous"] = (
            ("offline", "online") if alert.state != "resolved" else ("online", "offline")
        )

    def _list(self, clients: Sequence[str]) -> dict[str, Any]:
        """What is told of several clients: their ids, what each is, and the attributes that all of them share."""
        members, shared = [], dict(self.attributes(clients[0])) if clients else {}
        for client in clients:
            state, attributes = self._state_of(client), self.attributes(client)
            members.append(
                planning.client_mapping(client, state, attributes)
                | {
                    "status": STATUS_NAMES[state.settled],
                    "since": rfc3339(state.since_ms),
                    "occurred_at": rfc3339(state.occurred_at_ms),
                }
            )
            if shared:
                shared = {name: value for name, value in shared.items() if attributes.get(name) == value}
        return {"clients": list(clients), "members": members, "shared": shared}

    # Deliveries

    def alone(
        self,
        out: Output,
        rule: Rule,
        alert: Alert,
        phase: str,
        at_ms: int,
        state: ClientState,
        transition: Transition | None = None,
    ) -> None:
        """One alert's firing, reminder or recovery."""
        names = self.names.get(rule.name, frozenset())
        variables = self.variables(rule, alert, state, at_ms, names, transition)
        clients = tuple(variables["alert"]["clients"]) if alert.key is not None else None
        # A recovery carries the name of its firing, which takes it along when nobody ever got it.
        notification_id = alert.notification_id or alert.id
        self._deliver(
            out, rule, phase, at_ms, variables, notification_id, alert.id, alert.client, alert.shown_key, clients, _lane(alert),
            alert.fired_at_ms,
        )  # fmt: skip

    def together(self, out: Output, rule: Rule, alerts: Sequence[Alert], phase: str, at_ms: int) -> None:
        """Several alerts of one rule by one decision; those that fire are known by this telling from now on."""
        first = alerts[0]
        names = self.names.get(rule.name, frozenset())
        state = self._state_of(first.client) if first.client is not None else NEW_CLIENT
        shared_throttle = all(alert.throttle_key == first.throttle_key for alert in alerts)
        key = key_values(first.throttle_key if shared_throttle else "")
        variables = self.variables(rule, first, state, at_ms, names)
        clients = tuple([alert.client for alert in alerts[:LISTED] if alert.client is not None])
        variables["alert"] |= self._list(clients) | {"count": len(alerts), "key": key}
        if first.source is not None:
            variables["alert"]["source"] = ", ".join([alert.source or "" for alert in alerts])
            variables["alert"]["detail"] = "; ".join([alert.detail for alert in alerts])
        name = planning.stamped(at_ms, "\0".join(["together", *[alert.id for alert in alerts]]))
        notification_id = first.notification_id
        if phase == FIRING:
            notification_id = name
            for alert in alerts:
                alert.notification_id = name
        lane = _lane(first) if shared_throttle else notification_id
        self._deliver(
            out, rule, phase, at_ms, variables, notification_id, name, None, key, clients, lane, first.fired_at_ms
        )

    def group(
        self, out: Output, rule: Rule, group: Group, first: Alert | None, clients: Sequence[str], count: int,
        limit: int, phase: str, at_ms: int, reason: str = "",
    ) -> None:  # fmt: skip
        """What a group has to say: `clients` in the order in which they are listed, `first` the alert that templates see."""
        names = self.names.get(rule.name, frozenset())
        listed = tuple(clients[:limit])
        client = first.client if first is not None else listed[0] if listed else None
        found: dict[str, Any] = {"client": None}
        if client is not None:
            transition = first.transition if first is not None and phase != planning.RECOVERY else None
            state = self._state_of(client)
            found = planning.client_variables(
                client, state, transition, self.attributes(client), at_ms, self.policy, names, self.gaps
            )
        key = key_values(group.key)
        found["rule"] = planning.rule_variables(rule)
        found["alert"] = {
            "id": group.name,
            "state": "resolved" if phase == planning.RECOVERY else "firing",
            "reason": reason,
            "started_at": rfc3339(group.first_ms),
            "source": "",
            "unverified": first is not None and first.verified == "failed",
            "detail": "",
            **self._list(listed),
            "count": count,
            "key": key,
        }
        lane = f"group {group.key}"
        self._deliver(out, rule, phase, at_ms, found, group.name, group.name, None, key, listed, lane, group.sent_at_ms)

    def _deliver(
        self,
        out: Output,
        rule: Rule,
        phase: str,
        at_ms: int,
        variables: Mapping[str, Any],
        name: str,
        decision: str,
        client: str | None,
        key: Mapping[str, str] | None,
        clients: tuple[str, ...] | None,
        lane: str,
        told_at_ms: int | None,
    ) -> None:
        burst = None
        if self.limit and not rule.shadow:
            burst = self.bursts.get(rule.name)
            if burst is None:
                burst = self.bursts[rule.name] = Burst(rule.name)
        planned = planning.deliveries(
            rule,
            phase,
            alert=name,
            decision=decision,
            client=client,
            group_key=key,
            clients=clients,
            lane=f"{rule.name}\n{lane}",
            at_ms=at_ms,
            variables=variables,
            told_at_ms=told_at_ms if phase != FIRING else None,
            burst=burst,
            limit=self.limit,
        )
        out.lines.extend(planned)
        out.deliveries.extend(planned)
        if burst is not None and planned:
            out.bursts[rule.name] = burst
            if burst.held and not burst.is_told:
                self.summaries.push(at_ms, burst)

    # The guard

    def summarize(self, out: Output, rule: Rule | None, burst: Burst, at_ms: int) -> None:
        """Deliveries of a rule are held: one delivery of their kind says so."""
        burst.is_told = True
        out.bursts[burst.rule] = burst
        if rule is None or not rule.actions:
            return
        name = planning.stamped(at_ms, f"burst\0{rule.name}\0{at_ms}")
        detail = (
            f"{rule.name} decided more than {self.limit} deliveries in a minute: the rest is held, {burst.held} so far. "
            f"`rollcall deliveries release` sends what is held, `rollcall deliveries discard` drops it."
        )
        alert = {
            "id": name, "state": "held", "reason": "burst", "started_at": rfc3339(at_ms), "source": "", "detail": detail,
            "count": burst.held, "clients": [], "key": {}, "unverified": False,
        }  # fmt: skip
        variables = {"client": None, "rule": planning.rule_variables(rule), "alert": alert}
        planned = planning.PlannedDelivery(
            planning.stamped(at_ms, f"{name}\0{SUMMARY}"), rule, rule.actions[0], SUMMARY, None, {}, (), name,
            f"{rule.name}\nburst", at_ms, variables,
        )  # fmt: skip
        out.lines.append(planned)
        out.deliveries.append(planned)

    def recall(self, bursts: Iterable[Burst]) -> None:
        """What a store kept of each rule's last minute."""
        self.bursts = {burst.rule: burst for burst in bursts}
        self.summaries.clear()
        for burst in self.bursts.values():
            if _is_untold(burst, 0):
                self.summaries.push(burst.times[-1][0], burst)

    def purge(self, out: Output, at_ms: int) -> None:
        """Forget bursts in which nothing counts any more."""
        for name, burst in list(self.bursts.items()):
            if burst.fade(at_ms):
                out.bursts[name] = self.bursts.pop(name)


def _is_untold(burst: Burst, due_ms: int) -> bool:
    return burst.held > 0 and not burst.is_told


def _instants(occurred_ms: int, since_ms: int, at_ms: int) -> dict[str, Any]:
    """The instants that a client's templates see, for what is about no single one."""
    return {
        "occurred_at": rfc3339(occurred_ms),
        "since": rfc3339(since_ms),
        "settled_at": rfc3339(since_ms),
        "duration": planning.duration(occurred_ms, at_ms),
    }


def _lane(alert: Alert) -> str:
    # A throttled rule may speak of many clients at once, so all it says to one throttle key stays in one order.
    return alert.throttle_key or alert.notification_id or alert.subject
