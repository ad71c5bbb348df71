"""One delivery as the rules decide it, before it is rendered, and the keys that make a decision the same decision for ever.

A delivery's key is made of its instant, the notification, the phase and the action's place in its rule: nothing that a retry or
a restart could change.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from mypy_extensions import mypyc_attr

from engine.core.rules import Action, Rule

PHASE_FIRING: Final = "firing"
PHASE_RECOVERY: Final = "recovery"
PHASE_REMINDER: Final = "reminder"
"""Still firing: the actions of the firing are carried out again."""
PHASE_ESCALATION: Final = "escalation"
"""Still firing and acknowledged by nobody: the actions of a step of `escalate`."""
PHASE_ACKNOWLEDGED: Final = "acknowledged"
"""An operator knows of it: those receivers are told that were told of the firing."""
PHASE_UPDATE: Final = "update"
"""What templates are told of a firing that follows another of the same group: who fires has changed. It is stored as a firing."""
PHASE_SUMMARY: Final = "summary"
"""Deliveries of a rule are held by `deliveries.burst`: `alert.count` says how many. It is about no client."""


@mypyc_attr(acyclic=True)
class PlannedDelivery:
    """One action to carry out, not rendered yet; nothing of it changes. `variables`: what its templates see."""

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
        "part",
        "phase",
        "reply_to",
        "rule",
        "variables",
    )

    def __init__(
        self,
        *,
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
        part: int = 0,
    ) -> None:
        self.key: Final = key
        self.rule: Final = rule
        self.action: Final = action
        self.phase: Final = phase  # firing, recovery, reminder, escalation, acknowledged or summary
        self.client: Final = client
        self.group_key: Final = group_key  # for deliveries about several clients, or about a source
        self.clients: Final = clients
        self.alert: Final = alert  # the id of the notification: the same for a firing and its recovery
        self.lane: Final = lane  # the target is added when it is known
        self.at_ms: Final = at_ms
        self.variables: Final = variables
        self.reply_to: Final = reply_to  # of an e-mail: the key of the firing's that this one continues
        self.held: Final = held  # kept back by `deliveries.burst` until an operator releases it
        self.part: Final = (
            part  # of which list of actions: 0 for the rule's own, then those of the steps that were sent
        )

    def evolve(
        self,
        *,
        action: Action | None = None,
        variables: Mapping[str, Any] | None = None,
        clients: tuple[str, ...] | None = None,
    ) -> PlannedDelivery:
        """The same delivery with another action, other variables, or other clients."""
        return PlannedDelivery(
            key=self.key,
            rule=self.rule,
            action=self.action if action is None else action,
            phase=self.phase,
            client=self.client,
            group_key=self.group_key,
            clients=self.clients if clients is None else clients,
            alert=self.alert,
            lane=self.lane,
            at_ms=self.at_ms,
            variables=self.variables if variables is None else variables,
            held=self.held,
            reply_to=self.reply_to,
            part=self.part,
        )


def stamped(at_ms: int, text: str) -> str:
    """A short stable id for what was decided at an instant: 28 hexadecimal digits. NULs keep the parts of the text apart.

    The instant comes first, so that ids of one time lie together in an index: a store writes few pages for many of them.
    """
    return f"{at_ms & 0xFFFF_FFFF_FFFF:012x}{blake2b(text.encode(), digest_size=8).hexdigest()}"


def instant_of(id_: str) -> int:
    """The instant that an id was made of."""
    return int(id_[:12], 16)


def delivery_key(at_ms: int, decision: str, phase: str, index: int, kind: str) -> str:
    """The key of the delivery of the `index`-th action of a phase; `decision`: the id of what was decided."""
    return stamped(at_ms, f"{decision}\0{phase}\0{index}\0{kind}")
