"""The JSON objects about rules, alerts, deliveries and silences, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from engine.web.openapi.values import (
    Beginning,
    Count,
    Duration,
    Instant,
    Line,
    LongLine,
    Network,
    Next,
    Pattern,
    Patterns,
    RuleName,
    RuleNames,
    Seconds,
)

AlertState = Literal["pending", "firing", "suppressed", "resolved"]
DeliveryState = Literal["due", "delivered", "dead", "held", "shadow", "discarded"]


class RuleObject(TypedDict):
    """One rule, with the file and the line where it stands."""

    name: str
    triggers: list[str]
    severity: str
    description: str
    shadow: bool
    file: str
    line: int


class RulePageObject(TypedDict):
    """The rules in force; `problem`: why edited rules are not."""

    items: list[RuleObject]
    next: Next
    problem: str | None


class StageObject(TypedDict):
    """One stage between a client and a firing, and what it says now."""

    gate: str
    open: bool
    why: str
    until: Instant | None


class WhyNotObject(TypedDict):
    """Every stage, and the first one that stops the rule; null: none does."""

    rule: str
    client: str
    at: Instant
    stopped_by: str | None
    why: str
    gates: list[StageObject]


class RulesExplainedObject(TypedDict):
    """Each rule that matches a client with every stage; `unmatched`: how many rules do not match it."""

    client: str
    items: list[WhyNotObject]
    unmatched: Count


class AlertObject(TypedDict):
    """One alert. One that is not about a single client has a `key` instead."""

    id: str
    rule: str
    client: str | None
    key: dict[str, str] | None
    state: AlertState
    reason: str | None
    started_at: Instant
    resolved_at: Instant | None
    acknowledged_by: str | None


class AlertPageObject(TypedDict):
    """Alerts, newest first."""

    items: list[AlertObject]
    next: Next


class LifeStepObject(TypedDict):
    """One thing that is known to have happened to an alert."""

    at: Instant
    what: Annotated[
        str, Meta(description="`started`, `fired`, `resolved`, or the phase of a notification: `firing`, `reminder` …")
    ]
    deliveries: Annotated[list[int], Meta(description="The deliveries that it made.")]


class AcknowledgedObject(TypedDict):
    """How many firing alerts were acknowledged: 1, or all of a group."""

    acknowledged: Annotated[int, Meta(ge=1)]


class AcknowledgementObject(TypedDict, total=False):
    """Who acknowledges; may be empty."""

    by: Line


class PauseObject(TypedDict):
    """Why nothing is sent to the target of a delivery."""

    reason: str
    since: Instant
    next_try_at: Instant
    being_tried: bool


class DeliveryObject(TypedDict):
    """One rendered action in the outbox."""

    id: int
    key: str
    rule: str
    client: str | None
    alert: str
    action: str
    target: str
    state: DeliveryState
    attempts: Count
    due_at: Instant | None
    last_error: str | None
    paused: Annotated[PauseObject | None, Meta(description="null unless the circuit breaker of its target is open.")]


class DeliveryPageObject(TypedDict):
    """Deliveries, newest first."""

    items: list[DeliveryObject]
    next: Next


class AttemptObject(TypedDict):
    """One attempt; `duration` in seconds, null when it was not measured."""

    at: Instant
    duration: Seconds | None
    outcome: Literal["delivered", "retry later", "rejected"]
    answer: str | None


class StagePassedObject(TypedDict):
    """One stage that the decision passed, and why."""

    gate: str
    why: str


class DeliveryDetailObject(DeliveryObject):
    """One delivery with its request (secrets are masked), its newest attempts and the stages that it passed."""

    phase: str
    decided_at: Instant
    renewed_at: Annotated[Instant | None, Meta(description="An operator's newest retry or release.")]
    kept_attempts: Annotated[list[AttemptObject], Meta(description="The newest 20, oldest first.")]
    clients: list[str] | None
    request: dict[str, Any]
    passed: list[StagePassedObject]


class AlertDeliveryObject(DeliveryObject):
    """A delivery of an alert, with its newest attempts."""

    phase: str
    decided_at: Instant
    kept_attempts: Annotated[list[AttemptObject], Meta(description="The newest 20, oldest first.")]


class AlertDetailObject(AlertObject):
    """One alert: its life, and everything that was sent for it."""

    severity: Annotated[str | None, Meta(description="Of its rule; null: the rule is not loaded.")]
    life: Annotated[list[LifeStepObject], Meta(description="Oldest first.")]
    deliveries: Annotated[
        list[AlertDeliveryObject], Meta(description="The newest 100, oldest first; also those of its group.")
    ]
    deliveries_left_out: Annotated[bool, Meta(description="There are more: `/v1/deliveries?alert=` lists them.")]


class HeldChangedObject(TypedDict):
    """How many held deliveries of a rule were changed."""

    rule: str
    changed: Count


class CoversObject(TypedDict):
    """How many clients and open alerts a silence covers now."""

    clients: Count
    alerts: Count


Silence = TypedDict(
    "Silence",
    {
        "id": Annotated[str | None, Meta(description="null: a dry run.")],
        "state": Literal["planned", "active", "expired"],
        "match": dict[str, list[str]],
        "rule": list[str],
        "author": str,
        "comment": str,
        "from": Instant,
        "until": Instant,
        "covers": Annotated[CoversObject | None, Meta(description="null: it was not counted.")],
        "warnings": Annotated[list[str], Meta(description="What is probably not meant.")],
        "dry_run": NotRequired[bool],
    },
)
Silence.__doc__ = "A silence: planned, then active until it expires."


class SilencePageObject(TypedDict):
    """Silences, newest first."""

    items: list[Silence]
    next: Next


class SilenceMatchObject(TypedDict, total=False):
    """Keys of a rule's match, each with a pattern or a list of them; other keys are columns of the inventory."""

    group: Pattern | Patterns
    device: Pattern | Patterns
    client: Pattern | Patterns
    ip: Annotated[Network | Annotated[list[Network], Meta(min_length=1)], Meta(description="Networks or addresses.")]
    source: Annotated[Pattern | Patterns, Meta(description="Alerts about a source.")]
    target: Annotated[Pattern | Patterns, Meta(description="Alerts about a target of deliveries.")]
    rule: Annotated[RuleName | RuleNames, Meta(description="The same as `rule` beside the match.")]
    attributes: Annotated[dict[str, Pattern | Patterns], Meta(description="Columns of the inventory.")]


NewSilence = TypedDict(
    "NewSilence",
    {
        "match": Annotated[SilenceMatchObject, Meta(examples=[{"group": "GID_PUMP", "device": ["p-*"]}])],
        "rule": Annotated[RuleName | RuleNames, Meta(description="Names of rules, or patterns.")],
        "from": Beginning,
        "for": Duration,
        "author": Line,
        "comment": LongLine,
        "dry_run": Annotated[
            bool,
            Meta(description="Only say what it would cover; then `for`, `author` and `comment` may be missing."),
        ],
    },
    total=False,
)
NewSilence.__doc__ = "What to silence, for how long, by which author and why; without `match`, `rule` says it."
