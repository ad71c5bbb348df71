"""The JSON objects about clients, events, sources and sweeps, as the OpenAPI document describes them.

`serializers` and `history` make them; a test holds every answer of a real service against what is written here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from engine.web.openapi.values import Count, Instant, Next, Seconds, Share

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""A text without control characters."""

Status = Literal["online", "offline", "unknown"]


class ClientObject(TypedDict):
    """One client. `status` is the settled status, which rules see; `observed` is what the events so far say."""

    client: str
    group: str
    device: str
    status: Status
    observed: Status
    since: Instant | None
    settled_at: Instant | None
    graceful: bool
    flaps: Count
    flapping: bool
    doubtful: bool
    verified_at: Annotated[Instant | None, Meta(description="When a query last confirmed the status; null: never.")]
    ip: Annotated[str, Meta(description="Of its newest connect; empty when no event named one.")]
    attributes: Annotated[dict[str, str], Meta(description="Columns of the inventory.")]


class ClientPageObject(TypedDict):
    """Clients in the order of their ids. A page may be empty although others follow."""

    items: list[ClientObject]
    next: Next


class ClientStatusObject(TypedDict):
    """Is the client online? `online` is null when the status is unknown."""

    client: str
    online: bool | None
    connections: Annotated[int | None, Meta(description="What the broker answered; null without a query.")]
    source: Annotated[Literal["query", "belief"], Meta(description="`belief`: it follows from events.")]
    asked_at: Instant | None
    age: Annotated[Seconds | None, Meta(description="Seconds since the query, or since the status settled.")]
    problem: NotRequired[Annotated[str, Meta(description="Why the query got no answer.")]]


class _EntryObject(msgspec.Struct, tag_field="kind"):
    position: int
    at: Annotated[Instant, Meta(description="When the engine learned of it, or when it happened.")]


class HistoryEventObject(_EntryObject, tag="event"):
    """An event as it was accepted; `used`: did it change what is believed?"""

    type: Literal["connect", "disconnect", "tcpclean"]
    time: Annotated[Instant, Meta(description="The broker's clock.")]
    channel: str
    ip: str
    source: str
    used: bool
    why: str


class HistorySettledObject(_EntryObject, tag="settled"):
    """The status settled. Facts that need history that has expired are null."""

    status: Status | None
    previous: Status | None
    occurred_at: Instant | None
    since: Instant | None
    graceful: bool | None
    flaps: int | None
    first_seen: bool | None


class HistoryAnswerObject(_EntryObject, tag="answered"):
    """The answer of a query about the client."""

    asked_at: Instant
    connections: int | None
    used: bool
    why: str


class HistoryStepObject(_EntryObject, tag="stepped"):
    """The clock of the machine was set."""

    step_ms: int
    why: str


class HistoryCalmedObject(_EntryObject, tag="calmed"):
    """The client stopped flapping."""


class HistoryForgottenObject(_EntryObject, tag="forgotten"):
    """The client was forgotten."""


class TimelineObject(TypedDict):
    """The history of a client, newest first."""

    items: list[
        HistoryEventObject
        | HistorySettledObject
        | HistoryAnswerObject
        | HistoryStepObject
        | HistoryCalmedObject
        | HistoryForgottenObject
    ]
    next: Next
    purged: Annotated[bool, Meta(description="Older entries have expired.")]


class HoldObject(TypedDict):
    """A change of the observed status that has to last until `due_at`."""

    since: Instant
    occurred_at: Instant
    due_at: Instant


class EvidenceObject(TypedDict):
    """One event, or the answer of a query, and what it means for the status."""

    type: Literal["connect", "disconnect", "tcpclean", "answer"]
    time: Instant
    channel: str
    used: bool
    why: str
    received_at: Annotated[Instant | None, Meta(description="null: its entry of the history has expired.")]


class ExplanationObject(ClientObject):
    """The status of a client and the evidence for it, now or at an instant."""

    at: Instant
    occurred_at: Instant | None
    hold: HoldObject | None
    doubts: Annotated[list[str], Meta(description="Why the status may be wrong, as sentences.")]
    evidence: list[EvidenceObject]
    evidence_left_out: Count
    complete: Annotated[bool, Meta(description="No entry older than `history_from` has expired.")]
    history_from: Instant | None


class ForgottenObject(TypedDict):
    """The client that was forgotten."""

    client: str


NumberText = Annotated[str, Meta(max_length=64, pattern=r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$")]
"""A number that is written as a text."""


class EventObject(TypedDict):
    """A lifecycle event, as the broker words it. Other keys, of 1 KiB together, are kept and ignored.

    Texts are measured in bytes of UTF-8 and have no control characters.
    """

    clientId: Annotated[str, Meta(min_length=1, max_length=256, pattern=PRINTABLE)]
    time: Annotated[
        float | NumberText,
        Meta(description="Epoch milliseconds, or seconds when below 1e11; at most a minute ahead of now."),
    ]
    eventType: Literal["connect", "disconnect", "tcpclean"]
    channelId: Annotated[str, Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    clientIp: NotRequired[Annotated[str, Meta(max_length=64, pattern=PRINTABLE)] | None]


class RejectedLineObject(TypedDict):
    """One line, or one item of an array, that is not an event."""

    line: Annotated[int, Meta(ge=1)]
    reason: str


class EventsTakenObject(TypedDict):
    """What became of a body of events. What is rejected goes to the quarantine."""

    accepted: Count
    rejected: list[RejectedLineObject]
    rejected_more: NotRequired[Annotated[int, Meta(ge=1, description="How many more are not listed.")]]


class QuarantinedObject(TypedDict):
    """One event that was not accepted."""

    id: int
    received_at: Instant
    source: str
    reason: str
    raw: str


class QuarantinePageObject(TypedDict):
    """Events that were not accepted, newest first."""

    items: list[QuarantinedObject]
    next: Next


class RetriedObject(TypedDict):
    """How many quarantined events were accepted, and how many are still invalid."""

    accepted: Count
    rejected: Count


class QueueObject(TypedDict):
    """One queue of a source."""

    name: str
    connected: bool
    detail: str
    caught_up_to: Instant | None
    behind: Annotated[Seconds | None, Meta(description="Seconds from `caught_up_to` until now.")]
    last_event_at: Instant | None
    lag: Count | None


class SourceHealthObject(QueueObject):
    """A source of events, as far as it is known without the store."""

    type: str
    lag_unit: str
    trouble: Annotated[str | None, Meta(description="Why it is unhealthy; null: it is not.")]
    queues: list[QueueObject]


Gap = TypedDict("Gap", {"noted_at": Instant, "from": Instant | None, "to": Instant | None, "reason": str})
Gap.__doc__ = "Messages that were lost before they were read."


class SourceObject(SourceHealthObject):
    """A source of events, how far it has been read, and its gaps."""

    position: str | None
    gaps: list[Gap]


class SourcePageObject(TypedDict):
    """The sources, in the order of the configuration."""

    items: list[SourceObject]
    next: Next


class SourceQualityObject(TypedDict):
    """What can be said of a source's feed. Shares are of the `sampled` newest events of the history; null without any."""

    name: str
    connected: bool
    trouble: str | None
    behind: Seconds | None
    lag: Count | None
    lag_unit: str
    gaps: Annotated[int, Meta(ge=0, description="Recorded gaps, the newest 1,000 of all sources.")]
    sampled: Count
    redelivered: Annotated[Share | None, Meta(description="Share of events that came a second time within the sample.")]
    late: Annotated[
        Share | None, Meta(description="Share of events received more than `late_after` seconds after they occurred.")
    ]
    delay_p50: Annotated[Seconds | None, Meta(description="Seconds from an event until it was received: the median.")]
    delay_p99: Seconds | None


class QualityObject(TypedDict):
    """What the feeds are like, and how many clients are doubtful."""

    at: Instant
    sampled_from: Annotated[Instant | None, Meta(description="When the oldest event of the sample was received.")]
    late_after: Seconds
    clients: Count
    doubtful: Annotated[
        int, Meta(ge=0, description="Clients whose status may be wrong: see the `doubts` of an explanation.")
    ]
    sources: list[SourceQualityObject]


class SweepObject(TypedDict):
    """A sweep that queries every client. Its counters count clients whose answer is final."""

    id: int
    started_at: Instant
    finished_at: Instant | None
    asked: Count
    agreed: Count
    corrected: Count
    unknown: Count
    failed: Count


class SweepPageObject(TypedDict):
    """Sweeps, newest first."""

    items: list[SweepObject]
    next: Next


class CorrectionObject(TypedDict):
    """A client whose status a query contradicted, and what its events had said."""

    client: str
    at: Instant
    believed: Status
    connections: Count
    events: list[dict[str, Any]]


class SweepReportObject(SweepObject):
    """A sweep with its drift report."""

    why: str
    total: Count
    corrections: list[CorrectionObject]
    corrections_left_out: Count


class NewSweepObject(TypedDict, total=False):
    """How to sweep; may be empty."""

    dry_run: Annotated[bool, Meta(description="Only report what would be corrected.")]
