"""Which deliveries a notification has: one for each action that is carried out in its phase, each with its key.

| phase                      | what is carried out                                                                    |
|----------------------------|----------------------------------------------------------------------------------------|
| firing, update, reminder   | `actions` of the rule                                                                  |
| escalation                 | `actions` of the step of `escalate` that was sent last                                 |
| acknowledged               | every `notify` among `actions` of the rule and of the steps that were sent             |
| recovery                   | `on_recovery` of the rule, then that of every step that was sent                       |

Read `parts_of`, then `planned`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.core.alerting.escalation import Escalation, latest, sent_steps
from engine.core.alerting.planned_delivery import (
    PHASE_ACKNOWLEDGED,
    PHASE_ESCALATION,
    PHASE_FIRING,
    PHASE_RECOVERY,
    PlannedDelivery,
    delivery_key,
)
from engine.core.alerting.rate_limit import Burst
from engine.core.alerting.routing import NOTIFY
from engine.core.rules import Action, Rule

SAID_ONCE: Final = frozenset({PHASE_FIRING, PHASE_RECOVERY, PHASE_ACKNOWLEDGED})
"""Phases that one alert has once."""


class Notification:
    """What one notification is about; nothing of it changes."""

    __slots__ = ("client", "clients", "decided_ms", "decision", "first_sent_ms", "id", "key", "lane", "variables")

    def __init__(
        self,
        *,
        id: str,
        decision: str,
        lane: str,
        variables: Mapping[str, Any],
        client: str | None = None,
        key: Mapping[str, str] | None = None,
        clients: tuple[str, ...] | None = None,
        first_sent_ms: int | None = None,
        decided_ms: int | None = None,
    ) -> None:
        self.id: Final = id  # the same for a firing and its recovery
        self.decision: Final = decision  # what the keys of its deliveries are made of
        self.lane: Final = lane
        self.variables: Final = variables
        self.client: Final = client
        self.key: Final = key  # what it is about when it is about no single client
        self.clients: Final = clients
        self.first_sent_ms: Final = first_sent_ms  # when its firing was decided, for whatever follows one
        self.decided_ms: Final = decided_ms  # of one alert: the instant of its id; None: several are told of together

    def key_ms(self, phase: str, at_ms: int) -> int:
        """The instant that the key of a delivery is made of.

        What is said of one alert only once has that of the alert, which is the same when it is decided again after a failover.
        """
        return at_ms if self.decided_ms is None or phase not in SAID_ONCE else self.decided_ms

    def firing_ms(self) -> int:
        """The same of its firing, once that was decided."""
        is_own = self.id == self.decision  # else it was told of together with others
        assert self.first_sent_ms is not None
        return self.key_ms(PHASE_FIRING, self.first_sent_ms) if is_own else self.first_sent_ms


class Origin:
    """Deliveries that later ones continue: whose e-mails theirs are replies to."""

    __slots__ = ("actions", "at_ms", "decision", "phase")

    def __init__(self, actions: Sequence[Action], at_ms: int, decision: str, phase: str) -> None:
        self.actions: Final = actions
        self.at_ms: Final = at_ms
        self.decision: Final = decision
        self.phase: Final = phase

    @property
    def has_email(self) -> bool:
        """Is any of them an e-mail?"""
        return any(action.kind == "email" for action in self.actions)

    def continued_by(self, action: Action) -> str | None:
        """The key of the e-mail that a later one continues: to the same people, else to the same `to`, else the first."""
        best: int | None = None
        best_score = -1
        for index, sent in enumerate(self.actions):
            if sent.kind != "email":
                continue
            score = 0
            if sent.spec.get("to") == action.spec.get("to"):
                score = 2 if sent.spec.get("cc") == action.spec.get("cc") else 1
            if sent is action:
                score = 3  # a reminder: the very same action
            if score > best_score:
                best, best_score = index, score
        return None if best is None else delivery_key(self.at_ms, self.decision, self.phase, best, "email")


class Part:
    """Actions that are carried out together: the rule's own, or those of one step of its escalation."""

    __slots__ = ("actions", "decision", "origin")

    def __init__(self, actions: Sequence[Action], decision: str, origin: Origin | None) -> None:
        self.actions: Final = actions
        self.decision: Final = decision
        self.origin: Final = origin


def parts_of(rule: Rule, phase: str, notification: Notification, escalation: Escalation | None, era: str) -> list[Part]:
    """What is carried out in a phase. `era`: see `OpenAlerts.era`."""
    decision = notification.decision
    if era and (phase != PHASE_FIRING or notification.client is None):  # a client's alert fires once
        decision = f"{decision}\0{era}"
    if phase == PHASE_FIRING or notification.first_sent_ms is None:
        return [Part(rule.on_recovery if phase == PHASE_RECOVERY else rule.actions, decision, None)]
    origin = Origin(rule.actions, notification.firing_ms(), notification.id, PHASE_FIRING)
    if phase == PHASE_ESCALATION and escalation is not None:
        index, sent = latest(rule.escalate, escalation)
        return [Part(rule.escalate[index].actions, sent.mark(notification.id), origin)]
    own = Part(rule.on_recovery if phase == PHASE_RECOVERY else rule.actions, decision, origin)
    if phase not in (PHASE_RECOVERY, PHASE_ACKNOWLEDGED):
        return [own]
    found = [own]
    for index, sent in sent_steps(rule.escalate, escalation) if escalation is not None else ():
        step, mark = rule.escalate[index], sent.mark(notification.id)
        of_step = Origin(step.actions, sent.at_ms, mark, PHASE_ESCALATION)
        actions = step.on_recovery if phase == PHASE_RECOVERY else step.actions
        found.append(Part(actions, mark, of_step if of_step.has_email else origin))
    return found


def planned(
    rule: Rule,
    phase: str,
    notification: Notification,
    at_ms: int,
    burst: Burst | None = None,
    limit: int = 0,
    era: str = "",
    escalation: Escalation | None = None,
) -> list[PlannedDelivery]:
    """One delivery for each action of the phase, in the order in which the actions were written.

    With `burst`, each counts in it and is held beyond `limit`. `era`: see `OpenAlerts.era`.
    """
    found = []
    for number, part in enumerate(parts_of(rule, phase, notification, escalation, era)):
        for index, action in enumerate(part.actions):
            if phase == PHASE_ACKNOWLEDGED and action.kind != NOTIFY:
                continue
            reply_to = None
            if part.origin is not None and action.kind == "email":
                reply_to = part.origin.continued_by(action)
            is_held = burst is not None and burst.take(at_ms, limit)
            key = delivery_key(notification.key_ms(phase, at_ms), part.decision, phase, index, action.kind)
            one = delivery_of(
                rule, action, phase, notification, at_ms, key, held=is_held, reply_to=reply_to, part=number
            )
            found.append(one)
    return found


def delivery_of(
    rule: Rule,
    action: Action,
    phase: str,
    notification: Notification,
    at_ms: int,
    key: str,
    *,
    held: bool = False,
    reply_to: str | None = None,
    part: int = 0,
) -> PlannedDelivery:
    """One action of a phase, carried out for a notification; see `PlannedDelivery`."""
    return PlannedDelivery(
        key=key,
        rule=rule,
        action=action,
        phase=phase,
        client=notification.client,
        group_key=notification.key,
        clients=notification.clients,
        alert=notification.id,
        lane=f"{rule.name}\n{notification.lane}",
        at_ms=at_ms,
        variables=notification.variables,
        held=held,
        reply_to=reply_to,
        part=part,
    )
