"""What templates and conditions see: the variables of one client, of several, of an outage, and of the rule.

Made when something is decided, from values that do not change afterwards. They are rendered elsewhere. Read
`VariableSource.of_alert` first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from engine.core.addresses import address
from engine.core.alerting.alert import RESOLVED, Alert
from engine.core.alerting.lookback import LookBack
from engine.core.alerting.outages import Outage, is_down_on_hold
from engine.core.alerting.quorums import Quorums
from engine.core.alerting.schedules import LISTED
from engine.core.matching import Attributes
from engine.core.presence.client_state import (
    FLAPPING,
    GRACEFUL,
    NEVER,
    OFFLINE,
    STATUS_NAMES,
    ClientState,
    Transition,
    split_id,
)
from engine.core.presence.debounce import Policy
from engine.core.presence.evidence import Reading, doubts, readings
from engine.core.presence.reconcile import Gaps, is_unsure
from engine.core.rules import UNDELIVERED, Rule
from engine.core.times import rfc3339

NO_NAMES: Final[frozenset[str]] = frozenset()
"""None of the costly names."""

EvidenceVariable = Callable[[Sequence[Reading]], list[dict[str, Any]]]
"""Puts readings into the words that the template variable `evidence` shows."""


def as_codes(found: Sequence[Reading]) -> list[dict[str, Any]]:
    """Readings as they are, for who has no words for them."""
    return [dict(reading._asdict()) for reading in found]


def rule_variables(rule: Rule) -> dict[str, Any]:
    """The variable `rule`."""
    return {
        "name": rule.name,
        "severity": rule.severity,
        "description": rule.description,
        "labels": rule.labels,
    }


def client_mapping(client: str, state: ClientState, attributes: Mapping[str, str]) -> dict[str, Any]:
    """The variable `client`, and of each of several."""
    group, device = split_id(client)
    return {"id": client, "group": group, "device": device, "ip": address(state.ip), "attributes": attributes}


def duration(occurred_ms: int, at_ms: int) -> Any:
    """Seconds since a change: an int where they are whole, else a float. As `float` a compiled core would make all of them one."""
    seconds, rest = divmod(max(0, at_ms - occurred_ms), 1000)
    return seconds + rest / 1000 if rest else seconds


class VariableSource:
    """Makes the variables. Knows the inventory, every client's state, the outages going on and the gaps in feeds."""

    def __init__(
        self,
        policy: Policy,
        attributes: Attributes,
        state_of: Callable[[str], ClientState],
        outages: Mapping[str, Outage],
        quorums: Quorums,
        lookback: LookBack,
        evidence_variable: EvidenceVariable = as_codes,
    ) -> None:
        """`outages`: those going on, by the name of their alert; the caller keeps it up to date."""
        self.policy = policy
        self.attributes = attributes
        self.external_url = ""  # where people reach the console: the beginning of `alert.url`
        self.gaps: Gaps = ()  # in feeds: clients that they affect count as unverified
        self._state_of = state_of
        self._outages = outages
        self._quorums = quorums
        self._lookback = lookback
        self._evidence_variable = evidence_variable

    def current_policy(self) -> Policy:
        """The policy in force."""
        return self.policy

    def alert_mapping(
        self,
        id: str,
        state: str,
        started_at_ms: int,
        at_ms: int,
        ended_at_ms: int | None,
        reason: str,
        trigger: str,
    ) -> dict[str, Any]:
        """What the variable `alert` has of every alert. `at_ms`: now, for how long it has lasted."""
        return {
            "id": id,
            "state": state,
            "reason": reason,
            "trigger": trigger,
            "phase": "firing",
            "started_at": rfc3339(started_at_ms),
            "ended_at": "" if ended_at_ms is None else rfc3339(ended_at_ms),
            "duration": duration(started_at_ms, at_ms if ended_at_ms is None else ended_at_ms),
            "url": f"{self.external_url}/alert/{id}" if self.external_url else "",
            "acknowledged_by": "",
            "escalation": 0,
            "source": "",
            "target": "",
            "unverified": False,
            "detail": "",
            "count": 1,
            "key": {},
        }

    def of_alert(
        self,
        rule: Rule,
        alert: Alert,
        state: ClientState,
        at_ms: int,
        names: frozenset[str],
        transition: Transition | None = None,
    ) -> dict[str, Any]:
        """All variables of one alert; `transition`: what has just happened, by default what opened it. `names`: see `_client`."""
        found: dict[str, Any] = {"client": None}
        shown = self.alert_mapping(
            alert.id, alert.state, alert.started_at_ms, at_ms, alert.resolved_at_ms, alert.reason or "", alert.trigger
        )
        shown["source"] = alert.source or ""
        shown["unverified"] = alert.verified == "failed"
        shown["detail"] = alert.detail
        shown["acknowledged_by"] = alert.acknowledged_by
        if alert.client is not None:
            found = self._client(alert.client, state, transition or alert.transition, at_ms, names)
            shown["clients"] = [alert.client]
        else:
            shown["key"] = alert.shown_key or {}
            shown["clients"] = []
            if alert.trigger == UNDELIVERED:
                shown["target"] = shown["key"].get("target", "")
            elif alert.trigger == "outage":
                self._add_outage(alert, found, shown, at_ms)
            elif alert.trigger == "quorum":
                self._add_quorum(alert, found, shown, at_ms)
            elif alert.trigger == "schedule":
                shown |= self.of_several(alert.listed) | {"count": alert.count, "total": alert.total}
                if rule.schedule is not None and rule.schedule.over_ms:
                    self._add_past(shown["members"], alert.started_at_ms, rule.schedule.over_ms)
                found |= _instants(alert.started_at_ms, alert.started_at_ms, at_ms)
        found["rule"] = rule_variables(rule)
        found["alert"] = shown
        return found

    def of_scheduled(
        self, rule: Rule, client: str, state: ClientState, at_ms: int, names: frozenset[str]
    ) -> dict[str, Any]:
        """What the condition of a scheduled rule sees of one client."""
        found = self._client(client, state, None, at_ms, names)
        found["rule"] = rule_variables(rule)
        found["alert"] = self.alert_mapping("", "pending", at_ms, at_ms, None, "", "schedule") | {"clients": [client]}
        return found

    def of_group(
        self, rule: Rule, client: str | None, transition: Transition | None, at_ms: int, names: frozenset[str]
    ) -> dict[str, Any]:
        """The variables of a group's notification but `alert`; `client`: the one that its templates see."""
        found: dict[str, Any] = {"client": None}
        if client is not None:
            found = self._client(client, self._state_of(client), transition, at_ms, names)
        found["rule"] = rule_variables(rule)
        return found

    def of_several(self, clients: Sequence[str]) -> dict[str, Any]:
        """What `alert` says of several clients: their ids, what each is, and the attributes that all of them share."""
        members, shared = [], dict(self.attributes(clients[0])) if clients else {}
        for client in clients:
            state, attributes = self._state_of(client), self.attributes(client)
            described = client_mapping(client, state, attributes)
            members.append(
                described
                | {
                    "name": attributes.get("name") or described["device"],
                    "status": STATUS_NAMES[state.settled],
                    "since": rfc3339(state.since_ms),
                    "occurred_at": rfc3339(state.occurred_at_ms),
                }
            )
            if shared:
                shared = {name: value for name, value in shared.items() if attributes.get(name) == value}
        return {"clients": list(clients), "members": members, "shared": shared}

    def _add_outage(self, alert: Alert, found: dict[str, Any], shown: dict[str, Any], at_ms: int) -> None:
        outage = self._outages.get(alert.name)
        if outage is None:
            return
        shown |= self.of_several(tuple(islice(outage.offline_members(), LISTED)))
        for member in shown["members"]:
            member |= _down(self._state_of(member["id"]))
        shown |= {"count": outage.down, "total": outage.total, "back": outage.back}
        found |= _instants(outage.earliest_ms, alert.started_at_ms, at_ms)
        found["status"], found["previous"] = ("offline", "online") if alert.state != RESOLVED else ("online", "offline")

    def _add_quorum(self, alert: Alert, found: dict[str, Any], shown: dict[str, Any], at_ms: int) -> None:
        """Who of the key is down now, those first who went first, and since when the quorum is reached."""
        key = alert.key or ""
        down, total = self._quorums.size(alert.rule, key)
        states = [self._state_of(client) for client in self._quorums.down(alert.rule, key)]
        states.sort(key=lambda state: (state.since_ms, state.client))
        shown |= self.of_several([state.client for state in states[:LISTED]])
        for member, state in zip(shown["members"], states, strict=False):
            member["flaps"] = state.last_flaps
        shown |= {"count": down, "total": total}
        transition = alert.transition
        if transition is not None:
            found |= _instants(transition.occurred_at_ms, transition.since_ms, at_ms)
            found["settled_at"] = rfc3339(transition.settled_at_ms)
        else:
            found |= _instants(alert.started_at_ms, alert.started_at_ms, at_ms)
        found["status"], found["previous"] = ("offline", "online") if alert.state != RESOLVED else ("online", "offline")

    def _add_past(self, members: list[dict[str, Any]], at_ms: int, over_ms: int) -> None:
        """What happened to each member in `over_ms` before an instant."""
        for member in members:
            client = member["id"]
            flaps, offline_ms = self._lookback.of(client, self._state_of(client), at_ms, over_ms)
            member["flaps"], member["downtime"] = flaps, duration(0, offline_ms)

    def _client(
        self, client: str, state: ClientState, transition: Transition | None, at_ms: int, names: frozenset[str]
    ) -> dict[str, Any]:
        """What templates see about one client. `names`: the names that are read, so that costly ones are made only then."""
        occurred_ms = transition.occurred_at_ms if transition else state.occurred_at_ms
        is_verified = state.verified_ms != NEVER and not is_unsure(state, self.gaps)
        found: dict[str, Any] = {
            "client": client_mapping(client, state, self.attributes(client)),
            "status": STATUS_NAMES[state.settled],
            "previous": STATUS_NAMES[transition.previous if transition else state.settled],
            "occurred_at": rfc3339(occurred_ms),
            "settled_at": rfc3339(state.settled_at_ms),
            "since": rfc3339(transition.since_ms if transition else state.since_ms),
            "duration": duration(occurred_ms, at_ms),
            "graceful": transition.graceful
            if transition
            else bool(state.flags & GRACEFUL and state.settled == OFFLINE),
            "flaps": transition.flaps if transition else state.flaps,
            "flapping": bool(state.flags & FLAPPING),
            "verified_at": rfc3339(state.verified_ms) if is_verified else None,
        }
        if "doubtful" in names:
            found["doubtful"] = bool(doubts(state, self.policy.clock_skew_ms))
        if "evidence" in names:
            found["evidence"] = self._evidence_variable(readings(state, self.policy.clock_skew_ms))
        return found


def _down(state: ClientState) -> dict[str, Any]:
    """What is told of a member of an outage that is down, settled or still on hold."""
    is_on_hold = is_down_on_hold(state)
    return {
        "status": STATUS_NAMES[OFFLINE],
        "since": rfc3339(state.hold_since_ms if is_on_hold else state.since_ms),
        "occurred_at": rfc3339(state.hold_occurred_at_ms if is_on_hold else state.occurred_at_ms),
        "flaps": state.flaps if is_on_hold else state.last_flaps,
    }


def _instants(occurred_ms: int, since_ms: int, at_ms: int) -> dict[str, Any]:
    """The instants that a client's templates see, for what is about no single one."""
    return {
        "occurred_at": rfc3339(occurred_ms),
        "since": rfc3339(since_ms),
        "settled_at": rfc3339(since_ms),
        "duration": duration(occurred_ms, at_ms),
    }
