"""The JSON objects about the whole fleet and its outages over time, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from engine.web.openapi.alert_objects import AlertObject
from engine.web.openapi.values import Count, Instant, Seconds

FromInstant = Annotated[Instant, Meta(description="Where the answer begins.")]
Step = Annotated[int, Meta(ge=60, description="Seconds from one item to the next.")]


class CurveItemObject(TypedDict):
    """The fleet in one step."""

    at: Instant
    online: Count
    offline: Count
    unknown: Count
    on_hold: Annotated[int, Meta(ge=0, description="Clients on hold; they are also among the others.")]
    offline_peak: Annotated[int, Meta(ge=0, description="The most that were offline at once.")]
    flaps: Count
    transitions: Count


FleetCurve = TypedDict(
    "FleetCurve",
    {
        "from": FromInstant,
        "to": Instant,
        "step": Step,
        "group": str | None,
        "groups": Annotated[list[str], Meta(description="The largest MQTT groups, which have curves of their own.")],
        "items": list[CurveItemObject],
        "outages": list[AlertObject],
    },
)


class DurationsObject(TypedDict):
    """How many verdicts there were, and how many seconds half of them and 99 % of them took at most."""

    verdicts: Count
    p50: Seconds | None
    p99: Seconds | None


class VerdictItemObject(TypedDict):
    """The verdicts of one step."""

    at: Instant
    offline: DurationsObject
    online: DurationsObject


VerdictLatency = TypedDict(
    "VerdictLatency",
    {
        "from": FromInstant,
        "to": Instant,
        "step": Step,
        "items": list[VerdictItemObject],
        "offline": DurationsObject,
        "online": DurationsObject,
    },
)


class ProgressItemObject(TypedDict):
    """How many clients had ever joined the outage, and how many were back."""

    at: Instant
    total: Count
    back: Count


class OutageProgressObject(TypedDict):
    """How an outage went. `to`: when it was over, or now."""

    alert: AlertObject
    to: Instant
    items: list[ProgressItemObject]
