"""The JSON objects about the service itself, and its errors, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from engine.web.openapi.client_objects import RejectedLineObject, SourceHealthObject
from engine.web.openapi.values import Count, Instant, Seconds


class ProblemObject(TypedDict):
    """An error (RFC 9457)."""

    type: Literal["about:blank"]
    title: Annotated[str, Meta(description="What is wrong, as a sentence for people; it may change.")]
    status: Annotated[int, Meta(ge=400, le=599)]
    code: NotRequired[
        Annotated[str, Meta(description="The kind of error for programs, see `docs/http.md`; it never changes.")]
    ]


class EventsRefusedObject(ProblemObject):
    """Nothing in the body is an event; what was read of it is in the quarantine. Without `accepted`: the request is invalid."""

    accepted: NotRequired[Count]
    rejected: NotRequired[list[RejectedLineObject]]
    rejected_more: NotRequired[Count]


class WaitingObject(TypedDict):
    """The act is written down; the replica that owns the cell carries it out. `answer`: where its answer will be."""

    act: int
    state: Literal["waiting"]
    detail: str
    answer: str


class AliveObject(TypedDict):
    """The process runs. `proof`: the answer to `Rollcall-Challenge`."""

    status: Literal["alive"]
    process: int
    proof: NotRequired[str]


class PartObject(TypedDict):
    """One part of the service."""

    name: str
    working: bool
    reason: str | None
    since: Instant | None
    restarts: Count


class CellObject(TypedDict):
    """A cell of a store that several replicas share, as this replica sees it."""

    cell: str
    standing: Literal["owner", "standby", "behind"]
    owner: str | None
    epoch: Count
    lag: Seconds
    reason: str | None


class ReadinessObject(TypedDict):
    """Is the service ready for events, and what does not work?"""

    ready: bool
    reasons: Annotated[list[str], Meta(description="Why it is not ready.")]
    degraded: Annotated[list[str], Meta(description="What does not work although it is ready.")]
    refused_edits: Annotated[
        list[Literal["configuration", "rules", "inventory"]],
        Meta(description="Edited files that do not load: the service goes on with what it had."),
    ]
    sources: list[SourceHealthObject]
    parts: list[PartObject]
    cells: Annotated[list[CellObject], Meta(description="Empty with SQLite.")]
