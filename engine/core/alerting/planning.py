"""From alerts to deliveries: what each action is given, and the key that makes a decision the same decision for ever.

A delivery's key is made of its instant, the alert, the phase and the action's place in its rule: nothing that a retry or a
restart could change. `variables` is what templates and conditions see; it is rendered by the shell, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from mypy_extensions import mypyc_attr

from engine.core.alerting.rate_limit import Burst
from engine.core.presence import resolver
from engine.core.presence.client_state import (
    FLAPPING,
    GRACEFUL,
    NEVER,
    OFFLINE,
    STATUS_NAMES,
    ClientState,
    Transition,
    address,
    split_id,
)
from engine.core.presence.debounce import Policy
from engine.core.presence.reconcile import Gaps, is_unsure
from engine.core.rules import Action, Rule
from engine.core.times import rfc3339

FIRING: Final = "firing"
RECOVERY: Final = "recovery"
REMINDER: Final = "reminder"
"""Still firing: goes with the actions of the firing."""
SUMMARY: Final = "summary"
"""Deliveries of a rule are held: `alert.detail` says how many, and what to do. Its templates know of nobody: send the plain body."""


@mypyc_attr(acyclic=True)
class PlannedDelivery:
    """One action to carry out, not rendered yet; nothing of it changes."""

    __slots__ = (
        "action",
        "alert",
        "at_ms",
        "client",
        "clients",
        "group_key",
        "held",
        "key",
        "lane",
        "phase",
        "reply_to",
        "rule",
        "variables",
    )

    def __init__(
        self,
        key: str,
        rule: Rule,
        action: Action,
        phase: str,
        client: str | None,
        group_key: Mapping[str, str] | None,
        clients: tuple[str, ...] | None,
        alert: str,
        lane: str,
        at_ms: int,
        variables: Mapping[str, Any],
        held: bool = False,
        reply_to: str | None = None,
    ) -> None:
        self.key: Final = key
        self.rule: Final = rule
        self.action: Final = action
        self.phase: Final = phase  # firing, recovery, reminder or summary
        self.client: Final = client
        self.group_key: Final = group_key  # for deliveries about several clients, or about a source
        self.clients: Final = clients
        self.alert: Final = alert
        self.lane: Final = lane  # the target is added when it is known
        self.at_ms: Final = at_ms
        self.variables: Final = variables
        self.reply_to: Final = reply_to  # of an e-mail: the key of the firing's that this one continues
        self.held: Final = held  # kept back by `deliveries.burst` until an operator releases it


def stamped(at_ms: int, text: str) -> str:
    """A short stable name for what was decided at an instant: 28 hexadecimal digits, parts of the text kept apart by NULs.

    The instant comes first, so that names of one time lie together in an index: a store writes few pages for many of them.
    """
    return f"{at_ms & 0xFFFF_FFFF_FFFF:012x}{blake2b(text.encode(), digest_size=8).hexdigest()}"


def rule_variables(rule: Rule) -> dict[str, Any]:
    """What templates see as `rule`."""
    return {
        "name": rule.name,
        "severity": rule.severity,
        "description": rule.description,
        "labels": rule.labels,
    }


def client_mapping(client: str, state: ClientState, attributes: Mapping[str, str]) -> dict[str, Any]:
    """What templates see as `client`, and of each of several."""
    group, device = split_id(client)
    return {"id": client, "group": group, "device": device, "ip": address(state.ip), "attributes": attributes}


def duration(occurred_ms: int, at_ms: int) -> Any:
    """Seconds since a change: an int where they are whole, else a float. As `float` a compiled core would make all of them one."""
    seconds, rest = divmod(max(0, at_ms - occurred_ms), 1000)
    return seconds + rest / 1000 if rest else seconds


def client_variables(
    client: str,
    state: ClientState,
    transition: Transition | None,
    attributes: Mapping[str, str],
    at_ms: int,
    policy: Policy,
    names: frozenset[str],
    gaps: Gaps = (),
) -> dict[str, Any]:
    """What templates see about one client. `names`: the names that are read, so that costly ones are made only then."""
    occurred_ms = transition.occurred_at_ms if transition else state.occurred_at_ms
    found: dict[str, Any] = {
        "client": client_mapping(client, state, attributes),
        "status": STATUS_NAMES[state.settled],
        "previous": STATUS_NAMES[transition.previous if transition else state.settled],
        "occurred_at": rfc3339(occurred_ms),
        "settled_at": rfc3339(state.settled_at_ms),
        "since": rfc3339(transition.since_ms if transition else state.since_ms),
        "duration": duration(occurred_ms, at_ms),
        "graceful": transition.graceful if transition else bool(state.flags & GRACEFUL and state.settled == OFFLINE),
        "flaps": transition.flaps if transition else state.flaps,
        "flapping": bool(state.flags & FLAPPING),
        "verified_at": None if state.verified_ms == NEVER or is_unsure(state, gaps) else rfc3339(state.verified_ms),
    }
    if "doubtful" in names:
        found["doubtful"] = bool(resolver.doubts(state, policy.clock_skew_ms))
    if "evidence" in names:
        found["evidence"] = [
            {**entry, "time": rfc3339(int(str(entry["time_ms"])))}
            for entry in resolver.evidence(state, policy.clock_skew_ms)
        ]
    return found


def deliveries(
    rule: Rule,
    phase: str,
    *,
    alert: str,
    decision: str,
    client: str | None,
    group_key: Mapping[str, str] | None,
    clients: Sequence[str] | None,
    lane: str,
    at_ms: int,
    variables: Mapping[str, Any],
    told_at_ms: int | None = None,
    burst: Burst | None = None,
    limit: int = 0,
) -> list[PlannedDelivery]:
    """One delivery for each action of the phase, in the order in which the actions were written.

    `alert` names what was told, the same for a firing and its recovery; `decision` is what the key is made of. With
    `burst`, each counts in it and is held beyond `limit`. `told_at_ms`: for whatever follows a firing, the instant at
    which that was decided; its `decision` was `alert`.
    """
    actions = rule.on_recovery if phase == RECOVERY else rule.actions
    return [
        PlannedDelivery(
            _key(at_ms, decision, phase, index, action.kind),
            rule,
            action,
            phase,
            client,
            group_key,
            tuple(clients) if clients is not None else None,
            alert,
            lane,
            at_ms,
            variables,
            burst is not None and burst.take(at_ms, limit),
            _reply_to(rule, action, alert, told_at_ms) if told_at_ms is not None and action.kind == "email" else None,
        )
        for index, action in enumerate(actions)
    ]


def _key(at_ms: int, decision: str, phase: str, index: int, kind: str) -> str:
    return stamped(at_ms, f"{decision}\0{phase}\0{index}\0{kind}")


def _reply_to(rule: Rule, action: Action, alert: str, told_at_ms: int) -> str | None:
    """The key of the firing's e-mail that a later one continues: to the same people, else to the same `to`, else the first."""
    best: int | None = None
    best_score = -1
    for index, told in enumerate(rule.actions):
        if told.kind != "email":
            continue
        score = 0
        if told.spec.get("to") == action.spec.get("to"):
            score = 2 if told.spec.get("cc") == action.spec.get("cc") else 1
        if told is action:
            score = 3  # a reminder: the very same action
        if score > best_score:
            best, best_score = index, score
    return None if best is None else _key(told_at_ms, alert, FIRING, best, "email")
